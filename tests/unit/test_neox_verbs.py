"""`treering neox`: maps built, checked, shown and traced."""

import json
from pathlib import Path

import numpy as np

from treering.neox.batches import open_batches
from treering.tokens.indexed import write_indexed


def data_set(folder: Path) -> Path:
    """A data set of six documents, one of them empty."""
    sizes = np.array([7, 0, 13, 30, 1, 22])
    with write_indexed(folder / "data", "uint16") as writer:
        writer.append(np.arange(sizes.sum()), sizes)
    return folder / "data"


def test_the_verbs_build_check_show_and_trace(treering, tmp_path: Path) -> None:
    data = data_set(tmp_path)
    code, out, err = treering(
        "neox", "order", data, "--steps", 4, "--batch-size", 2, "--sequence-length", 8, "--seed", 5, "--out", tmp_path / "maps"
    )
    assert code == 0, err
    maps = tmp_path / "maps" / "data_train_0_indexmap_9ns_8sl_5s"
    assert "9 samples of 8 tokens, 6 documents, 1 epoch shuffled together" in out
    assert str(maps) in out
    assert (
        treering(
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
        )[0]
        == 2
    )
    code, out, err = treering("neox", "check", maps, data)
    assert (code, "those of seed 5" in out) == (0, True), err
    record = json.loads(treering("neox", "batch", 1, data, maps, "--batch-size", 2, "--json")[1])
    batches = open_batches(data, maps, 2)
    assert [row["tokens"] for row in record["sequences"]] == batches.batch(1).tolist()
    document = record["sequences"][0]["documents"][0]["document"]
    assert f"documents {document} [" in treering("neox", "batch", 1, data, maps, "--batch-size", 2)[1]
    steps = json.loads(treering("neox", "trace", document, data, maps, "--batch-size", 2, "--json")[1])["steps"]
    assert 1 in steps
    assert treering("neox", "batch", 999, data, maps, "--batch-size", 2)[0] == 2
    assert treering("neox", "trace", 6, data, maps)[0] == 2
