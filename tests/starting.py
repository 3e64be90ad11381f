"""Programs for tests, each in a process of its own that starts in a moment.

What most of them import takes longer than what they do. So one process imports it, and forks into each of them. Started as
`starting.py [MODULE ...]`, this file is that process: it reads line by line what to become, and answers with an exit code.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

TESTS = Path(__file__).resolve().parent
IMPORTED = (
    "torch._dynamo",
    "torch._inductor.config",
    "torch.distributed.launcher.api",
    "training_making",
    "treering.cli.main",
    "treering.cli.way",
    "treering.verification.release",
)


def start(*arguments: object, cwd: Path = TESTS, timeout: float = 500, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` (`-c CODE ...` or `-m MODULE ...`) in a folder and wait for it.

    Not for a program that is to be seen importing, or whose libraries are to read another environment when they are imported.
    """
    return _become_one(_process(), arguments, cwd, timeout, {**os.environ, **environment})


def start_ranks(
    world_size: int, *arguments: object, also: tuple[str, ...] = (), timeout: float = 400, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in so many processes, each told its place among them as torchrun tells it.

    Args:
        also: Modules that are imported before they part.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    return _become_one(_process(*also), arguments, TESTS, timeout, {**os.environ, **environment, **places})


def _become_one(
    process: Any, arguments: tuple[object, ...], cwd: Path, timeout: float, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("out", "err")]
        wanted = {
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd),
            "environment": environment,
            "printed": [*map(str, printed)],
        }
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], timeout)[0]:
            _end(process)
            _process.cache_clear()
            raise subprocess.TimeoutExpired(wanted["arguments"], timeout)
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(wanted["arguments"], code, *(path.read_text("utf-8") for path in printed))


@functools.cache
def _process(*also: str) -> Any:
    command, pipe = [sys.executable, __file__, *IMPORTED, *also], subprocess.PIPE
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}  # DeepSpeed looks when it is imported
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=TESTS, start_new_session=True, env=environment)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it has become."""
    with process:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def serve(*modules: str) -> None:
    """Become what each line says, as often as the place among ranks that it names says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what modules print when they are imported is no answer
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin.buffer:
        children = list(_fork(json.loads(line)))
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(next(filter(None, codes), 0), file=answers, flush=True)


def _fork(wanted: dict[str, Any]) -> Iterator[int]:
    world_size = wanted["environment"].get("WORLD_SIZE")
    for rank in range(int(world_size or 1)):
        place = {} if world_size is None else {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        if (child := os.fork()) == 0:
            _become(**{**wanted, "environment": {**wanted["environment"], **place}})
        yield child


def _become(arguments: list[str], cwd: str, environment: Mapping[str, str], printed: list[str]) -> NoReturn:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, *printed)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
    code = _run(*arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # a Python that has imported torch takes a second to end by itself


def _run(kind: str, program: str, *arguments: str) -> int:
    """Run a program as Python does, and return its exit code."""
    sys.argv = [kind, *arguments]
    try:
        if kind == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (as Python ends a program that fails)
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(*sys.argv[1:])
