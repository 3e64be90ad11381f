"""The rules of the house, read off the source."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "treering"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PACKAGES = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler"}
MAY_READ_ENVIRONMENT = {"provenance/environment.py", "training/determinism.py"}
GLOBAL_GENERATORS = {"random", "numpy.random"}


def dotted(node: ast.AST) -> str:
    """A name as it is written, such as `os.environ`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules a file imports, and the names it imports from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def offences(tree: ast.AST, file: str) -> Iterator[str]:
    """What a file does that the house does not."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        name = dotted(node)
        if isinstance(node, ast.Assert):
            yield f"{file}:{line}: assert"
        if name in ("os.environ", "os.getenv", "os.putenv", "os.environb") and file not in MAY_READ_ENVIRONMENT:
            yield f"{file}:{line}: {name}"
        if isinstance(node, ast.ExceptHandler) and _swallows(node):
            yield f"{file}:{line}: broad except"
        if isinstance(node, ast.Call):
            yield from (f"{file}:{line}: {what}" for what in _calls(node))
    for module in imported(tree):
        if module.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"):
            yield f"{file}: imports {module}"
        if module in ("os.environ", "os.getenv") and file not in MAY_READ_ENVIRONMENT:
            yield f"{file}: imports {module}"


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes everything and keeps it: cleaning up is fine, and so is naming a library's bare Exception."""
    last = handler.body[-1]
    kind = dotted(handler.type) if handler.type is not None else "BaseException"
    if kind == "Exception":
        return not isinstance(last, ast.Raise)
    return kind == "BaseException" and not (isinstance(last, ast.Raise) and last.exc is None)


def _calls(node: ast.Call) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}

    def is_true(argument: str) -> bool:
        value = given.get(argument)
        return isinstance(value, ast.Constant) and value.value is True

    if dotted(node.func) == "torch.load" and not is_true("weights_only"):
        yield "torch.load without weights_only=True"
    for argument in ("trust_remote_code", "shell"):
        if argument in given and not (isinstance(given[argument], ast.Constant) and given[argument].value is False):
            yield f"{argument} is not False"
    if dotted(node.func) in ("eval", "exec", "os.system", "os.popen"):
        yield f"calls {dotted(node.func)}"


def test_no_file_does_what_the_house_does_not() -> None:
    assert [offence for file, tree in TREES.items() for offence in offences(tree, file)] == []


@pytest.mark.parametrize(
    "code",
    [
        "assert x",
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "from os import environ",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "load(path, trust_remote_code=trust)",
        "subprocess.run(command, shell=True)",
        "eval(text)",
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept BaseException as error:\n    raise ValueError from error",
    ],
)
def test_each_thing_the_house_does_not_do_is_seen(code: str) -> None:
    assert list(offences(ast.parse(code), "any.py"))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, weights_only=True)",
        "try:\n    f()\nexcept ValueError:\n    pass",
        "try:\n    f()\nexcept BaseException:\n    clean()\n    raise",
        "try:\n    f()\nexcept Exception as error:\n    raise InputError('library') from error",
        "subprocess.run(command, shell=False)",
    ],
)
def test_what_the_house_does_is_no_offence(code: str) -> None:
    assert list(offences(ast.parse(code), "any.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_reads_writes_and_promises(package: str) -> None:
    docstring = ast.get_docstring(TREES[f"{package}/__init__.py"]) or ""
    first, *rest = docstring.splitlines()
    assert first.endswith(".") and not first.startswith(("Reads:", "Writes:", "Promises:"))
    said = [line.split(":")[0] for line in rest if line.startswith(("Reads:", "Writes:", "Promises:"))]
    assert said == ["Reads", "Writes", "Promises"]


@pytest.mark.parametrize("file", TREES)
def test_every_module_opens_with_a_full_sentence(file: str) -> None:
    docstring = ast.get_docstring(TREES[file])
    assert docstring, f"{file} has no docstring"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "?", ":"))


def test_no_file_has_a_vague_name() -> None:
    assert [file for file in TREES if {part.removesuffix(".py") for part in Path(file).parts} & VAGUE] == []


@pytest.mark.parametrize("module", ["treering", "treering.cli.main", "treering.config.run_directory", "treering.corpus"])
def test_importing_it_imports_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'lm_eval'}} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.stdout == "[]\n", process.stderr


def test_every_package_can_be_imported() -> None:
    for package in PACKAGES:
        importlib.import_module(f"treering.{package}")


def test_imports_run_downwards_only(repository: Path) -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    process = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
