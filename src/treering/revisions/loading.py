"""Loading a revision with `transformers`, from local files only and without chatter: the one seam of that library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from treering.errors import InputError, IntegrityError

_SHOWN_CHARACTERS = 300


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return a revision's model in evaluation mode, on the CPU, in a number type.

    Raises:
        IntegrityError: When weights are missing, damaged or of another shape than its configuration says: they would be drawn
            at random.
        InputError: When `transformers` has no such model.
    """
    transformers.utils.logging.disable_progress_bar()
    with _explained(folder):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, about = loaded
    odd = [f"{name} is missing" for name in sorted(about["missing_keys"])]
    odd += [f"{entry[0]} has the shape {tuple(entry[1])}, not {tuple(entry[2])}" for entry in sorted(about["mismatched_keys"])]
    if odd:
        raise IntegrityError(
            "these are not all weights of the model that the configuration names",
            where=folder,
            found="; ".join(odd)[:_SHOWN_CHARACTERS],
        )
    return model.eval()


def parameters_of(folder: Path) -> int:
    """Return how many parameters a revision's model has, tied ones once, going by its configuration.

    Raises:
        InputError: When `transformers` has no such model.
    """
    with _explained(folder), torch.device("meta"):
        return AutoModelForCausalLM.from_config(_config(folder), trust_remote_code=False).num_parameters()


def longest_input(folder: Path) -> int:
    """Return how many tokens a revision's model can read at once, by its configuration; any number where it says none.

    Raises:
        InputError: When `transformers` has no such model.
    """
    with _explained(folder):
        return int(getattr(_config(folder), "max_position_embeddings", None) or sys.maxsize)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a revision's tokenizer as a user of the release gets it.

    Raises:
        InputError: When `transformers` has no such tokenizer.
    """
    with _explained(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _config(folder: Path) -> transformers.PretrainedConfig:
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what a failure of `transformers` means to a user."""
    try:
        yield
    except SafetensorError as error:
        raise IntegrityError("a file of weights is damaged", where=folder, found=str(error)[:_SHOWN_CHARACTERS]) from error
    except (ImportError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "transformers cannot load this revision",
            where=folder,
            expected=f"a causal language model that transformers {transformers.__version__} has itself",
            found=f"{type(error).__name__}: {str(error)[:_SHOWN_CHARACTERS]}",
        ) from error
