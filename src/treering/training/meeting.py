"""How a run's processes meet: gloo on processors, NCCL on GPUs, started by torchrun or anything that sets its variables."""

import datetime
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed import HashStore, Store  # pyright: ignore[reportPrivateImportUsage]

from treering.config.schema import DeepSpeedEngine, Recipe
from treering.errors import EnvironmentMismatch, InputError, RankError, TreeringError
from treering.model.shapes import parameter_shapes
from treering.provenance.environment import Launched, launched_as
from treering.training.determinism import open_device
from treering.training.group import Group
from treering.training.layout import Layout
from treering.training.ranks import ALONE, Ranks
from treering.training.sharded import Sharded, ShardLayout
from treering.training.watch import Watch
from treering.training.zero import Zero

Shard = Literal["moments", "weights"]
# Whether a rank lives is the watch's business; a collective may wait for as long as a slow disk takes.
_TIMEOUT = datetime.timedelta(days=1)


@contextmanager
def open_ranks(recipe: Recipe, shard: Shard = "moments") -> Iterator[Ranks]:
    """Join the other processes of a run for as long as the block lasts; a process started on its own is alone.

    Args:
        shard: What is spread over the ranks; `weights` spreads the moments too. It changes no bit.

    Raises:
        InputError: When the recipe's engine is DeepSpeed, which knows no `shard`.
        EnvironmentMismatch: When this machine lacks the device or the engine, or the others cannot be reached.
        RankError: When another rank ends before the block does.
    """
    through_deepspeed = isinstance(recipe.training.engine, DeepSpeedEngine)
    if through_deepspeed and shard == "weights":
        raise InputError(
            "what DeepSpeed's processes share out is said by the recipe",
            expected="training.engine.stage: 3 for weights",
            found="--shard weights",
            advice="leave --shard out: it is for treering's own engine",
        )
    launched = launched_as()
    if not through_deepspeed and (launched is None or launched.world_size == 1):
        yield ALONE
        return
    device = open_device(recipe.training)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    try:
        store, rank, world_size = _at_one_place(launched)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=world_size, timeout=_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise EnvironmentMismatch(
            "the processes of this run cannot reach each other",
            expected=f"{launched.world_size if launched else 1} processes, as the launcher says",
            found=error,
            advice="start all of them with torchrun, on hosts that reach MASTER_ADDR and MASTER_PORT",
        ) from error
    # A connection of its own: a collective at work must not keep the watch from asking.
    with Watch(store.clone(), rank, world_size) as watch:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            shapes = parameter_shapes(recipe.model)
            if through_deepspeed:
                with closing(Zero(ShardLayout(shapes, world_size), rank, device, watch)) as ranks:
                    yield ranks
            elif shard == "weights":
                yield Sharded(ShardLayout(shapes, world_size), rank, device, watch)
            else:
                yield Group(Layout(shapes, world_size), rank, device, watch)
        except RankError:
            raise
        except TreeringError as error:
            watch.tell(error)
            raise
        except (MemoryError, RuntimeError) as error:
            watch.tell(EnvironmentMismatch(f"{type(error).__name__}: {error}"))
            raise
        finally:
            dist.destroy_process_group()


def _at_one_place(launched: Launched | None) -> tuple[Store, int, int]:
    """Return where all ranks meet, this process's rank, and how many there are."""
    if launched is None:
        return HashStore(), 0, 1
    return next(dist.rendezvous("env://"))  # pyright: ignore[reportPrivateImportUsage]
