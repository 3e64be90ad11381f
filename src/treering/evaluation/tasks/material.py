"""What tasks are built from: held-out documents, and how many tokens a text is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treering.corpus.documents import Document
from treering.errors import CorpusError

Item = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """Held-out documents, how many tokens each of some texts is, and how many the model can read at once."""

    documents: Iterable[Document]
    token_counts: Callable[[Sequence[str]], np.ndarray]
    most_tokens: int

    def fits(self, texts: Sequence[str]) -> bool:
        """Say whether each text, after EOD, is short enough for the model."""
        return int(self.token_counts(texts).max()) < self.most_tokens


def refuse_too_few(task: str, items: Sequence[Item], fewest: int) -> None:
    """Refuse a task with so few items that its score would say nothing.

    Raises:
        CorpusError: When there are too few.
    """
    if len(items) < fewest:
        raise CorpusError(
            f"the held-out text is too little for the task `{task}`",
            where="evaluation.tasks",
            expected=f"at least {fewest} items that the model can read at once",
            found=f"{len(items)}",
            advice="raise corpus.validation_fraction, add documents, raise model.max_position_embeddings, "
            f"or remove `{task}` from evaluation.tasks",
        )
