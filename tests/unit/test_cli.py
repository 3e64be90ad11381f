"""The command line as a stranger meets it: what it prints, where, and the code it ends with."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_making import write_recipe

from treering.config.run_directory import open_run
from treering.errors import InputError
from treering.provenance.files import held


def test_help_names_every_verb_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['treering', '--help']\n"
        "from treering.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'lm_eval'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in ("new", "show", "prepare", "train", "export", "evaluate", "card", "run", "install", "batch", "trace"):
        assert f"\n  {verb}" in result.stdout
    assert result.stderr.strip() == "[]"


def test_new_writes_a_recipe_that_shows_and_refuses_to_write_over_one(treering, tmp_path):
    assert treering("new", "my-run")[0] == 0
    code, out, _ = treering("show", "my-run.yaml", "--json")
    assert code == 0
    assert json.loads(out)["recipe"]["name"] == "my-run"
    before = (tmp_path / "my-run.yaml").read_bytes()
    code, _, err = treering("new", "my-run")
    assert (code, (tmp_path / "my-run.yaml").read_bytes()) == (2, before)
    assert "there already" in err


@pytest.mark.parametrize("name", ["../outside", "a b", ".hidden"])
def test_a_name_that_is_no_name_is_refused(treering, tmp_path, name):
    code, _, err = treering("new", name)
    assert code == 2
    assert "name" in err
    assert not any(tmp_path.parent.glob("outside.yaml"))


def test_a_files_name_is_not_taken_for_a_runs(treering, tmp_path):
    code, _, err = treering("new", "mine.yaml")
    assert code == 2 and "treering new mine" in err
    assert list(tmp_path.iterdir()) == []


def test_a_new_recipe_without_its_card_lists_all_that_is_missing_before_anything_is_done(treering, tmp_path):
    treering("new", "my-run")
    code, _, err = treering("run", "my-run.yaml")
    assert code == 2
    for entry in ("organisation", "suite", "motivation", "known_biases", "research_uses", "license", "language"):
        assert f"card.{entry}" in err
    assert not (tmp_path / "runs" / "my-run" / "corpus").exists()


def test_show_spells_out_the_recipe_with_counts_checkpoints_disk_operations_time_and_digest(treering, repository):
    code, out, _ = treering("show", repository / "recipes" / "pythia-14m.yaml")
    assert code == 0
    assert "intermediate_size: 512" in out
    assert "parameters        14,067,712 (1,189,888 without embeddings)" in out
    assert "tokens per step   2,097,152" in out
    assert "checkpoints       154: 0 1 2 4 8 16 32 64 128 256 512 1000" in out
    for line in ("disk", "operations", "training time", "recipe digest", "run digest"):
        assert f"\n{line}" in out


def test_a_wrong_recipe_names_every_problem_with_its_line_and_ends_with_2(treering, tmp_path, quickstart):
    text = quickstart.replace("learning_rate: 3e-3", "lerning_rate: 3e-3").replace("threads: 2", "threads: two")
    (tmp_path / "wrong.yaml").write_text(text, "utf-8")
    code, out, err = treering("run", "wrong.yaml")
    assert (code, out) == (2, "")
    assert "did you mean `learning_rate`?" in err
    assert "training.threads" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_task_is_named_before_anything_is_done(treering, tmp_path, quickstart):
    (tmp_path / "r.yaml").write_text(quickstart + "\nevaluation:\n  tasks: [numer_agreement]\n", "utf-8")
    for verb in ("run", "show"):
        code, _, err = treering(verb, "r.yaml")
        assert code == 2
        assert "did you mean `number_agreement`?" in err
    assert not (tmp_path / "runs" / "quickstart" / "corpus").exists()


def test_show_says_what_memory_a_rank_takes_and_refuses_more_ranks_than_micro_batches(treering, repository):
    recipe = repository / "recipes" / "pythia-12b.yaml"
    record = json.loads(treering("show", recipe, "--json")[1])
    alone, spread = (
        json.loads(treering("show", recipe, "--json", "--ranks", 64, "--shard", shard)[1])["memory"]
        for shard in ("moments", "weights")
    )
    assert record["memory"]["bytes"]["weights"] == 4 * record["parameters"] == alone["bytes"]["weights"]
    assert alone["bytes"]["peak"] > spread["bytes"]["peak"]
    assert (spread["ranks"], spread["shard"]) == (64, "weights")
    assert "at most on rank 0 of 64 (weights spread)" in treering("show", recipe, "--ranks", 64, "--shard", "weights")[1]
    code, _, told = treering("show", recipe, "--ranks", 129)
    assert code == 2
    assert "at most 128 (global_batch_size 1024 ÷ micro_batch_size 8)" in told


def test_show_says_what_memory_deepspeed_takes_whatever_shard_says(treering, repository, tmp_path):
    own = (repository / "recipes" / "pythia-14m.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(own.replace("training:\n", "training:\n  engine: {name: deepspeed, stage: 2}\n", 1), encoding="utf-8")
    assert "at most on rank 0 of 4 (DeepSpeed's stage 2)" in treering("show", other, "--ranks", 4)[1]
    whole, spread = (
        json.loads(treering("show", other, "--json", "--ranks", 4, "--shard", shard)[1])["memory"]
        for shard in ("moments", "weights")
    )
    assert whole == spread
    assert (whole["engine"], whole["stage"], whole["shard"]) == ("deepspeed", 2, None)
    assert whole["bytes"]["peak"] > whole["bytes"]["weights"]


@pytest.mark.parametrize("verb", ["show", "run", "prepare", "train", "export", "evaluate", "card", "install"])
def test_a_missing_recipe_ends_with_2(treering, verb):
    code, _, err = treering(verb, "absent.yaml")
    assert code == 2
    assert "there is no such recipe" in err


@pytest.mark.parametrize("verb", ["train", "export", "evaluate"])
def test_a_stage_before_its_time_says_what_to_do_first(treering, tiny_recipe, verb):
    code, _, err = treering(verb, tiny_recipe)
    assert code == 2
    assert "has not been run" in err
    assert not Path("runs").exists()
    treering("prepare", tiny_recipe, "--until", "corpus")
    code, _, err = treering(verb, tiny_recipe)
    assert code == 2
    assert "has not been done" in err
    assert "treering run" in err


def test_looking_up_a_recipe_that_was_never_run_begins_no_run(treering, tmp_path, tiny_recipe):
    code, _, err = treering("batch", 0, tiny_recipe)
    assert code == 2
    assert "has not been run" in err
    assert not (tmp_path / "runs").exists()


def test_prepare_stops_where_it_is_told_and_goes_on_later(treering, tmp_path, tiny_recipe):
    assert treering("prepare", tiny_recipe, "--until", "corpus")[0] == 0
    run = tmp_path / "runs" / "tiny"
    assert (run / "corpus" / "manifest.json").exists()
    assert not (run / "tokens").exists()
    code, out, _ = treering("prepare", tiny_recipe)
    assert code == 0
    assert (run / "order" / "manifest.json").exists()
    assert "treering train" in out


def test_batch_finds_the_only_run_and_json_holds_the_whole_text(treering, tiny_run, tmp_path):
    code, out, _ = treering("batch", 3, "--json")
    assert code == 0
    record = json.loads(out)
    assert len(record["sequences"]) == tiny_run.recipe.training.global_batch_size
    sequence = record["sequences"][0]
    code, out, _ = treering("trace", tiny_run.path, "--sequence", sequence["sequence_id"], "--json")
    assert 3 in json.loads(out)["steps"]
    code, out, _ = treering("trace", tiny_run.path, "--document", sequence["documents"][0]["id"][7:30])
    assert code == 0
    assert "3" in out


def test_batch_and_trace_refuse_what_is_not_there(treering, tiny_run):
    assert treering("batch", 12, tiny_run.path)[0] == 2
    assert treering("batch", "--", -1, tiny_run.path)[0] == 2
    assert treering("trace", tiny_run.path, "--sequence", 10**9)[0] == 2
    assert treering("trace", tiny_run.path, "--document", "00ff00ff00ff")[0] == 2
    assert treering("trace", tiny_run.path)[0] == 2


def test_a_changed_file_of_an_earlier_stage_ends_with_1_and_names_it(treering, tiny_run):
    tokens = tiny_run.stage("tokens") / "train.bin"
    content = bytearray(tokens.read_bytes())
    content[100] ^= 1
    tokens.write_bytes(content)
    code, _, err = treering("train", tiny_run.path)
    assert code == 1
    assert "train.bin has changed" in err


def test_a_document_that_is_not_what_its_id_says_is_not_shown(treering, tiny_run):
    shard = tiny_run.stage("corpus") / "train-00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"year", b"yeer"))
    code, _, err = treering("batch", 0, tiny_run.path)
    assert code == 1
    assert "not what its id says" in err


def test_a_recipe_does_not_touch_a_run_that_another_process_holds(treering, tiny_run, tiny_recipe, tmp_path):
    before = (tiny_run.path / "recipe.yaml").read_bytes()
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps({**json.loads(tiny_recipe.read_text("utf-8")), "observe": {"log_every": 7}}), "utf-8")
    with held(tiny_run.path):
        assert treering("prepare", other, "--runs", tiny_run.path.parent)[0] == 2
    assert (tiny_run.path / "recipe.yaml").read_bytes() == before
    assert treering("prepare", other, "--runs", tiny_run.path.parent)[0] == 0
    assert (tiny_run.path / "recipe.yaml").read_bytes() != before


def test_too_little_memory_ends_with_3_and_a_defect_with_70(treering, monkeypatch, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x")

    def ask_for_too_much() -> None:
        torch.empty(1 << 50)

    with pytest.raises(RuntimeError) as of_torch:
        ask_for_too_much()
    lacking = (MemoryError("no room"), torch.OutOfMemoryError("CUDA out of memory"), of_torch.value)
    others = (ZeroDivisionError("oh"), RuntimeError("oh"))
    for error, expected in (*((error, 3) for error in lacking), *((error, 70) for error in others)):

        def fail(*_: object, raised=error) -> None:
            raise raised

        monkeypatch.setattr("treering.config.reading.read_recipe", fail)
        assert treering("show", "recipe.yaml")[0] == expected


@pytest.mark.parametrize("taker", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1"])
def test_an_environment_that_takes_threads_away_is_refused(treering, tiny_run, monkeypatch, taker):
    monkeypatch.setenv(*taker.split("="))
    code, _, err = treering("train", tiny_run.path)
    assert code == 3
    assert taker in err


def test_a_library_variable_set_between_stop_and_resume_is_noticed(treering, tiny_run, monkeypatch):
    assert treering("train", tiny_run.path)[0] == 0
    for name in ("manifest.json", "training.json"):
        (tiny_run.stage("training") / name).unlink()
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    code, _, err = treering("train", tiny_run.path)
    assert code == 3
    assert "DNNL_MAX_CPU_ISA=AVX2" in err


def test_a_file_where_the_runs_should_be_ends_with_3(treering, tmp_path, tiny_recipe):
    (tmp_path / "runs").write_text("in the way")
    code, _, err = treering("prepare", tiny_recipe)
    assert code == 3
    assert "a file stands where a folder is needed" in err


def test_two_processes_on_one_run_are_refused(treering, tiny_run):
    with held(tiny_run.path):
        code, _, err = treering("prepare", tiny_run.path)
    assert code == 2
    assert "another treering process" in err


def test_interrupting_from_the_keyboard_ends_with_130_and_no_traceback(tiny_recipe, tmp_path):
    recipe = write_recipe(tmp_path / "long", training={"steps": 100_000}, checkpoints={"at": [0], "every": 50_000})
    subprocess.run([sys.executable, "-m", "treering", "prepare", str(recipe)], cwd=tmp_path, capture_output=True, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "treering", "train", str(recipe)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore the keyboard.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    metrics = tmp_path / "runs" / "tiny" / "training" / "ledger.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "told to stop" in err
    assert "Traceback" not in err


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no recipe\.yaml"):
        open_run(Path(tmp_path))
