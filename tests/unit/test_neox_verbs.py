"""`treering neox`: maps built, checked, shown and traced."""

import json
from pathlib import Path

import numpy as np

from treering.corpus.indexed import write_indexed
from treering.order.neox_batches import open_neox_batches


def data_set(folder: Path) -> Path:
    """A data set of six documents, one of them empty."""
    sizes = np.array([7, 0, 13, 30, 1, 22])
    with write_indexed(folder / "data", "uint16") as writer:
        writer.append(np.arange(sizes.sum()), sizes)
    return folder / "data"


def test_the_verbs_build_check_show_and_trace(treering, tmp_path: Path) -> None:
    data = data_set(tmp_path)
    build = (
        "neox",
        "order",
        data,
        "--steps",
        4,
        "--batch-size",
        2,
        "--sequence-length",
        8,
        "--seed",
        5,
        "--out",
        tmp_path / "maps",
    )
    code, out, err = treering(*build)
    assert code == 0, err
    assert "9 samples of 8 tokens, 6 documents, 1 epoch" in out
    maps = tmp_path / "maps" / "data_train_0_indexmap_9ns_8sl_5s"
    assert "there already" in treering(*build)[1]
    (tmp_path / "maps" / f"{maps.name}_sample_idx.npy").unlink()
    assert "there already" not in treering(*build)[1]
    assert json.loads(treering(*build, "--json")[1]) == {"maps": str(maps), "samples": 9, "documents": 6, "epochs": 1}
    code, out, err = treering("neox", "check", data, maps)
    assert (code, "those of seed 5" in out) == (0, True), err
    assert "seed" not in treering("neox", "check", data, maps, "--no-shuffle")[1]
    assert json.loads(treering("neox", "check", data, maps, "--json")[1])["seed"] == 5
    record = json.loads(treering("neox", "batch", 1, data, maps, "--batch-size", 2, "--json")[1])
    batches = open_neox_batches(data, maps, 2)
    assert batches.steps == 4
    assert [row["tokens"] for row in record["sequences"]] == batches.batch(1).tolist()
    document = record["sequences"][0]["documents"][0]["document"]
    assert f"documents {document} [" in treering("neox", "batch", 1, data, maps, "--batch-size", 2)[1]
    steps = json.loads(treering("neox", "trace", document, data, maps, "--batch-size", 2, "--json")[1])["steps"]
    assert 1 in steps
    assert "of 4 batches: " in treering("neox", "trace", document, data, maps, "--batch-size", 2)[1]
    assert "of 2 batches: " in treering("neox", "trace", document, data, maps, "--batch-size", 2, "--steps", 2)[1]
    for wrong in (("batch", 4, data, maps), ("trace", 6, data, maps), ("batch", 0, data, tmp_path / "nothing")):
        assert treering("neox", *wrong, "--batch-size", 2)[0] == 2
    assert treering("neox", "batch", 0, data, maps)[0] == 2  # not of this batch size


def test_a_batch_is_shown_as_text(treering, tmp_path: Path, tiny_run) -> None:
    data, tokens = tiny_run.stage("tokens") / "train", tiny_run.stage("tokens")
    assert treering("neox", "order", data, "--steps", 3, "--batch-size", 2, "--sequence-length", 32, "--out", tmp_path)[0] == 0
    maps = tmp_path / "train_train_0_indexmap_7ns_32sl_1234s"
    code, out, err = treering("neox", "batch", 0, data, maps, "--batch-size", 2, "--tokenizer", tokens / "tokenizer.json")
    assert code == 0, err
    assert " tree" in out.lower()
