"""The pictures of the evaluation, each with what is on it in words."""

from collections.abc import Sequence

from treering.card.claims import Claims
from treering.card.markdown import link
from treering.card.numbers import listing
from treering.card.records import COMPARISON, EVALUATION, UNIGRAM
from treering.evaluation.figure_data import FIGURES, LOSS, OVERVIEW, figure_name


def pictures(claims: Claims, tasks: Sequence[str]) -> list[str]:
    """Return the lines with the pictures of all scores and of the loss, and links to each task's; none where none were drawn.

    Args:
        tasks: The addresses of the scores that are shown.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    blocks = []
    if _is_there(claims, OVERVIEW):
        blocks.append(_picture(OVERVIEW, _overview(claims, tasks)))
    if _is_there(claims, LOSS):
        blocks.append(_picture(LOSS, _loss(claims)))
    if links := [_link(claims, task) for task in tasks if _is_there(claims, figure_name(claims.value(f"{task}/task")))]:
        blocks.append(f"Each task has a picture of its own: {listing(links, len(links))}.")
    return [line for block in blocks for line in ("", block)]


def _is_there(claims: Claims, name: str) -> bool:
    return claims.records.holds(f"evaluation/{FIGURES}/{name}")


def _picture(name: str, words: str) -> str:
    return f"!{link(words, f'{FIGURES}/{name}')}"


def _overview(claims: Claims, tasks: Sequence[str]) -> str:
    names = [f"{claims.cite('code', f'{task}/task')} {claims.cite('code', f'{task}/metrics/0/metric')}" for task in tasks]
    beside = ""
    if claims.records.holds(COMPARISON) and claims.value(f"{COMPARISON}#/curves"):
        beside = f", in grey those of {claims.cite('code', f'{COMPARISON}#/curves/0/model')}"
    scores = "Scores with their intervals against tokens seen, dashed what guessing scores"
    return f"{scores}{beside}: {listing(names, len(names))}"


def _loss(claims: Claims) -> str:
    revisions = f"{EVALUATION}#/revisions"
    places = sorted({0, len(claims.value(revisions)) - 1})
    losses = [
        f"{claims.cite('loss', f'{revisions}/{place}/loss_nats')} at {claims.cite('code', f'{revisions}/{place}/name')}"
        for place in places
    ]
    unigram = claims.cite("loss", f"{UNIGRAM}#/loss_nats")
    heldout = f"Loss on held-out text against tokens seen, in nats per token: {listing(losses)}"
    return f"{heldout}; dashed, {unigram} of a unigram model; thin and grey, the loss in training where it is known"


def _link(claims: Claims, task: str) -> str:
    """Return a link to a task's picture; the name stands in the address as it is, and is cited there too."""
    name = claims.value(f"{task}/task")
    file = figure_name(name).replace(name, claims.cite("as it is", f"{task}/task"), 1)
    return link(claims.cite("code", f"{task}/task"), f"{FIGURES}/{file}")
