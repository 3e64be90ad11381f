"""Noticing that another rank has died or hangs, and saying which."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from treering.errors import RankError, TreeringError, is_lack_of_memory

_BEAT_SECONDS = 1.0
_SILENT_SECONDS = 30.0  # after which a rank counts as dead, though nothing has failed yet
_SETTLING_SECONDS = 5.0  # in which a rank that lives beats at least once, however busy the machine
_LEAVING_SECONDS = 10.0  # which the main thread has to end by itself
_ENDED = "treering/ended"


class Watch:
    """A thread that beats in the store all ranks meet at, and listens to the others.

    Rank 0 listens to all, all listen to rank 0, so that the store is asked a few times a second and rank. Who is silent for
    too long is named in the store, and every rank ends with that name: a rank that waits inside a collective cannot be
    interrupted, so its process is.
    """

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._over, self._own_error = threading.Event(), None
        self._thread = threading.Thread(target=self._listen, name="treering watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, error: TreeringError) -> None:
        """Have every other rank end because this one does; with this error, should it wait for them on its way out."""
        self._own_error = error
        try:
            self._store.set(_ENDED, f"rank {self._rank} stopped: {error.problem}")
        except RuntimeError:
            return  # the store has gone: the others notice that themselves

    @contextmanager
    def explaining(self, *, computes: bool = False) -> Iterator[None]:
        """Turn the failure of a collective into an error that names the rank that has ended.

        Args:
            computes: The block does more than collectives: what fails while all ranks live is left as it is.

        Raises:
            RankError: When the block's collective fails.
        """
        try:
            yield
        except RuntimeError as error:
            if is_lack_of_memory(error):
                raise
            reason = self._reason()
            if reason is None and computes:
                raise
            raise rank_error(reason or f"a rank that cannot be named ({error})") from error

    def _reason(self) -> str | None:
        """Return why the run ends: what was told, or who does not beat while this rank waits."""
        try:
            before = self._beats()
            until = time.monotonic() + _SETTLING_SECONDS
            while time.monotonic() < until:
                if (told := self._told()) is not None:
                    return told
                time.sleep(_BEAT_SECONDS / 4)
            silent = [str(rank) for rank, beat in self._beats().items() if beat == before[rank] and rank != self._rank]
        except RuntimeError:
            return "rank 0, or the launcher, where all ranks meet, has ended"
        return f"rank {' and rank '.join(silent)} has ended" if silent else None

    def _beats(self) -> dict[int, int]:
        return {rank: self._store.add(_beat(rank), 0) for rank in range(self._world_size)}

    def _told(self) -> str | None:
        return self._store.get(_ENDED).decode() if self._store.check([_ENDED]) else None

    def _listen(self) -> None:
        others = [rank for rank in (range(self._world_size) if self._rank == 0 else (0,)) if rank != self._rank]
        heard = {rank: (-1, time.monotonic()) for rank in others}
        while not self._over.wait(_BEAT_SECONDS):
            try:
                self._store.add(_beat(self._rank), 1)
                reason = self._told() or self._silence(heard)
            except RuntimeError:
                reason = "rank 0, or the launcher, where all ranks meet, has ended"
            if reason is not None:
                self._end(reason)
                return

    def _silence(self, heard: dict[int, tuple[int, float]]) -> str | None:
        now = time.monotonic()
        for rank, (beat, since) in heard.items():
            if (latest := self._store.add(_beat(rank), 0)) != beat:
                heard[rank] = (latest, now)
            elif now - since > _SILENT_SECONDS:
                reason = f"rank {rank} has not been heard from for {_SILENT_SECONDS:.0f} seconds"
                self._store.set(_ENDED, reason)
                return reason
        return None

    def _end(self, reason: str) -> None:
        """End this process, unless its main thread does so first."""
        if self._over.wait(_LEAVING_SECONDS):
            return
        error = self._own_error or rank_error(reason)
        sys.stderr.write(f"treering: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)


def rank_error(reason: str) -> RankError:
    """Return the error with which a rank ends because another has."""
    return RankError(
        "another process of this run has ended",
        found=reason,
        advice="look at that rank's own message, then start the same command again: it goes on from the last checkpoint",
    )


def _beat(rank: int) -> str:
    return f"treering/beat/{rank}"
