"""`treering serve` as a user starts it, and the programs that read from it, each in a process of its own."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from card_making import seal
from evaluation_making import tiny_model, write_revision
from serving_making import NAME, TOKEN, ask, ask_with_token, client, lay_out_release
from tokenizers import Tokenizer, models, pre_tokenizers

from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory

CARD_CODE = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from huggingface_hub import ModelCard
model = AutoModelForCausalLM.from_pretrained("acme-lab/sapling", revision="step0", dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained("acme-lab/sapling", revision="step0")
inputs = tokenizer("one tree", return_tensors="pt")
print(float(model(**inputs).logits.double().sum()))
card = ModelCard.load("acme-lab/sapling")
card.validate()
print(card.data.license)
"""
DATA_CODE = """
from datasets import load_dataset
rows = load_dataset("acme-lab/rings", split="train")
print(list(rows["text"]), rows.num_rows)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A release laid out, whose revision step0 is a model that loads; not to be changed."""
    quickstart = (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text("utf-8")
    folder = tmp_path_factory.mktemp("release")
    run = lay_out_release(folder / "run", quickstart)
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "<|padding|>": 1, "one": 2, "tree": 3}, "<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_revision(run.stage("revisions") / "step0", tiny_model(7), folder / "tokenizer.json")
    seal(run)
    write_card(run)
    return run


@contextmanager
def started(
    *arguments: object, before: Sequence[str] = (), **environment: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start `treering serve` on a free port, after these words; gives the process, and what it has printed before it serves."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "treering", "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        printed = []
        while line := process.stdout.readline():
            printed.append(line.rstrip("\n"))
            if line.startswith(("Ctrl-C", "}")):
                break
        yield process, printed
    finally:
        process.kill()
        process.communicate()


def endpoint_in(printed: list[str]) -> str:
    return next(line.partition("=")[2] for line in printed if line.startswith("HF_ENDPOINT="))


def program(home: Path, endpoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the field that reads from an endpoint, with a cache of its own."""
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **settings}, timeout=300)


def interrupt(process: subprocess.Popen[str]) -> tuple[int, float, str]:
    """Press Ctrl-C; returns exit code, seconds, and all that stands on stderr."""
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - start, errors


def test_a_served_run_is_what_the_cards_code_loads(run, tmp_path):
    with started(run.path) as (process, printed):
        assert printed[1].startswith(f"{NAME} (model): 13 branches: main step0 step1 ")
        assert any(f"hf download {NAME}" in line for line in printed)
        endpoint = endpoint_in(printed)
        loaded = program(tmp_path, endpoint, sys.executable, "-c", CARD_CODE)
        assert loaded.returncode == 0, loaded.stderr
        with torch.no_grad():
            logits = tiny_model(7)(torch.tensor([[2, 3]])).logits.double().sum()
        number, license_name = loaded.stdout.split()
        assert abs(float(number) - float(logits)) < 1e-2  # sums of some thousand numbers, in two processes
        assert license_name == "apache-2.0"
        command = Path(sys.executable).parent / "hf"
        downloaded = program(
            tmp_path, endpoint, str(command), "download", NAME, "--revision", "step1", "--local-dir", str(tmp_path / "out")
        )
        assert downloaded.returncode == 0, downloaded.stderr
        expected = (run.stage("revisions") / "step1" / "model.safetensors").read_bytes()
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == expected
        code, _, errors = interrupt(process)
    assert (code, errors) == (0, "")


TEXTS_CODE = """
from datasets import load_dataset
splits = load_dataset("acme-lab/sapling-data")
print({name: list(split["text"]) for name, split in splits.items()})
"""


def test_a_served_runs_data_set_is_downloaded_and_with_texts_is_what_datasets_loads(run, tmp_path):
    command = [str(Path(sys.executable).parent / "hf"), "download", f"{NAME}-data", "--repo-type", "dataset", "--local-dir"]
    for texts in (False, True):
        with started(run.path, *(["--texts"] if texts else [])) as (_, printed):
            assert f"{NAME}-data (dataset): 1 branch: main" in printed
            assert any(line.startswith(f"{NAME}-checkpoints (model): 13 branches: main step0 ") for line in printed)
            endpoint = endpoint_in(printed)
            folder = tmp_path / f"texts{texts}"
            downloaded = program(tmp_path, endpoint, *command, str(folder))
            assert downloaded.returncode == 0, downloaded.stderr
            order = folder / "order" / "order.json"
            assert order.read_bytes() == (run.stage("order") / "order.json").read_bytes()
            assert (folder / "corpus" / "train-00000.jsonl").exists() is texts
            assert "order of acme-lab/sapling" in (folder / "README.md").read_text()
            if texts:
                loaded = program(tmp_path / "home", endpoint, sys.executable, "-c", TEXTS_CODE)
                assert loaded.returncode == 0, loaded.stderr
                assert "{'train': ['an oak'], 'validation': ['an ash']}" in loaded.stdout


def test_a_run_that_may_only_be_read_is_served(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    (folder / ".lock").unlink(missing_ok=True)
    with started(folder, before=read_only(folder)) as (process, printed):
        assert ask(endpoint_in(printed), "GET", f"/{NAME}/resolve/main/README.md").status == 200
        assert not (folder / ".lock").exists()
        assert interrupt(process)[0] == 0


def read_only(folder: Path) -> list[str]:
    """Words before a command for which a folder is on a read-only disk; skip where that cannot be done."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount a folder read-only, and `unshare` is needed")
    place = shlex.quote(str(folder))
    mounting = f"mount --bind {place} {place}\nmount -o remount,ro,bind {place}"
    words = ["unshare", "--mount", "sh", "-ec", f'{mounting}\nexec "$0" "$@"']
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a folder read-only")
    return words


def test_a_served_data_set_is_what_datasets_loads(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["oak", "ash"]}), files / "train.parquet")
    (files / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train.parquet\n---\n# rings\n")
    with started(tmp_path / "store", "--writable") as (_, printed):
        endpoint = endpoint_in(printed)
        token = next(line.partition("=")[2] for line in printed if line.startswith("HF_TOKEN="))
        assert any("hf upload" in line for line in printed)
        api = client(endpoint, token)
        api.create_repo("acme-lab/rings", repo_type="dataset")
        api.upload_folder(repo_id="acme-lab/rings", repo_type="dataset", folder_path=files)
        loaded = program(tmp_path / "home", endpoint, sys.executable, "-c", DATA_CODE)
        assert loaded.returncode == 0, loaded.stderr
        assert loaded.stdout.strip().endswith("['oak', 'ash'] 2")
        assert api.list_repo_refs("acme-lab/rings", repo_type="dataset").branches[0].name == "main"


def test_ctrl_c_ends_it_though_clients_hang_on(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with started(tmp_path / "store", "--writable", "--token-file", tmp_path / "token") as (process, printed):
        endpoint = endpoint_in(printed)
        assert TOKEN not in "".join(printed)
        assert ask_with_token(endpoint, "POST", "/api/repos/create", {"organization": "acme", "name": "x"}).status == 200
        head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 99\r\n\r\n"
        port = int(endpoint.rpartition(":")[2])
        with closing(socket.create_connection(("127.0.0.1", port))) as hanging:
            hanging.sendall(f"POST /api/models/acme/x/commit/main HTTP/1.1\r\n{head}{{".encode())
            time.sleep(0.3)
            code, seconds, errors = interrupt(process)
    assert (code, "Traceback" in errors) == (0, False), errors
    assert seconds < 15


def test_a_folder_that_was_pushed_to_can_be_served_to_be_read(tmp_path):
    with started(tmp_path, "--writable", "--json") as (process, printed):
        record = json.loads("\n".join(printed))
        assert record["repositories"] == [] and record["token"].startswith("treering_")
        headers = {"Authorization": f"Bearer {record['token']}"}
        body = json.dumps({"organization": "acme", "name": "x"}).encode()
        assert ask(record["endpoint"], "POST", "/api/repos/create", body, **headers).status == 200
        assert interrupt(process)[0] == 0
    with started(tmp_path, "--json") as (_, printed):
        record = json.loads("\n".join(printed))
        assert record["repositories"] == [{"kind": "model", "name": "acme/x", "branches": ["main"]}]
        assert "token" not in record
        assert ask(record["endpoint"], "POST", "/api/repos/create", body, **headers).status == 403
        assert ask(record["endpoint"], "POST", "/api/models/acme/x/commit/main", body, **headers).status == 403
        assert ask(record["endpoint"], "PUT", "/anything/at/all", body, **headers).status == 403


def test_who_else_could_reach_it_is_said_loudly(tmp_path):
    with started(tmp_path, "--writable", "--host", "0.0.0.0") as (process, printed):
        assert endpoint_in(printed).startswith("http://127.0.0.1:")
        _, _, errors = interrupt(process)
    assert "NOT ONLY THIS MACHINE" in errors


def test_what_cannot_be_meant_is_refused(treering, run, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "token").write_text("short")
    for arguments, parts in (
        ((tmp_path / "none",), ("nothing to serve", "--writable")),
        ((tmp_path,), ("neither a run nor",)),
        ((run.path, "--writable"), ("a run is not pushed to",)),
        ((tmp_path / "store", "--writable", "--texts"), ("texts are a run's",)),
        ((tmp_path / "store", "--token-file", tmp_path / "token"), ("a token is for writing",)),
        ((tmp_path / "store", "--writable", "--token-file", tmp_path / "token"), ("no token",)),
        ((run.path, "--host", "no.such.host.example"), ("no such host",)),
        ((run.path, "--host", ""), ("no such host",)),
    ):
        code, _, errors = treering("serve", *arguments)
        assert code == 2 and all(part in errors for part in parts), errors


def test_a_port_that_is_taken_is_no_fault_of_the_users(treering, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, errors = treering("serve", run.path, "--port", taken.getsockname()[1])
    assert code == 3 and "nothing can be served here" in errors and "0 finds one" in errors


def test_a_folder_that_cannot_be_made_is_no_fault_of_the_users(treering):
    if not Path("/proc/self").exists():
        pytest.skip("this system has no folder that takes none (/proc)")
    code, _, errors = treering("serve", "/proc/none", "--writable")
    assert code == 3 and "no folder can be made here" in errors and "do:" in errors


def test_a_recipe_that_has_not_been_run_is_not_served(treering, repository):
    code, _, errors = treering("serve", repository / "recipes" / "quickstart.yaml")
    assert code == 2 and "has not been run" in errors
