"""Auditing a large release: `python benchmarks/audit.py --latency 0.1`, minutes, bytes and requests for 154 branches of 12B.

A Hub on this machine, in a process of its own, serves a simulated release of Pythia-12B's shape (154 branches and `main`, each
of three shards in fp16, 11.8B parameters): files are made where they are read, and answers wait for so many seconds, as they
do on a network. It is audited as `treering audit` does. There is no peer: no other tool looks for what is wrong with a release
without downloading it. Results are printed, for docs/log.md and docs/audit.md.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from results import made_on

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hub_audit_making import NAME, PYTHIA_STEPS, Training, release, serving

from treering.hub.audit.release import Wanted, audit

SHAPE = Training(PYTHIA_STEPS, hidden=5120, layers=36, vocabulary=50_688, dtype="F16", shards=3)


def serve(training: Training, latency: float, told: Connection) -> None:
    """Serve a release until told to stop; tell where, and what its files are together."""
    branches = release(training)
    size = sum(content.size for files in branches.values() for content in files.values())
    with serving() as hub:
        hub.latency_seconds = latency
        hub.add(branches)
        told.send((hub.endpoint, size))
        told.recv()
        told.send((len(hub.requests), hub.bytes_sent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer waits")
    parser.add_argument("--times", type=int, default=2, help="audits; the first makes the numbers, the others find them made")
    given = parser.parse_args()
    print(made_on(["huggingface_hub", "numpy"]))
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(SHAPE, given.latency, there), daemon=True)
    server.start()
    endpoint, size = here.recv()
    print(
        f"{SHAPE.parameters:,} parameters, {len(SHAPE.steps) + 1} branches, {size / 1e12:.2f} TB; "
        f"answers wait {given.latency} s"
    )
    for _ in range(given.times):
        start = time.perf_counter()
        record = audit(NAME, Wanted(endpoint)).record()
        seconds, asked = time.perf_counter() - start, record["asked"]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{seconds:.0f} s, {asked['requests']:,} requests, {asked['bytes_read'] / 1e6:.0f} MB "
            f"(1/{size / asked['bytes_read']:,.0f} of the release), at most {memory:,.0f} MiB; "
            f"{len(record['findings'])} findings",
            flush=True,
        )
    here.send("stop")
    requests, sent = here.recv()
    print(f"the server counted {requests:,} requests, {sent / 1e6:.0f} MB")
    server.join()


if __name__ == "__main__":
    main()
