"""The pictures of an evaluation: which there are, what is on them, and that they are the same each time."""

import struct
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont

from treering.evaluation.figure_axes import fold, short
from treering.evaluation.figure_data import FigureData, group_losses
from treering.evaluation.figures import build_figures, draw_figures

TOKENS_PER_UPDATE = 1000
WIDTH = 1600
DRAW = """
from pathlib import Path
import numpy as np, sys
from treering.evaluation.figures import FigureData, draw_figures
row = {"name": "step4", "step": 4, "loss_nats": 3.5}
print(draw_figures(Path(sys.argv[1]), FigureData([], [row], {"step4": 4000}, 6.0, np.zeros(0), 1000)))
"""


def metric(value: float, name: str = "acc", **changes: Any) -> dict[str, Any]:
    about = {"metric": name, "value": value, "stderr": 0.02, "higher_is_better": True, "chance": 0.25}
    return about | {"interval": [value - 0.04, value + 0.04]} | changes


def task(name: str, *metrics: dict[str, Any], group: str | None = None) -> dict[str, Any]:
    return {"task": name, "group": group, "metrics": list(metrics)}


def record(step: int, *tasks: dict[str, Any], groups: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"revision": f"step{step}", "step": step, "tasks": list(tasks), "groups": list(groups)}


def evaluated(steps: tuple[int, ...] = (0, 1, 4, 16), tasks: int = 2, **metrics: Any) -> FigureData:
    """Some tasks on some revisions, their scores rising from chance on; `metrics` changes fields of each score."""
    records = [
        record(step, *(task(f"task_{number}", metric(0.25 + 0.02 * place, **metrics)) for number in range(tasks)))
        for place, step in enumerate(steps)
    ]
    heldout = [{"name": f"step{step}", "step": step, "loss_nats": 8.0 / (1 + step) ** 0.1} for step in steps]
    tokens: dict[str, int | None] = {f"step{step}": step * TOKENS_PER_UPDATE for step in steps}
    losses = 8.0 / np.arange(1, steps[-1] + 1) ** 0.1
    return FigureData(records, heldout, tokens, 6.5, losses, TOKENS_PER_UPDATE)


def reference(task: str = "task_0", model: str = "pythia-14m", last: int = 8000) -> dict[str, Any]:
    points = [{"tokens": tokens, "value": 0.3, "stderr": 0.01} for tokens in (0, 500, last)]
    return {"task": task, "metric": "acc", "model": model, "points": points}


def drawn(figure: Figure) -> dict[str, Any]:
    """What stands in a picture's legend, by its label."""
    legend = figure.legends[0]
    return {text.get_text(): handle for text, handle in zip(legend.texts, legend.legend_handles, strict=True)}


def curves(axes: Axes) -> list[list[tuple[float, float]]]:
    """The points of each curve with markers, the run's own first."""
    lines = [line for line in axes.lines if line.get_marker() in ("o", "s", "^", "D")]
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in lines]


def numbers(axes: Axes) -> list[str]:
    """What is written on the x axis."""
    return [text.get_text() for text in axes.get_xticklabels()]


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_there_is_a_picture_of_all_of_the_loss_and_of_each_task(tmp_path):
    names = draw_figures(tmp_path / "figures", evaluated())
    assert names == ["overview.png", "loss.png", "task_0.png", "task_1.png"]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert {size_of(tmp_path / "figures" / name)[0] for name in names} == {WIDTH}


@pytest.mark.parametrize(("tasks", "rows"), [(1, 1), (3, 1), (4, 2), (5, 2), (12, 3), (20, 5)])
def test_the_overview_has_a_panel_for_each_task_and_grows_by_rows(tasks, rows):
    figure = build_figures(evaluated(tasks=tasks))["overview.png"]
    assert [axes.get_title() for axes in figure.axes] == [f"task_{number}" for number in range(tasks)]
    assert figure.axes[0].get_gridspec().nrows == rows


def test_drawn_twice_a_picture_has_the_same_bytes(tmp_path):
    data = replace(evaluated(tasks=5), curves=[reference()])
    names = draw_figures(tmp_path / "one", data)
    assert draw_figures(tmp_path / "two", data) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_another_score_is_another_picture(tmp_path):
    draw_figures(tmp_path / "one", evaluated(tasks=1))
    draw_figures(tmp_path / "two", evaluated(tasks=1, chance=0.5))
    assert (tmp_path / "one" / "task_0.png").read_bytes() != (tmp_path / "two" / "task_0.png").read_bytes()


def test_what_a_user_has_set_of_matplotlib_changes_no_picture_and_stays_set(tmp_path):
    draw_figures(tmp_path / "one", evaluated())
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        draw_figures(tmp_path / "two", evaluated())
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "one" / "overview.png").read_bytes() == (tmp_path / "two" / "overview.png").read_bytes()


def test_a_picture_names_neither_a_program_nor_a_time(tmp_path):
    draw_figures(tmp_path, evaluated())
    content = (tmp_path / "loss.png").read_bytes()
    assert not [kind for kind in (b"tEXt", b"iTXt", b"zTXt", b"tIME") if kind in content]


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_the_letters_are_matplotlibs_own_whatever_is_installed(weight):
    with mpl.rc_context():
        mpl.rcdefaults()
        font = findfont(FontProperties(weight=weight))
    assert Path(font).is_relative_to(mpl.get_data_path())


def test_a_home_that_cannot_be_written_is_not_complained_of(tmp_path):
    home = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", DRAW, tmp_path]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=home)
    assert (process.stderr, process.stdout) == ("", "['loss.png']\n")


def test_scores_stand_at_their_tokens_and_the_untrained_model_at_0():
    axes = build_figures(evaluated())["task_0.png"].axes[0]
    assert curves(axes) == [[(0, 0.25), (1000, pytest.approx(0.27)), (4000, pytest.approx(0.29)), (16000, pytest.approx(0.31))]]
    assert axes.get_xscale() == "symlog"
    assert numbers(axes) == ["0", "1K", "3K", "10K"]
    assert "//" in [text.get_text() for text in axes.texts]


def test_without_an_untrained_model_the_axis_is_logarithmic_all_along():
    figure = build_figures(evaluated(steps=(1, 10, 1000)))["task_0.png"]
    assert figure.axes[0].get_xscale() == "log"
    assert numbers(figure.axes[0]) == ["1K", "10K", "100K", "1M"]
    assert figure.get_supxlabel() == "tokens seen (log scale)"


def test_where_no_tokens_are_known_scores_stand_at_their_steps_and_no_other_model_beside_them():
    data = evaluated()
    data = replace(data, tokens=dict.fromkeys(data.tokens), curves=[reference()])
    figure = build_figures(data)["task_0.png"]
    assert [place for place, _ in curves(figure.axes[0])[0]] == [0, 1, 4, 16]
    assert figure.get_supxlabel() == "steps (log scale; 0: untrained)"
    assert len(curves(figure.axes[0])) == 1


def test_a_revision_whose_tokens_are_not_known_is_left_out_where_others_are():
    data = evaluated()
    axes = build_figures(replace(data, tokens={**data.tokens, "step4": None}))["task_0.png"].axes[0]
    assert [place for place, _ in curves(axes)[0]] == [0, 1000, 16000]


def test_where_not_even_steps_are_known_scores_stand_at_the_revisions_names():
    records = [{**record(0, task("task_0", metric(0.3))), "revision": name, "step": None} for name in ("early", "main")]
    figures = build_figures(FigureData(records, [], {"early": None, "main": None}, None, np.zeros(0), 1))
    assert list(figures) == ["overview.png", "task_0.png"]
    assert numbers(figures["task_0.png"].axes[0]) == ["early", "main"]
    assert figures["task_0.png"].get_supxlabel() == "revisions"


@pytest.mark.parametrize(
    ("step", "number", "label"),
    [(7, "7K", "tokens seen"), (1049, "1.05M", "tokens seen"), (0, "0", "tokens seen (0: untrained)")],
)
def test_a_single_revision_is_a_point_with_its_interval(step, number, label):
    figure = build_figures(replace(evaluated(steps=(step,)), training_loss_nats=np.zeros(0)))["task_0.png"]
    assert curves(figure.axes[0]) == [[(step * 1000, 0.25)]]
    assert numbers(figure.axes[0]) == [number]
    assert figure.get_supxlabel() == label
    assert [container.has_yerr for container in figure.axes[0].containers] == [True]


def test_intervals_reach_from_their_lower_to_their_upper_end():
    axes = build_figures(evaluated(steps=(0, 4), interval=[0.1, 0.7]))["task_0.png"].axes[0]
    bars = axes.containers[0][2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [pytest.approx([0.1, 0.7])] * 2


def test_many_intervals_are_a_band():
    steps = (0, *(2**number for number in range(14)))
    axes = build_figures(evaluated(steps=steps))["task_0.png"].axes[0]
    assert not axes.containers
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    assert (low, high) == (pytest.approx(0.21), pytest.approx(0.25 + 0.02 * 14 + 0.04))


def test_a_score_without_interval_stderr_and_chance_is_drawn_all_the_same():
    figure = build_figures(evaluated(interval=None, stderr=None, chance=None))["task_0.png"]
    assert list(drawn(figure)) == ["this model"]
    assert len(curves(figure.axes[0])[0]) == 4


def test_chance_is_a_dashed_line_where_it_is_known():
    figure = build_figures(evaluated())["task_0.png"]
    assert list(drawn(figure)) == ["this model, 95 % interval", "chance"]
    assert drawn(figure)["chance"].get_linestyle() == "--"


def test_another_models_scores_are_drawn_beside_those_of_the_same_task_and_metric():
    figures = build_figures(replace(evaluated(), curves=[reference(), reference(model="pythia-70m")]))
    axes = figures["task_0.png"].axes[0]
    assert curves(axes)[1:] == [[(0, 0.3), (500, 0.3), (8000, 0.3)]] * 2
    labels = ["this model, 95 % interval", "chance", "for comparison: pythia-14m", "for comparison: pythia-70m"]
    assert list(drawn(figures["task_0.png"])) == list(drawn(figures["overview.png"])) == labels
    looks = {(line.get_marker(), line.get_linestyle()) for line in axes.lines if line.get_marker() in ("o", "s", "^")}
    assert len(looks) == 3  # to be told apart without colours
    assert len(curves(figures["task_1.png"].axes[0])) == 1


def test_another_metrics_reference_is_not_drawn():
    data = replace(evaluated(), curves=[{**reference(), "metric": "acc_norm"}])
    assert len(curves(build_figures(data)["task_0.png"].axes[0])) == 1


def test_a_longer_reference_is_seen_whole_in_every_panel():
    figure = build_figures(replace(evaluated(), curves=[reference(last=300_000_000)]))["overview.png"]
    assert {axes.get_xlim() for axes in figure.axes} == {figure.axes[0].get_xlim()}
    assert figure.axes[1].get_xlim()[1] > 300_000_000


def test_each_metric_of_a_task_has_a_panel_that_names_it_and_its_direction():
    scores = [metric(0.4), metric(0.5, "acc_norm"), metric(20.0, "perplexity", higher_is_better=False, chance=None)]
    data = replace(evaluated(steps=(4,)), harness=[record(4, task("task_0", *scores))])
    figures = build_figures(data)
    assert [axes.get_ylabel() for axes in figures["task_0.png"].axes] == [
        "acc\n(higher is better ↑)",
        "acc_norm\n(higher is better ↑)",
        "perplexity\n(lower is better ↓)",
    ]
    assert [axes.get_ylabel() for axes in figures["overview.png"].axes] == ["acc ↑"]
    assert figures["task_0.png"].legends[0].get_title().get_text() == "task_0"


@pytest.mark.parametrize(
    ("last", "higher_is_better", "scale"), [(9.0, False, "log"), (50.0, False, "linear"), (9.0, True, "linear")]
)
def test_a_perplexity_over_more_than_a_decade_has_a_logarithmic_axis(last, higher_is_better, scale):
    scores = [metric(value, interval=None, higher_is_better=higher_is_better, chance=None) for value in (100.0, last)]
    records = [record(step, task("task_0", score)) for step, score in zip((0, 4), scores, strict=True)]
    axes = build_figures(replace(evaluated(steps=(0, 4)), harness=records))["task_0.png"].axes[0]
    assert axes.get_yscale() == scale


def test_of_a_family_the_score_of_all_is_drawn_and_not_each_task():
    members = (task("blimp_one", metric(0.5), group="blimp"), task("blimp_two", metric(0.6), group="blimp"))
    records = [record(step, *members, groups=(task("blimp", metric(0.55)),)) for step in (0, 4)]
    figures = build_figures(replace(evaluated(steps=(0, 4)), harness=records))
    assert list(figures) == ["overview.png", "loss.png", "blimp.png"]
    assert [value for _, value in curves(figures["blimp.png"].axes[0])[0]] == [0.55, 0.55]


def test_names_are_written_as_they_are(tmp_path):
    name = "a_$x^2$_and_\\alpha"
    data = replace(evaluated(steps=(4,)), harness=[record(4, task(name, metric(0.4, "$m$")))])
    figures = build_figures(data)
    title = figures[f"{name}.png"].legends[0].get_title()
    assert (title.get_text(), title.get_parse_math()) == (name, False)
    assert not any(axes.yaxis.label.get_parse_math() or axes.title.get_parse_math() for axes in figures["overview.png"].axes)
    draw_figures(tmp_path, data)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 12])
def test_long_names_are_on_two_lines_apart_from_each_other_and_inside_the_picture(tasks):
    name = "a_task_with_a_very_long_name_that_goes_on_and_on_until_nobody_reads_it_any_more_to_its_end"
    records = [record(4, *(task(f"{name}_{number}", metric(0.4)) for number in range(tasks)))]
    figure = build_figures(replace(evaluated(steps=(4,)), harness=records))["overview.png"]
    FigureCanvasAgg(figure).draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert {axes.get_title().count("\n") for axes in figure.axes} == {1}
    assert all(0 <= box.x0 < box.x1 <= WIDTH and box.y1 <= figure.bbox.height for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_task_called_like_another_picture_takes_nothing_from_it():
    records = [record(4, task("loss", metric(0.4)), task("Overview", metric(0.5)))]
    figures = build_figures(replace(evaluated(steps=(4,)), harness=records))
    assert list(figures) == ["overview.png", "loss.png", "loss.task.png", "Overview.task.png"]


def test_the_loss_is_that_of_training_of_held_out_text_and_of_the_unigram_model():
    figure = build_figures(evaluated())["loss.png"]
    assert list(drawn(figure)) == ["held-out text", "unigram model, held-out text", "training text, mean and range nearby"]
    assert curves(figure.axes[0])[0][0] == (0, 8.0)
    assert figure.axes[0].get_ylabel() == "loss, nats per token\n(lower is better ↓)"


def test_what_is_not_known_is_not_drawn():
    data = replace(evaluated(), training_loss_nats=np.zeros(0), unigram_loss_nats=None)
    assert list(drawn(build_figures(data)["loss.png"])) == ["held-out text"]
    assert list(build_figures(replace(data, heldout=[]))) == ["overview.png", "task_0.png", "task_1.png"]
    assert list(build_figures(replace(data, harness=[]))) == ["loss.png"]


def test_the_first_updates_stand_alone_and_later_ones_in_growing_groups():
    losses = np.linspace(9, 3, 100_000)
    grouped = group_losses(replace(evaluated(), training_loss_nats=losses))
    assert grouped.places[:3].tolist() == [0, 1000, 2000]
    assert grouped.means[:3].tolist() == losses[:3].tolist()
    assert len(grouped.means) <= 200
    assert (grouped.lowest <= grouped.means).all()
    assert (grouped.means <= grouped.highest).all()
    assert (grouped.lowest[-1], grouped.highest[0]) == (3, 9)


@pytest.mark.parametrize("updates", [1, 2, 3, 200])
def test_each_update_is_in_one_group(updates):
    grouped = group_losses(replace(evaluated(), training_loss_nats=np.ones(updates)))
    assert grouped.means == pytest.approx(1)
    assert grouped.places[0] == 0
    assert grouped.places[-1] <= (updates - 1) * TOKENS_PER_UPDATE


@pytest.mark.parametrize("last", [1001, 1023, 1500, 2047, 3333, 9999, 123_456, 10**8, 3 * 10**11])
@pytest.mark.parametrize("columns", [1, 3, 12])
def test_an_axis_has_some_numbers_and_not_too_many(last, columns):
    data = evaluated(steps=(1, 2), tasks=columns)
    figure = build_figures(replace(data, tokens={"step1": 1001, "step2": last}))["overview.png"]
    assert all(1 <= len(numbers(axes)) <= 8 for axes in figure.axes)
    assert all(len(set(numbers(axes))) == len(numbers(axes)) for axes in figure.axes)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (20_000, "20K"), (1_500_000, "1.5M"), (999_999, "1M"), (3e11, "300B"), (2e12, "2T")],
)
def test_numbers_on_an_axis_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("name", "folded"),
    [("arc_easy", "arc_easy"), ("crows_pairs_french", "crows_pairs_\nfrench"), ("x" * 40, f"{'x' * 14}\n{'x' * 13}…")],
)
def test_a_name_is_folded_after_an_underscore_or_cut(name, folded):
    assert fold(name, 14) == folded
