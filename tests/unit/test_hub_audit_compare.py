"""Two releases beside each other: what their weights show of their start and of the order of their data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_audit_making import NAME, Hub, Training, release
from safetensors.numpy import save_file
from training_making import prepare, write_recipe

from treering.errors import InputError
from treering.hub.audit.release import Wanted, compare_releases
from treering.revisions.stage import export
from treering.training.run import train

SMALL = Training(hidden=64)
OTHER = "acme-lab/other"


def beside(hub: Hub, one: Training, other: Training, *claims: str):
    hub.add(release(one), NAME)
    hub.add(release(other), OTHER)
    return compare_releases((NAME, OTHER), claims, Wanted(hub.endpoint))


def test_two_runs_from_independent_weights_are_told(hub):
    record = beside(hub, SMALL, replace(SMALL, seed=1))
    assert (record["start"], record["findings"]) == ("independent", [])
    assert record["steps"][0]["distance"] == pytest.approx(2**0.5, rel=0.05)


def test_runs_that_claim_one_start_and_have_none_are_found(hub):
    record = beside(hub, SMALL, replace(SMALL, seed=1), "start")
    assert [finding["check"] for finding in record["findings"]] == ["other start"]


def test_runs_with_one_start_are_told(hub):
    other = replace(SMALL, seed=1, first_seed=0)
    hub.add(release(replace(SMALL, steps=(0, 1, 2))), NAME)
    hub.add(release(replace(other, steps=(0, 1, 2))), OTHER)
    record = compare_releases((NAME, OTHER), ["start"], Wanted(hub.endpoint))
    assert record["start"] == "same" and record["steps"][0]["distance"] == 0.0


def test_row_4_runs_that_differ_at_step_0_and_are_one_at_step_1_are_found(hub):
    record = beside(hub, SMALL, replace(SMALL, first_seed=9))
    (finding,) = record["findings"]
    assert finding["check"] == "runs meet" and finding["branches"] == ["step0", "step1"]


def test_releases_without_a_common_step_show_nothing(hub):
    record = beside(hub, SMALL, replace(SMALL, steps=(5, 6, 7)), "start", "order")
    assert (record["start"], record["order"], record["findings"]) == ("unknown", "unknown", [])


def test_a_release_that_is_not_there_is_the_users_to_mend(hub):
    hub.add(release(SMALL))
    with pytest.raises(InputError, match="no such repository"):
        compare_releases((NAME, OTHER), (), Wanted(hub.endpoint))


# The order of the data, by the rows that first updates moved


def write_embeddings(folder: Path, tokens: set[int], seed: int, rate: float = 1e-3) -> Path:
    """Two revisions of an embedding: rows of tokens that were read move, all decay."""
    random = np.random.default_rng(seed)
    first = random.standard_normal((600, 32)).astype(np.float32) * 0.02
    moved = first * np.float32(1 - 1e-4)
    rows = sorted(tokens)
    moved[rows] += rate * np.sign(random.standard_normal((len(rows), 32))).astype(np.float32)
    for step, weights in ((0, first), (1, moved)):
        (folder / f"step{step}").mkdir(parents=True)
        (folder / f"step{step}" / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
        save_file({"gpt_neox.embed_in.weight": weights}, folder / f"step{step}" / "model.safetensors")
    return folder


TOKENS = set(np.random.default_rng(0).choice(600, 250, replace=False).tolist())


def test_the_same_batches_move_the_same_rows_whatever_the_weights(tmp_path):
    folders = write_embeddings(tmp_path / "a", TOKENS, 1), write_embeddings(tmp_path / "b", TOKENS, 2)
    record = compare_releases((str(folders[0]), str(folders[1])), ["order"])
    assert (record["start"], record["order"], record["findings"]) == ("independent", "same", [])
    assert record["rows"]["differing"] == 0 and record["rows"]["read"] == 200


def test_other_batches_move_other_rows_and_a_claim_is_refuted(tmp_path):
    other = {*list(TOKENS)[:200], *range(550, 600)}
    folders = write_embeddings(tmp_path / "a", TOKENS, 1), write_embeddings(tmp_path / "b", other, 2)
    record = compare_releases((str(folders[0]), str(folders[1])), ["order"])
    assert record["order"] == "different"
    assert [finding["check"] for finding in record["findings"]] == ["other order"]
    assert compare_releases((str(folders[0]), str(folders[1])), [])["findings"] == []


@pytest.mark.parametrize("tokens", [set(range(600)), set()])
def test_where_all_rows_move_or_none_nothing_can_be_told(tmp_path, tokens):
    folders = write_embeddings(tmp_path / "a", tokens, 1), write_embeddings(tmp_path / "b", TOKENS, 2)
    assert compare_releases((str(folders[0]), str(folders[1])), ["order"])["order"] == "unknown"


def train_small(folder: Path, model_seed: int, order_seed: int) -> Path:
    """A run of treering's, with few sequences in a batch, so that not every token is read at once."""
    batch = {"steps": 4, "global_batch_size": 1, "micro_batch_size": 1}
    sections = {"model": {"seed": model_seed}, "order": {"seed": order_seed}, "training": batch}
    recipe = write_recipe(folder, checkpoints={"at": [0, 1, 2], "every": 4}, **sections)
    run = prepare(recipe, folder / "runs")
    train(run)
    export(run)
    return run.path


def test_real_trainings_show_whether_they_read_the_same(tmp_path):
    one, same, other = (train_small(tmp_path / name, *seeds) for name, seeds in (("a", (1, 5)), ("b", (2, 5)), ("c", (1, 6))))
    record = compare_releases((str(one), str(same)), ["order"])
    assert (record["start"], record["order"], record["findings"]) == ("independent", "same", [])
    record = compare_releases((str(one), str(other)), ["start"])
    assert (record["start"], record["order"], record["findings"]) == ("same", "different", [])
    record = compare_releases((str(one), str(other)), ["order"])
    assert [finding["check"] for finding in record["findings"]] == ["other order"]
