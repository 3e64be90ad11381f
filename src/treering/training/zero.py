"""DeepSpeed's ZeRO: gradients and moments, and at stage 3 weights, cut up and gathered by DeepSpeed; AdamW is treering's."""

import contextlib
import gc
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from treering.checkpoints.state import TrainingState
from treering.config.schema import DeepSpeedEngine, Recipe
from treering.errors import EnvironmentMismatch
from treering.model.network import GPTNeoX, empty_network
from treering.provenance.digests import digest_value
from treering.training.determinism import tell_deepspeed
from treering.training.engine import LARGEST_SQUARABLE_NORM, Engine, loss_of, on_device
from treering.training.flat_adamw import COUNTED, MOMENTS, FlatAdamW
from treering.training.group import Processes
from treering.training.kernels import with_kernels
from treering.training.layout import ShardLayout
from treering.training.optimizer import clipping_scale
from treering.training.tree import share
from treering.training.watch import Watch

WEIGHTS_CUT_UP = 3
# Numbers reduced, gathered or fetched ahead at once; of DeepSpeed's own half a billion each buffer would be 2 GB.
BUCKET = 50_000_000


class Zero(Processes):
    """Processes that train through DeepSpeed, which is engine and group in one.

    What gradients are summed along depends on how many processes there are, and so do the bits.

    Source:
        Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054), stages 1 to 3, as DeepSpeed has them.
    """

    name = engine_name = "deepspeed"

    def __init__(self, layout: ShardLayout, rank: int, device: torch.device, watch: Watch) -> None:
        """Import DeepSpeed.

        Raises:
            EnvironmentMismatch: When it is not installed.
        """
        super().__init__(layout, rank, device, watch)
        self._deepspeed = _import_deepspeed(device)
        self._whole: TrainingState | None = None
        self._engine: Any = None

    def place(self, state: TrainingState | None, device: torch.device) -> TrainingState:  # noqa: ARG002
        """Return a state that knows its step alone: DeepSpeed keeps the rest, as soon as its engine is there."""
        self.close()
        self._whole = state
        with self._watch.explaining():
            return TrainingState(self._step(state), {}, {}, {})

    def engine(self, state: TrainingState, recipe: Recipe) -> Engine:
        """Start DeepSpeed with what was placed.

        Raises:
            EnvironmentMismatch: When DeepSpeed does not start here, or the attention kernel is missing.
        """
        self._state, self._training, self._settings = state, recipe.training, zero_settings(recipe)
        offloaded = ", offloaded" if self._settings.offload_optimizer else ""
        kind = f"deepspeed {self._deepspeed.__version__}, stage {self._settings.stage}{offloaded}"
        self.name = f"{kind}, {self.world_size} process{'es' if self.world_size > 1 else ''}"
        self.agree("DeepSpeed", digest_value(self.name))
        self._network = empty_network(recipe.model).to_empty(device="cpu")
        weights = None if self._whole is None else self._whole.weights
        for name, parameter in self._network.named_parameters():
            parameter.data.copy_(self._from_rank_0(name, weights))
        self._optimizer = FlatAdamW(dict(self._network.named_parameters()), recipe.training.optimizer)
        with_loss = _Loss(with_kernels(self._network, recipe, self._device), recipe.training.precision)
        configuration = _configuration(recipe, self.world_size)
        with _starting(), self._watch.explaining(computes=True):
            self._engine, *_ = self._deepspeed.initialize(
                model=with_loss, optimizer=self._optimizer, config=configuration, dist_init_required=False
            )
        self._place_moments()
        self._whole = None
        return self

    def close(self) -> None:
        """Let go of DeepSpeed's engine, which would otherwise hold on to the group of processes until the program ends."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            del self._network, self._optimizer
            gc.collect()

    def differentiate(self, rows: Tensor) -> list[float]:
        """Compute an update's gradient, and return the loss in nats of each micro-batch."""
        leaves, losses = self._training.micro_batches, {}
        micro_batches = on_device(rows, self._device).split(self._training.micro_batch_size)
        own = share(leaves, self.world_size, self.rank)
        with self._watch.explaining(computes=True):
            for leaf in own:
                loss = self._engine(micro_batches[leaf])
                self._engine.backward(loss)
                losses[leaf] = loss.detach()
                if leaf != own[-1]:  # the last one's is `apply`
                    self._engine.step()
        found = {leaf: float(loss) for leaf, loss in losses.items()}
        _, joined = self._join(torch.zeros(0, dtype=torch.float64, device=self._device), found, leaves)
        return joined

    def apply(self, learning_rate: float) -> tuple[float, float]:
        """Apply the update, and return the norms of its gradient before clipping, as DeepSpeed has it, and of the change."""
        self._optimizer.begin(self._state.step, learning_rate)
        with self._watch.explaining(computes=True):
            self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        scale = clipping_scale(norm, self._training.optimizer.gradient_clip)
        if not self._engine.was_step_applied() or not norm * scale < LARGEST_SQUARABLE_NORM:
            return math.inf, 0.0
        change = torch.tensor([self._optimizer.change], dtype=torch.float64, device=self._device)
        with self._watch.explaining():
            dist.all_reduce(change)
        return norm, math.sqrt(float(change))

    def odd(self) -> list[str]:
        """Return nothing: DeepSpeed keeps no gradient after its check, and weights only in parts."""
        return []

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others."""
        if self._engine is None:
            return self._whole
        with self._watch.explaining():
            groups = [self._collect_group(key) for key in (None, *MOMENTS)]
        return TrainingState(state.step, *groups) if self.rank == 0 else None

    def _collect_group(self, key: str | None) -> dict[str, Tensor]:
        whole = {}
        for name, parameter in self._network.named_parameters():
            tensor = self._gathered(parameter, key)
            if self.rank == 0:
                whole[name] = tensor.detach().to("cpu", copy=True).view(self._shapes[name])
        return whole

    def _gathered(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        utils = self._deepspeed.utils
        if key is not None:
            return utils.safe_get_full_optimizer_state(parameter, key)
        return utils.safe_get_full_fp32_param(parameter) if self._settings.stage == WEIGHTS_CUT_UP else parameter

    def _from_rank_0(self, name: str, group: Mapping[str, Tensor] | None) -> Tensor:
        """Return a tensor of rank 0's on every rank's device."""
        shape = self._shapes[name]
        tensor = torch.empty(shape, device=self._device) if group is None else group[name].to(self._device, copy=True)
        with self._watch.explaining():
            dist.broadcast(tensor, 0)
        return tensor

    def _place_moments(self) -> None:
        """Have DeepSpeed know rank 0's moments; of itself it makes and finds them in its first update."""
        zero = self._engine.optimizer
        if self._settings.stage == WEIGHTS_CUT_UP:
            self._optimizer.make_moments(zero.fp32_partitioned_groups_flat, COUNTED)
        else:
            self._optimizer.make_moments(zero.single_partition_of_fp32_groups)
            zero._lazy_init_hp_params_optimizer_state()
        groups = (None, None) if self._whole is None else (self._whole.first_moments, self._whole.second_moments)
        for name, parameter in self._network.named_parameters():
            for key, group in zip(MOMENTS, groups, strict=True):
                self._set_moment(parameter, key, self._from_rank_0(name, group))
            if self._settings.stage == WEIGHTS_CUT_UP:
                self._set_moment(parameter, COUNTED, torch.ones(self._shapes[name], device=self._device))
        self._optimizer.find_padding()

    def _set_moment(self, parameter: Any, key: str, value: Tensor) -> None:
        utils = self._deepspeed.utils
        if self._settings.stage != WEIGHTS_CUT_UP:
            utils.safe_set_full_optimizer_state(parameter, value, key)
            return
        part = parameter.ds_tensor.numel()  # the last rank's is filled up
        padded = torch.zeros(part * self.world_size, device=self._device)
        padded[: value.numel()] = value.flatten()
        utils.safe_set_local_optimizer_state(parameter, padded[part * self.rank : part * (self.rank + 1)], key)


class _Loss(nn.Module):
    """The network with its loss, in the recipe's precision: what DeepSpeed is to call."""

    def __init__(self, network: GPTNeoX, precision: str) -> None:
        super().__init__()
        self.network, self._precision = network, precision

    def forward(self, rows: Tensor) -> Tensor:
        return loss_of(self.network, rows, self._precision)


def zero_settings(recipe: Recipe) -> DeepSpeedEngine:
    """Return the recipe's settings for DeepSpeed.

    Raises:
        ValueError: When the recipe names another engine.
    """
    if not isinstance(recipe.training.engine, DeepSpeedEngine):
        raise ValueError("the recipe names another engine")  # noqa: TRY004
    return recipe.training.engine


def _configuration(recipe: Recipe, world_size: int) -> dict[str, Any]:
    """Return what DeepSpeed is to know; weights stay in fp32, and mixed precision is autocast, as in treering's own engine."""
    training, settings = recipe.training, zero_settings(recipe)
    sizes = dict.fromkeys(("reduce_bucket_size", "allgather_bucket_size", "stage3_prefetch_bucket_size"), BUCKET)
    offload = {"offload_optimizer": {"device": "cpu"}} if settings.offload_optimizer else {}
    return {
        "train_batch_size": training.global_batch_size,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": training.micro_batches // world_size,
        "gradient_clipping": training.optimizer.gradient_clip or 0.0,
        "steps_per_print": None,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": settings.stage, **sizes, **offload},
    }


def _import_deepspeed(device: torch.device) -> Any:
    tell_deepspeed(device)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import deepspeed  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise EnvironmentMismatch(
            "DeepSpeed is not installed here",
            expected="training.engine: deepspeed, as in the recipe",
            found=error,
            advice="pip install 'treering[deepspeed]'",
        ) from error
    deepspeed.utils.logger.setLevel("ERROR")
    # Of torch, about calls that are DeepSpeed's.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    return deepspeed


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Turn what DeepSpeed says when it cannot compile into an error that says what to do."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (RuntimeError, OSError) as error:
        if not any(word in str(error).lower() for word in ("ninja", "compil", "building extension", "c++", "g++")):
            raise
        raise EnvironmentMismatch(
            "DeepSpeed does not start here",
            expected="a C++ compiler and ninja on PATH: it compiles a part of its own at its first start",
            found=" ".join(str(error).splitlines()[:2]),
            advice="install them (Debian: g++, ninja-build), or train with `engine: {name: treering}`",
        ) from error
