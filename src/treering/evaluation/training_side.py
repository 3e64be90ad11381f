"""What the evaluation looks up of a run's training: its text with its order, and the loss of each update."""

import numpy as np
from numpy.typing import NDArray

from treering.config.run_directory import RunDirectory
from treering.evaluation.contamination import TrainingText
from treering.order.stage import open_batches
from treering.tokens.store import TokenStore, open_tokenizer
from treering.training.ledger import read_ledger, read_opening


def open_training_text(run: RunDirectory) -> TrainingText:
    """Return a run's training text, its tokens memory-mapped.

    Raises:
        InputError: When an index map is missing.
        FormatError: When a file cannot be read.
    """
    tokens = TokenStore(run.stage("tokens"), "train").tokens
    return TrainingText(tokens, open_tokenizer(run.stage("tokens")), open_batches(run), run.recipe.training.steps)


def training_losses(run: RunDirectory) -> NDArray[np.float64]:
    """Return the training loss of each update, nats per token, float64 [updates]; none of a run that GPT-NeoX trained.

    Raises:
        IntegrityError: When the ledger is not whole.
        FormatError: When there is none.
    """
    if run.recipe.training.imported:
        return np.zeros(0)
    ledger = run.stage("training") / "ledger.jsonl"
    reports = (line.report for line in read_ledger(ledger, read_opening(ledger)))
    return np.array([report.loss_nats for report in reports if report is not None])
