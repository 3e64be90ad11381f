"""Loading a revision with `transformers`, from local files only and without chatter: the one seam of that library."""

from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return a revision's model in evaluation mode, on the CPU, in a number type."""
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    return model.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a revision's tokenizer as a user of the release gets it."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
