"""A picture of each benchmark's last results, `docs/benchmarks/*.svg`: `make bench-plots`.

Each picture names the digest of what it was drawn from, so that a test sees one that is out of date.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from page import SECTIONS, latest, predicted_bytes

from treering.provenance.digests import digest_value

mpl.use("svg")
from matplotlib import pyplot as plt

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
# Readable in black and white: lightness and hatching differ, not only hue.
OWN, OTHER = {"color": "#1b4965"}, {"color": "#c9d6df", "edgecolor": "#555555", "hatch": "//"}


def bars(axes: Any, names: list[str], values: list[float], errors: list[tuple[float, float]] | None = None) -> None:
    """Draw one bar for each name, treering's dark."""
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        style = OWN if name.startswith("treering") else OTHER
        error = [[value - errors[place][0]], [errors[place][1] - value]] if errors else None
        axes.barh(place, value, xerr=error, height=0.7, error_kw={"elinewidth": 1, "capsize": 2}, **style)
        axes.text(0, place, f" {name}", va="center", ha="left", fontsize=7, bbox={"color": "white", "alpha": 0.75, "pad": 0.6})
    axes.set_yticks([])
    axes.invert_yaxis()


def ranged(rows: list[dict[str, Any]], key: str) -> tuple[list[float], list[tuple[float, float]]]:
    return [row[key]["median"] for row in rows], [(row[key]["lowest"], row[key]["highest"]) for row in rows]


def training(runs: list[dict[str, Any]]) -> None:
    _, panels = plt.subplots(2, len(runs), figsize=(2.6 * len(runs), 4.6), squeeze=False)
    for column, run in enumerate(runs):
        names = [row["trainer"] for row in run["rows"]]
        bars(panels[0, column], names, *ranged(run["rows"], "tokens_per_second"))
        bars(panels[1, column], names, [row["memory_bytes"] / 2**20 for row in run["rows"]])
        panels[0, column].set(title=f"{run['settings']['model']}, {run['settings']['precision']}", xlabel="tokens/s")
        panels[1, column].set(xlabel="memory, MiB")


def memory(runs: list[dict[str, Any]]) -> None:
    _, axes = plt.subplots(figsize=(4.5, 4))
    measured = [row["measured_bytes"] / 1e6 for run in runs for row in run["rows"]]
    ends = [0.9 * min(measured), 1.1 * max(measured)]
    axes.fill_between(ends, [0.85 * end for end in ends], [1.15 * end for end in ends], color="#dddddd", label="± 15 %")
    axes.plot(ends, ends, color="#555555", linewidth=1)
    for run, marker in zip(runs, "os^D", strict=False):
        points = [(row["measured_bytes"] / 1e6, predicted_bytes(row) / 1e6) for row in run["rows"]]
        axes.scatter(*zip(*points, strict=True), color=OWN["color"], marker=marker, label=run["settings"]["cases"], zorder=3)
    axes.set(xlabel="measured, MB", ylabel="predicted, MB", xscale="log", yscale="log")
    axes.legend()


def order(runs: list[dict[str, Any]]) -> None:
    _, axes = plt.subplots(figsize=(5, 4))
    rows = runs[-1]["rows"]
    tokens = [row["tokens"] for row in rows]
    lines = {
        "which_sequences_ms": ("batch → sequences", "o-"),
        "which_steps_ms": ("sequence → steps", "s-"),
        "index_which_steps_ms": ("sequence → steps, in a stored index", "^--"),
    }
    for key, (label, style) in lines.items():
        axes.plot(tokens, [row[key] for row in rows], style, label=label, color="#777777" if "index" in key else OWN["color"])
    axes.set(xlabel="tokens in the order", ylabel="milliseconds", xscale="log", yscale="log")
    axes.legend()


def neox_order(runs: list[dict[str, Any]]) -> None:
    _, axes = plt.subplots(figsize=(5, 4))
    rows = runs[-1]["rows"]
    for key, style in (("build_seconds", "o-"), ("check_seconds", "s--"), ("seed_seconds", "^:")):
        axes.plot([row["samples"] for row in rows], [row[key] for row in rows], style, color=OWN["color"], label=key[:-8])
    axes.set(xlabel="samples", ylabel="seconds", xscale="log", yscale="log")
    axes.legend()


def tokens(runs: list[dict[str, Any]]) -> None:
    _, panels = plt.subplots(1, len(runs), figsize=(3.6 * len(runs), 2.8), squeeze=False)
    for axes, run in zip(panels[0], runs, strict=True):
        bars(axes, [row["contestant"] for row in run["rows"]], *ranged(run["rows"], "mb_per_second"))
        axes.set(title=f"{run['settings']['corpus']}, {run['settings']['tokenizer']}", xlabel="MB/s")


def growth(runs: list[dict[str, Any]]) -> None:
    _, (corpus, steps) = plt.subplots(1, 2, figsize=(6.4, 2.8))
    *sizes, last = runs[-1]["rows"]
    for key, style in (("corpus_seconds", "o-"), ("tokens_seconds", "s--")):
        costs = [1e3 * row[key] / row["megabytes"] for row in sizes]
        corpus.plot([row["megabytes"] for row in sizes], costs, style, label=key.removesuffix("_seconds"), color=OWN["color"])
    corpus.set(xlabel="corpus, MB", ylabel="ms per MB", xscale="log", ylim=(0, None))
    corpus.legend()
    block = runs[-1]["settings"]["block"]
    steps.plot([block * (place + 1) for place in range(len(last["update_ms"]))], last["update_ms"], "o-", color=OWN["color"])
    steps.set(xlabel="update", ylabel="ms per update", ylim=(0, None))


def checkpoints(runs: list[dict[str, Any]]) -> None:
    _, panels = plt.subplots(1, len(runs), figsize=(3.2 * len(runs), 2.6), squeeze=False)
    for axes, run in zip(panels[0], runs, strict=True):
        bars(axes, [row["contestant"] for row in run["rows"]], *ranged(run["rows"], "held_up_seconds"))
        axes.set(title=run["settings"]["model"], xlabel="the loop held up, s")


def contamination(runs: list[dict[str, Any]]) -> None:
    _, panels = plt.subplots(1, len(runs), figsize=(3.6 * len(runs), 2.4), squeeze=False)
    for axes, run in zip(panels[0], runs, strict=True):
        bars(axes, [row["contestant"] for row in run["rows"]], *ranged(run["rows"], "mb_per_second"))
        axes.set(title=f"{run['settings']['shortest']} to {run['settings']['words']} words", xlabel="MB/s")


DRAWN = {
    "training": training,
    "memory": memory,
    "order": order,
    "neox-order": neox_order,
    "tokens": tokens,
    "growth": growth,
    "checkpoints": checkpoints,
    "contamination": contamination,
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "treering", "axes.spines.top": False, "axes.spines.right": False})
    for benchmark in SECTIONS:
        if runs := latest(benchmark):
            DRAWN[benchmark](runs)
            plt.tight_layout()
            metadata = {"Date": None, "Description": digest_value(runs)}
            plt.savefig(PICTURES / f"{benchmark}.svg", metadata=metadata)
            plt.close()


if __name__ == "__main__":
    main()
