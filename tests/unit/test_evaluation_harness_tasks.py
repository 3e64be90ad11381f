"""Tasks of the harness by name: which there are, where their items lie, and what of them is recorded."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from evaluation_making import make_run, with_evaluation
from harness_items import write_items

from treering.config.run_directory import RunDirectory
from treering.errors import EnvironmentMismatch, InputError
from treering.evaluation.harness_building import build_task
from treering.evaluation.harness_scores import MetricScore, TaskScore, score_groups
from treering.evaluation.stage import evaluate
from treering.evaluation.tasks.catalogue import find_tasks
from treering.evaluation.tasks.harness_index import find_harness_tasks, known_names

PYTHIA = ("lambada_openai", "piqa", "winogrande", "wsc", "arc_easy", "arc_challenge", "sciq", "logiqa")


def names_of(*entries: str, data: Any = None) -> list[str]:
    return [task.definition.name for task in find_tasks(entries, data)]


def test_pythias_set_and_a_family_stand_for_their_tasks() -> None:
    assert names_of("pythia", "number_agreement") == [*PYTHIA, "number_agreement"]
    paradigms = names_of("blimp")
    assert len(paradigms) == len(set(paradigms)) == 67
    assert all(name.startswith("blimp_") for name in paradigms)
    assert names_of("blimp_adjunct_island") == ["blimp_adjunct_island"]


def test_every_task_of_the_table_is_in_the_installed_harness() -> None:
    for name in known_names():
        for task in find_harness_tasks(name):
            assert task.file.is_file()
            assert task.what_it_measures
            assert task.chance


def test_a_task_that_no_table_knows_is_found_in_the_harness() -> None:
    (task,) = find_tasks(["copa"])
    assert (task.definition.name, task.definition.config["dataset_path"]) == ("copa", "aps/super_glue")


@pytest.mark.parametrize(("entry", "near"), [("arc_eazy", "arc_easy"), ("blimb", "blimp"), ("pythias", "pythia")])
def test_an_unknown_name_is_refused_with_the_nearest(entry: str, near: str) -> None:
    with pytest.raises(InputError, match=f"did you mean `{near}`"):
        find_tasks([entry])


def test_a_task_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="two tasks are called `piqa`"):
        find_tasks(["pythia", "piqa"])


@pytest.mark.parametrize(
    ("place", "task"),
    [
        ("arc_easy.jsonl", "arc_easy"),
        ("arc_easy/test.jsonl", "arc_easy"),
        ("piqa/validation.jsonl", "piqa"),
        ("blimp/adjunct_island.jsonl", "blimp_adjunct_island"),
        ("blimp/blimp_adjunct_island.jsonl", "blimp_adjunct_island"),
    ],
)
def test_items_are_found_in_a_folder(tmp_path: Path, place: str, task: str) -> None:
    path = write_items(tmp_path / place, "blimp" if task.startswith("blimp") else task)
    (found,) = find_tasks([task], str(tmp_path))
    assert list(found.definition.data_files.values()) == [path]


def test_a_path_for_a_task_or_a_family_is_taken(tmp_path: Path) -> None:
    easy = write_items(tmp_path / "somewhere" / "validation.jsonl", "arc_easy")
    write_items(tmp_path / "many" / "adjunct_island.jsonl", "blimp")
    data = {"arc_easy": str(easy), "blimp": str(tmp_path / "many")}
    tasks = {task.definition.name: task.definition.data_files for task in find_tasks(["arc_easy"], {"arc_easy": str(easy)})}
    assert tasks == {"arc_easy": {"test": easy}}  # a file is the split that is scored
    with pytest.raises(InputError, match=r"split of `blimp_anaphor_gender_agreement` that the harness scores is not there"):
        find_tasks(["arc_easy", "blimp"], data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"arc_easy": "nowhere.jsonl"}, "there are no items"),
        (
            {"arc_hard": "nowhere.jsonl"},
            r"no such task of the harness among evaluation.tasks: `arc_hard`[\s\S]*expected: arc_easy",
        ),
    ],
)
def test_items_that_are_not_there_are_refused(data: dict[str, str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        find_tasks(["arc_easy"], data)


def test_a_folder_without_the_scored_split_is_refused(tmp_path: Path) -> None:
    write_items(tmp_path / "arc_easy" / "validation.jsonl", "arc_easy")
    with pytest.raises(InputError, match=r"expected: test.jsonl\n  found:    validation.jsonl"):
        find_tasks(["arc_easy"], str(tmp_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("named")
    for name in PYTHIA:
        split = "validation" if name in ("piqa", "winogrande", "wsc") else "test"
        write_items(folder / "items" / name / f"{split}.jsonl", name)
        write_items(folder / "items" / name / "train.jsonl", name, 4)
    for task in find_harness_tasks("blimp")[:67]:
        write_items(folder / "items" / "blimp" / f"{task.name}.jsonl", "blimp", 4)
    run = make_run(folder / "run", steps=(0, 4), tasks=("pythia", "blimp"), data=str(folder / "items"))
    evaluate(run)
    return run


def harness(run: RunDirectory, revision: str = "step4") -> dict[str, Any]:
    return json.loads((run.stage("evaluation") / "harness" / f"{revision}.json").read_text())


def test_every_task_is_scored_on_every_revision(whole: RunDirectory) -> None:
    for revision in ("step0", "step4"):
        found = harness(whole, revision)
        assert [task["task"] for task in found["tasks"]][: len(PYTHIA)] == list(PYTHIA)
        assert len(found["tasks"]) == len(PYTHIA) + 67
        assert {task["samples"] for task in found["tasks"][: len(PYTHIA)]} == {12}
    metrics = {f"{task['task']} {metric['metric']}": metric for task in harness(whole)["tasks"] for metric in task["metrics"]}
    assert metrics["arc_easy acc"]["chance"] == 0.25
    assert metrics["lambada_openai perplexity"]["higher_is_better"] is False
    assert metrics["lambada_openai perplexity"]["chance"] is None


def test_a_family_has_one_score(whole: RunDirectory) -> None:
    found = harness(whole)
    (group,) = found["groups"]
    members = [task["metrics"][0] for task in found["tasks"] if task["group"] == "blimp"]
    assert (group["task"], group["tasks"], group["samples"]) == ("blimp", 67, 67 * 4)
    assert group["metrics"][0]["value"] == pytest.approx(sum(metric["value"] for metric in members) / 67, rel=1e-12)
    spread = sum(metric["stderr"] ** 2 for metric in members) ** 0.5 / 67
    assert group["metrics"][0]["stderr"] == pytest.approx(spread, rel=1e-12)


def test_a_weighted_family_is_weighted(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"what_it_measures": "all", "chance": {}, "weighted": True}
    monkeypatch.setattr("treering.evaluation.harness_scores.family_of", lambda _: about)
    scores = [
        TaskScore(name, "all", "1", name, samples, 0, 0, "", "", {}, (MetricScore("acc", value, 0.1, None, True, None),))
        for name, samples, value in (("a", 10, 0.2), ("b", 30, 0.6))
    ]
    (group,) = score_groups(scores)
    assert group.metrics[0].value == pytest.approx(0.5)


def test_others_items_stay_where_they_are_and_their_digests_are_kept(whole: RunDirectory) -> None:
    kept = whole.stage("evaluation") / "tasks"
    assert not list(kept.glob("*.jsonl"))
    record = json.loads((kept / "winogrande.json").read_text())
    assert sorted(record["items"]) == ["train", "validation"]
    assert list(record["code"]) == ["winogrande/preprocess_winogrande.py"]
    assert record["config"]["doc_to_text"] == "winogrande/preprocess_winogrande.doc_to_text"
    text = b"".join(path.read_bytes() for path in kept.iterdir()).decode()
    assert str(whole.path.parent) not in text
    assert "site-packages" not in text


def test_a_changed_item_makes_another_evaluation(tmp_path: Path) -> None:
    path = write_items(tmp_path / "piqa.jsonl", "piqa")
    run = make_run(tmp_path / "run", steps=(0,), tasks=("piqa",), data={"piqa": str(path)})
    first = evaluate(run).digest
    assert evaluate(run).digest == first
    write_items(path, "piqa", 11)
    assert evaluate(run).digest != first


def test_solved_items_come_from_another_split_or_not_at_all(tmp_path: Path) -> None:
    write_items(tmp_path / "items" / "arc_easy" / "test.jsonl", "arc_easy")
    run = make_run(tmp_path / "run", steps=(0,), tasks=("arc_easy",), data=str(tmp_path / "items"), num_fewshot=2)
    with pytest.raises(
        InputError, match="2 solved items in front of each would be drawn from those of `arc_easy` that are scored"
    ):
        evaluate(run)
    assert not (run.path / ".evaluation.working").exists()  # said before anything was scored
    write_items(tmp_path / "items" / "arc_easy" / "train.jsonl", "arc_easy", 6)
    evaluate(run)
    assert harness(run, "step0")["tasks"][0]["num_fewshot"] == 2


def test_items_that_cannot_be_downloaded_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # noqa: PLC0415

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no way")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    run = make_run(tmp_path / "run", steps=(0,), tasks=("sciq",))
    with pytest.raises(
        InputError, match=r"items of the task `sciq` cannot be downloaded[\s\S]*ConnectionError[\s\S]*evaluation.data"
    ):
        evaluate(run)


def test_items_that_are_downloaded_are_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # noqa: PLC0415
    from harness_items import items_of  # noqa: PLC0415

    asked = []

    def give(path: str, name: str | None = None, **_: Any) -> Any:
        asked.append((path, name))
        return {split: datasets.Dataset.from_list(items_of("sciq")) for split in ("train", "validation", "test")}

    monkeypatch.setattr(datasets, "load_dataset", give)
    run = make_run(tmp_path / "run", steps=(0,), tasks=("sciq",))
    evaluate(run)
    (task,) = harness(run, "step0")["tasks"]
    assert asked == [("allenai/sciq", None)]
    assert (task["samples"], task["data_digest"][:7]) == (12, "sha256:")


def test_an_answer_that_no_model_of_the_size_can_read_is_refused_by_the_tasks_name(tmp_path: Path) -> None:
    path = write_items(tmp_path / "piqa.jsonl", "piqa")
    long = {"goal": "go", "sol1": "on and on " * 200, "sol2": "stop", "label": 0}
    path.write_text(path.read_text() + json.dumps(long) + "\n")
    run = make_run(tmp_path / "run", steps=(0,), tasks=("piqa",), data={"piqa": str(path)})
    with pytest.raises(
        InputError, match=r"answers of the task `piqa` are longer than the model can read[\s\S]*found:    1 of 26"
    ):
        evaluate(run)


def test_a_mapping_and_a_folder_of_items_are_in_the_resolved_recipe(whole: RunDirectory) -> None:
    other = with_evaluation(whole, data={"piqa": "a.jsonl"})
    assert other.recipe.model_dump(mode="json")["evaluation"]["data"] == {"piqa": "a.jsonl"}


def test_no_code_from_the_folder_one_is_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate.load("f1")` runs `f1/f1.py` of the working folder, were it let."""
    for name in ("f1", "code_eval", "exact_match"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    # The folder is looked at before the Hub, and only the Hub is waited for.
    for place in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{place}.HF_HUB_OFFLINE", True)
    for task in ("kobest_wic", "humaneval", "squad_completion", "mmlu_pro_math"):
        with pytest.raises((InputError, EnvironmentMismatch)):
            evaluate(make_run(tmp_path / task, steps=(0,), tasks=(task,)))
    assert not (tmp_path / "ran").exists()


def test_a_folder_with_the_name_of_a_data_set_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_items(tmp_path / "allenai" / "sciq" / "test.jsonl", "sciq")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a folder here has the name of the data set"):
        evaluate(make_run(tmp_path / "run", steps=(0,), tasks=("sciq",)))


@pytest.mark.parametrize("place", ["nowhere", "arc_easy.jsonl"])
def test_a_folder_of_items_that_lacks_a_task_is_refused(tmp_path: Path, place: str) -> None:
    write_items(tmp_path / "arc_easy.jsonl", "arc_easy")
    with pytest.raises(InputError, match=r"the items of `sciq` are not there[\s\S]*expected: sciq.jsonl or sciq"):
        find_tasks(["sciq"], str(tmp_path / place))


def test_a_family_can_be_named_for_one_of_its_tasks(tmp_path: Path) -> None:
    path = write_items(tmp_path / "many" / "adjunct_island.jsonl", "blimp")
    (task,) = find_tasks(["blimp_adjunct_island"], {"blimp": str(tmp_path / "many")})
    assert list(task.definition.data_files.values()) == [path]


def test_another_version_of_the_harness_makes_another_evaluation_and_another_place_of_the_items_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = (write_items(tmp_path / name / "piqa.jsonl", "piqa") for name in ("one", "two"))
    run = make_run(tmp_path / "run", steps=(0,), tasks=("piqa",), data={"piqa": str(path)})
    first = evaluate(run).digest
    assert evaluate(with_evaluation(run, data={"piqa": str(other)})).digest == first
    for module in ("stage", "harness_records"):
        monkeypatch.setattr(f"treering.evaluation.{module}.harness_version", lambda: "9.9")
    assert evaluate(run).digest != first


def test_a_task_that_draws_draws_the_same_each_time(tmp_path: Path) -> None:
    rows = [
        {
            "Question": f"What is {number}?",
            "Correct Answer": f"it is {number}",
            **{f"Incorrect Answer {place}": f"it is {number + place}" for place in (1, 2, 3)},
        }
        for number in range(12)
    ]
    path = tmp_path / "gpqa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (task,) = find_tasks(["gpqa_main_zeroshot"], {"gpqa_main_zeroshot": str(path)})
    random.seed(5)
    before = random.getstate()
    built = [build_task(task.definition, 0) for _ in range(2)]
    assert random.getstate() == before
    first, second = ([item["answer"] for _, item in each.tasks["tasks"]["gpqa_main_zeroshot"].doc_iterator()] for each in built)
    assert first == second
    assert len(set(first)) > 1
