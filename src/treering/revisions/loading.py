"""Loading a revision with `transformers`, from local files only and without chatter: the one seam of that library."""

import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return a revision's model in evaluation mode, on the CPU, in a number type."""
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model.eval()


def parameters_of(folder: Path) -> int:
    """Return how many parameters a revision's model has, tied ones once, going by its configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )
    return model.num_parameters()


def longest_input(folder: Path) -> int:
    """Return how many tokens a revision's model can read at once, by its configuration; any number where it says none."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return int(getattr(config, "max_position_embeddings", None) or sys.maxsize)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a revision's tokenizer as a user of the release gets it."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
