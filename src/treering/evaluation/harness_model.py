"""The harness's Hugging Face model, its log probabilities computed by treering."""

import math
import sys
from typing import Any

from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from treering.errors import InputError, NonFiniteError
from treering.evaluation.likelihoods import score_continuations, way_of_reading
from treering.provenance.progress import Task

_HarnessModel: Any = HFLM  # its registering decorator hides its type


class WatchedModel(_HarnessModel):
    """The harness's own Hugging Face model, which says how far it is and counts what it cuts short."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, watched: Task) -> None:
        tokenizer.model_max_length = (
            sys.maxsize
        )  # the harness cuts long texts into windows itself, and needs no warning of them
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
        self._watched, self._pairs = watched, dict[tuple[str, str], Any]()
        self.truncated, self.task, self._done = 0, "", 0
        self._reading = way_of_reading(model)

    def leave(self) -> None:
        """Let go of the model."""
        self._model = None

    def take(self, model: PreTrainedModel) -> None:
        """Put another model of the same shape and tokenizer in this one's place."""
        self._model = model
        self._reading = way_of_reading(model)

    def begin(self, task: str) -> None:
        """Say which task's requests come next."""
        self.truncated, self.task, self._done = 0, task, 0

    def end(self, requests: int) -> None:
        """Say that the task's requests are all done, of which the harness tells of some kinds only at their end."""
        self._watched.advance(requests - self._done)

    def _advance(self, requests: int) -> None:
        self._done += requests
        self._watched.advance(requests)

    def _encode_pair(self, context: str, continuation: str) -> Any:
        if (context, continuation) not in self._pairs:
            self._pairs[context, continuation] = super()._encode_pair(context, continuation)
        return self._pairs[context, continuation]

    def _loglikelihood_tokens(self, requests: Any, *arguments: Any, **options: Any) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) its log probability, and whether every token of it is the likeliest.

        The harness's own method computes logits of every position and a softmax over each, and reads a context again for each
        of its continuations; it is taken for models that cannot be read so.
        """
        self._refuse_odd(requests)
        self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
        if self._reading == "by the harness":
            found = super()._loglikelihood_tokens(requests, *arguments, **options)
        else:
            most, share = self.max_length + 1, self._reading == "contexts shared"
            pairs = [((context + rest)[-most : -len(rest)], rest) for _, context, rest in requests]
            found = score_continuations(self.model, pairs, self.batch_size, self._advance, share=share)
        if odd := [nats for nats, _ in found if not math.isfinite(nats)]:
            raise NonFiniteError(
                "a revision gives an answer no probability that is a number",
                where=f"the task `{self.task}`",
                found=f"{odd[0]} for {len(odd)} of {len(found)}",
            )
        return found

    def _refuse_odd(self, requests: Any) -> None:
        if empty := sum(not rest for _, _, rest in requests):
            raise InputError(
                f"answers of the task `{self.task}` are no token of their own behind what they follow",
                where=f"the task `{self.task}`",
                found=f"{empty} of {len(requests)}",
                advice="let answers begin with white space, or set a target_delimiter",
            )
        if long := [len(rest) for _, _, rest in requests if len(rest) > self.max_length]:
            raise InputError(
                f"answers of the task `{self.task}` are longer than the model can read",
                where=f"the model's {self.max_length} positions",
                expected=f"at most {self.max_length} tokens",
                found=f"{len(long)} of {len(requests)} longer, the longest {max(long)}",
                advice=f"leave `{self.task}` out, since the harness has no score for it; or leave out those items in a file of "
                "your own, whose name stands in the records",
            )
