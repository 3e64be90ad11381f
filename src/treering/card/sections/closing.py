"""What the model is not for, how to make it again, how to cite it, and who made it."""

from collections.abc import Iterator

from treering.card.claims import Claims
from treering.card.forms import PINNED
from treering.card.markdown import bullets, fenced, link
from treering.card.records import CORPUS, ENVIRONMENT, TOKENS
from treering.card.release import STAGES_BELOW
from treering.card.required import NO_PAPER, repository
from treering.card.sections.introduction import title
from treering.card.sections.procedure import engines, imported
from treering.config.schema import TREERING, BuiltinSource, DatasetSource, FileSource, IndexedSource, LoadedTokenizer

_PROMISES = (
    "With the software, the kind of processor and the number of threads named above, the recipe gives the same bytes:",
    "corpus, tokens, data order, every checkpoint, every revision and every record, however often the run is interrupted.",
    "On another kind of machine, corpus, tokens and data order are the same bytes still;",
    "weights and scores then differ by floating-point rounding and by what grows out of it.",
)
_PROMISES_OF_DEEPSPEED = (
    "With the software named above, the recipe gives the same bytes of corpus, tokens and data order;",
    "of the weights too as far as treering's own engine computed the updates, with the kind of processor and the number",
    "of threads named above. What DeepSpeed computed depends on the number of processes as well: made again elsewhere or on",
    "others, weights and scores differ by floating-point rounding and by what grows out of it.",
)


_PROMISES_OF_AN_IMPORT = (
    "With the software named above and GPT-NeoX's checkpoints, the recipe gives the same bytes of corpus, tokens, data order,",
    "checkpoints and revisions. The training itself was GPT-NeoX's: no update of it is computed again.",
)


def limitations(claims: Claims) -> str:
    """Return what the model is not, and what research it is for.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    uses = claims.records.recipe.card.research_uses or ()
    return "\n".join(
        [
            "## Limitations and Intended Use",
            "",
            f"{title(claims)} is a raw language model released for research purposes.",
            "It has not been fine-tuned for instruction following, safety, or any particular downstream task.",
            "",
            "This model will produce biased, offensive, and factually incorrect text.",
            "It reflects the biases present in its training data.",
            "Do not rely on it for factual accuracy or use it in any setting where its outputs could cause harm.",
            "",
            "Intended research applications include:",
            "",
            bullets([claims.quote(f"research_uses/{index}") for index in range(len(uses))]),
        ]
    )


def reproducing(claims: Claims) -> str:
    """Return what reproducible means here, and the commands that do it.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    digest = claims.cite("digest of stages", *(f"{stage}/manifest.json#/files" for stage in STAGES_BELOW))
    evidence = link("`claims.json`", "claims.json")
    notes = ["", claims.quote("reproduction_notes")] if claims.records.recipe.card.reproduction_notes else []
    alone = engines(claims) == [TREERING]
    again = "; the card of a run made again shows the same one" if alone else ""
    promises = _PROMISES if alone else _PROMISES_OF_AN_IMPORT if imported(claims) else _PROMISES_OF_DEEPSPEED
    whole = "is fully reproducible" if alone else "can be made again, and every step of it checked"
    return "\n".join(
        [
            "## Reproducing This Model",
            "",
            f"{title(claims)} {'can be released again from its checkpoints' if imported(claims) else whole}.",
            *promises,
            "",
            bullets(list(_preparations(claims))),
            "",
            _commands(claims),
            "",
            f"The digest of everything below this card is {digest}{again}.",
            f"Each number on this card is listed in {evidence} with the record that it follows from.",
            *notes,
        ]
    )


def _preparations(claims: Claims) -> Iterator[str]:
    version = claims.cite("text", f"{ENVIRONMENT}#/software/treering")
    yield f"Software: treering {version}, as a package or from a clone of its repository at the tag v{version}"
    for index in range(len(claims.records.recipe.corpus.sources)):
        yield f"Data: {_source(claims, index)}"
    if isinstance(claims.records.recipe.tokens.tokenizer, LoadedTokenizer):
        path = claims.cite("code", "recipe.yaml#/tokens/tokenizer/path")
        digest = claims.cite("code", f"{TOKENS}#/tokenizer/digest")
        here = link("`tokenizer.json`", "tokenizer.json")
        yield f"Tokenizer: put {here} of this repository at {path}; its digest is {digest}"
    if imported(claims):
        path = claims.cite("code", "recipe.yaml#/training/engine/checkpoints")
        yield f"Checkpoints: put GPT-NeoX's, `global_stepN`, in {path}; the digests of their files are in `training/imported/`"
    for index, task in enumerate(claims.records.recipe.evaluation.tasks):
        if task.endswith((".yaml", ".yml")):
            yield f"Task: put the task file and its items at {claims.cite('code', f'recipe.yaml#/evaluation/tasks/{index}')}"
    yield "Configuration: the recipe in this repository, which is the resolved recipe of the run"


def _source(claims: Claims, index: int) -> str:
    source, address = claims.records.recipe.corpus.sources[index], f"recipe.yaml#/corpus/sources/{index}"
    if isinstance(source, BuiltinSource):
        name, version = claims.cite("code", f"{address}/builtin"), claims.cite("text", f"{address}/version")
        return f"nothing to do; the texts come with the package {name} {version}, and are checked by digest"
    if isinstance(source, DatasetSource) and source.revision:
        name, revision = claims.cite("code", f"{address}/dataset"), claims.cite("code", f"{address}/revision")
        return f"nothing to do; {name} at {revision} is loaded from the Hugging Face Hub"
    if isinstance(source, IndexedSource):
        return _data_sets(claims, index)
    field = "path" if isinstance(source, FileSource) else "dataset"
    digest = claims.cite("code", f"{CORPUS}#/sources/{index}/digest")
    return f"put {claims.cite('code', f'{address}/{field}')} where the recipe names it; its digest is {digest}"


def _data_sets(claims: Claims, index: int) -> str:
    """Say where an indexed data set is to be put, and the one that is held out for it."""
    address, before = f"recipe.yaml#/corpus/sources/{index}", claims.records.recipe.corpus.indexed[:index]
    first = sum(1 if source.validation is None else 2 for source in before)
    fields = ["neox", *(["validation"] if claims.records.recipe.corpus.indexed[index].validation is not None else [])]
    puts = [
        f"put the data set {claims.cite('code', f'{address}/{field}')} (`.bin` and `.idx`) where the recipe names it; its "
        f"digest is {claims.cite('code', f'{CORPUS}#/sources/{first + number}/digest')}"
        for number, field in enumerate(fields)
    ]
    return "; ".join(puts)


def _commands(claims: Claims) -> str:
    software = claims.value(f"{ENVIRONMENT}#/software")
    pins = [
        claims.cite(f"requirement {package}", f"{ENVIRONMENT}#/software/{package}")
        for package in PINNED
        if software.get(package, "absent") != "absent"
    ]
    return "\n".join(
        [
            "```bash",
            f"pip install {' '.join(pins)}",
            f"hf download {repository(claims.records.recipe)} recipe.yaml --local-dir .",
            "treering run recipe.yaml",
            "```",
        ]
    )


def citation(claims: Claims) -> str:
    """Return the BibTeX entry to cite."""
    entry = fenced("bibtex", str(claims.records.recipe.card.citation))
    return "\n".join(["## Citation", "", "If you use this model in your research, please cite:", "", entry])


def about(claims: Claims) -> str:
    """Return who made the model, and related resources.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    card = claims.records.recipe.card
    organisation = claims.cite("text", "recipe.yaml#/card/organisation")
    resources = [
        f"The resolved recipe of this run: {link('`recipe.yaml`', 'recipe.yaml')}",
        f"The evidence of every number: {link('`claims.json`', 'claims.json')}",
    ]
    if card.paper != NO_PAPER:
        resources.append(link("The paper", claims.cite("as it is", "recipe.yaml#/card/paper")))
    if card.suite_url:
        resources.append(
            link(claims.cite("text", "recipe.yaml#/card/suite"), claims.cite("as it is", "recipe.yaml#/card/suite_url"))
        )
    resources += [claims.quote(f"related_resources/{index}") for index in range(len(card.related_resources))]
    return "\n".join([f"## About {organisation}", "", claims.quote("about"), "", "Related resources:", "", bullets(resources)])
