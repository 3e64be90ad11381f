"""The items of `heldout_perplexity`: passages of held-out documents."""

from functools import partial

from treering.evaluation.tasks.material import Item, Material, refuse_too_few
from treering.evaluation.tasks.passages import choose_passages, cut_passages

_PASSAGES = 100
_PASSAGE_CHARACTERS = 1000


def build_items(material: Material) -> list[Item]:
    """Return passages chosen by digest; the harness reads those longer than the model can in several windows.

    Raises:
        CorpusError: When there is no held-out text.
    """
    cut = partial(cut_passages, size=_PASSAGE_CHARACTERS)
    passages = choose_passages(material.documents, cut, "evaluation/heldout_perplexity", _PASSAGES)
    items = [{"document": passage.document, "start": passage.start, "text": passage.text} for passage in passages]
    refuse_too_few("heldout_perplexity", items, fewest=1)
    return items
