"""The quickstart from end to end, judged by what a stranger does with it."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from way_making import QUICKSTART, contents, kill_when, treering

from treering.config.digests import STAGES
from treering.provenance.manifests import verify_manifest

pytestmark = pytest.mark.way
EARLY_STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def record(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def test_every_stage_is_whole(release):
    for stage in STAGES:
        verify_manifest(release.run / stage)


def test_the_command_ends_with_card_digest_table_and_next_commands(release):
    assert str(Path("runs") / "quickstart" / "card" / "README.md") in release.printed
    assert re.search(r"sha256:[0-9a-f]{64}", release.printed)
    assert "bits per byte" in release.printed
    assert "number_agreement" in release.printed
    assert "treering install" in release.printed.rpartition("Next:")[2]


def test_every_planned_step_is_a_checkpoint_and_a_revision(release):
    revisions = [revision["step"] for revision in record(release.run / "revisions" / "revisions.json")["revisions"]]
    last = revisions[-1]
    assert revisions == sorted({*EARLY_STEPS, *range(0, last + 1, 128), last})
    for step in revisions:
        # The moments of step 0 are zero and need no file.
        assert (release.run / "checkpoints" / f"step{step}" / "optimizer.safetensors").exists() == (step > 0)
        assert (release.run / "revisions" / f"step{step}" / "model.safetensors").exists()


def test_the_trained_model_is_better_than_an_untrained_one_and_than_a_unigram_model_and_the_card_says_so(release):
    scores = record(release.run / "evaluation" / "evaluation.json")
    assert scores["last_bits_per_byte"] < scores["unigram_bits_per_byte"] < scores["untrained_bits_per_byte"]
    card = (release.run / "card" / "README.md").read_text("utf-8")
    for name in ("last_bits_per_byte", "unigram_bits_per_byte", "untrained_bits_per_byte"):
        assert f"{scores[name]:.3f}" in card, name
    assert "The trained model is better than an untrained one: " in card
    assert "The trained model is better than a unigram model of the corpus: " in card


def code_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def run_offline(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_the_cards_code_runs_as_written_without_a_network(release, hugging_face_home):
    blocks = code_blocks((release.run / "card" / "README.md").read_text("utf-8"))
    quick_start, intermediate = blocks[0], blocks[1]
    result = run_offline(quick_start, hugging_face_home)
    assert result.returncode == 0, result.stderr
    assert re.search(r"Perplexity: \d+\.\d\d", result.stdout)
    assert "revision=" in intermediate
    result = run_offline(intermediate, hugging_face_home)
    assert result.returncode == 0, result.stderr


def test_a_branch_of_the_installed_release_is_the_revision_of_that_step(release, hugging_face_home):
    name = next(iter((hugging_face_home / "hub").glob("models--*"))).name.removeprefix("models--").replace("--", "/")
    code = f"""
import hashlib, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
for revision in ("step0", "step64", "main"):
    model = AutoModelForCausalLM.from_pretrained("{name}", revision=revision)
    AutoTokenizer.from_pretrained("{name}", revision=revision)
    print(revision, hashlib.sha256(model.gpt_neox.embed_in.weight.detach().numpy().tobytes()).hexdigest())
"""
    result = run_offline(code, hugging_face_home)
    assert result.returncode == 0, result.stderr
    installed = dict(line.split() for line in result.stdout.splitlines())
    last = record(release.run / "revisions" / "revisions.json")["main"]
    for branch, revision in {"step0": "step0", "step64": "step64", "main": last}.items():
        trained = record(release.run / "checkpoints" / revision / "state.json")["tensors"]["gpt_neox.embed_in.weight"]
        assert f"sha256:{installed[branch]}" == trained
    assert len(set(installed.values())) == 3


def test_what_a_batch_shows_is_what_the_trace_finds(release):
    batch = json.loads(treering("batch", 64, release.run, "--json", cwd=release.run).stdout)
    assert len(batch["sequences"]) == 8
    sequence = batch["sequences"][3]
    traced = json.loads(treering("trace", release.run, "--sequence", sequence["sequence_id"], "--json", cwd=release.run).stdout)
    assert 64 in traced["steps"]
    document = sequence["documents"][0]
    assert document["source"].startswith("sotu/")
    assert document["metadata"]["president"]
    traced = json.loads(treering("trace", release.run, "--document", document["id"], "--json", cwd=release.run).stdout)
    assert sequence["sequence_id"] in [part["sequence_id"] for part in traced["sequences"]]


def test_running_again_changes_nothing(release):
    before = contents(release.run)
    result = treering("run", QUICKSTART, cwd=release.run.parent.parent)
    assert result.returncode == 0, result.stderr
    assert contents(release.run) == before


def test_another_recipe_of_the_same_name_is_refused_and_nothing_is_lost(release, tmp_path):
    before = contents(release.run)
    recipe = tmp_path / "other.yaml"
    recipe.write_text(QUICKSTART.read_text("utf-8").replace("learning_rate: 3e-3", "learning_rate: 4e-3"), "utf-8")
    result = treering("run", recipe, cwd=release.run.parent.parent)
    assert result.returncode == 2
    assert "training.optimizer.learning_rate: 0.003 ≠ 0.004" in result.stderr
    assert contents(release.run) == before


def test_a_second_run_killed_in_every_stage_gives_the_same_bytes(release, tmp_path):
    run = tmp_path / "runs" / "quickstart"
    chance = random.Random(8)

    def there(pattern: str):
        return lambda: any(run.glob(pattern))

    moments = {
        "corpus": (there(".corpus.partial"), 0.05),
        "tokens": (there(".tokens.partial"), 2.0),
        "checkpoints": (there("checkpoints/step2"), 4.0),
        "training": (there("checkpoints/step64"), 10.0),
        "training again": (there("checkpoints/step128"), 10.0),
        "revisions": (there("revisions/step4"), 1.0),
        "evaluation": (there("revisions/manifest.json"), 6.0),
    }
    killed = [
        stage
        for stage, (begun, longest_delay) in moments.items()
        if kill_when(begun, chance.uniform(0, longest_delay), "run", QUICKSTART, cwd=tmp_path)
    ]
    assert len(killed) >= 5, killed
    result = treering("run", QUICKSTART, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert contents(run) == contents(release.run)
