"""Task files: read as data, refused where they could run code or cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_making import COLOURS, write_task

from treering.errors import InputError
from treering.evaluation.tasks.catalogue import FileTask, OwnTask, find_tasks
from treering.evaluation.tasks.definition import read_definition


def test_a_task_file_is_read_with_its_items(tmp_path: Path) -> None:
    [task] = find_tasks([str(write_task(tmp_path, COLOURS))])
    assert isinstance(task, FileTask)
    assert task.definition.name == "colours"
    assert list(task.definition.data_files.values()) == [tmp_path / "items.jsonl"]
    assert list(task.reads) == ["tasks/colours"]


def test_what_a_task_measures_and_its_chance_come_from_its_metadata(tmp_path: Path) -> None:
    said = {"version": 1, "what_it_measures": "Whether it knows colours", "chance": {"acc": 0.5}}
    definition = read_definition(write_task(tmp_path, COLOURS, metadata=said))
    assert (definition.what_it_measures, definition.chance) == ("Whether it knows colours", {"acc": 0.5})
    unsaid = read_definition(write_task(tmp_path, COLOURS))
    assert "colours" in unsaid.what_it_measures
    assert unsaid.chance == {}


def test_an_included_file_is_read_with_the_including_one_laid_over_it(tmp_path: Path) -> None:
    path = write_task(tmp_path, COLOURS)
    (tmp_path / "variant.yaml").write_text("include: colours.yaml\ntask: shades\n", encoding="utf-8")
    definition = read_definition(tmp_path / "variant.yaml")
    assert definition.config == {**read_definition(path).config, "task": "shades"}


@pytest.mark.parametrize(
    "line",
    [
        "process_docs: !function utils.process",
        "doc_to_text: !!python/name:os.system",
        "description: !!python/object/apply:os.system ['id']",
        "tag: !anything else",
    ],
)
@pytest.mark.parametrize("included", [False, True])
def test_tags_are_refused_because_task_files_are_untrusted(tmp_path: Path, line: str, included: bool) -> None:
    path = write_task(tmp_path, COLOURS)
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in json.loads(path.read_text()).items())
    path.write_text(f"{text}\n{line}\n", encoding="utf-8")
    last_line = f"{path}, line {len(text.splitlines()) + 1}"
    (tmp_path / "outer.yaml").write_text("include: [colours.yaml]\n", encoding="utf-8")
    with pytest.raises(InputError, match="untrusted") as refused:
        find_tasks([str(tmp_path / "outer.yaml" if included else path)])
    assert refused.value.where == last_line


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"process_docs": "utils.py"}, "`process_docs` is refused"),
        ({"class": "x"}, "`class` is refused"),
        ({"group": "x"}, "`group` is refused"),
        ({"use_prompt": "promptsource:x"}, "`use_prompt` is refused"),
        ({"custom_dataset": "x"}, "`custom_dataset` is refused"),
        ({"unsafe_code": True}, "`unsafe_code` is refused"),
        ({"doc_to_txt": "x"}, "did you mean `doc_to_text`"),
        ({"task": "../../evil"}, "`task` has to be a name"),
        ({"task": None}, "`task` has to be a name"),
        ({"doc_to_text": {"a": 1}}, "`doc_to_text` has to be"),
        ({"dataset_path": "allenai/ai2_arc"}, "dataset_path: json"),
        ({"dataset_kwargs": {"data_files": {"test": "items.jsonl"}, "trust_remote_code": True}}, "dataset_path: json"),
        ({"dataset_kwargs": {"data_files": {"test": ["a", "b"]}}}, "one file"),
        ({"dataset_kwargs": {"data_files": {"test": "../items.jsonl"}}}, "own folder"),
        ({"dataset_kwargs": {"data_files": {"test": "/etc/passwd"}}}, "own folder"),
        ({"include": "../other.yaml"}, "own folder"),
        ({"metadata": {"chance": {"acc": float("inf")}}}, "numbers from 0 to 1"),
        ({"dataset_name": "x"}, "dataset_path: json"),
        ({"test_split": None}, "`test_split` or `validation_split`"),
        ({"fewshot_split": "train"}, "no data file is given for the split 'train'"),
        ({"metric_list": [{"metric": "./evil.py"}]}, "metric './evil.py' is not one of"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "as code"),
        ({"metric_list": [{"metric": "acc", "aggregation": "evil"}]}, "aggregation 'evil' is not one of"),
        ({"filter_list": [{"name": "x", "filter": [{"function": "custom"}]}]}, "filter 'custom' is not one of"),
        ({"fewshot_config": {"sampler": "evil"}}, "sampler 'evil' is not one of"),
        ({"generation_kwargs": {"do_sample": True}}, "another score each time"),
        ({"generation_kwargs": {"temperature": 0.7}}, "another score each time"),
        ({"metadata": [1]}, "`metadata` has to be a mapping"),
        ({"metadata": {"chance": {"acc": "half"}}}, "metrics to numbers"),
        ({"metadata": {"what_it_measures": 3}}, "has to be a sentence"),
    ],
)
def test_a_task_that_could_run_code_or_cannot_be_used_is_refused(tmp_path: Path, fields: dict[str, Any], sentence: str) -> None:
    path = write_task(tmp_path, COLOURS, **fields)
    with pytest.raises(InputError) as refused:
        find_tasks([str(path)])
    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)


def test_every_problem_of_a_task_is_named_at_once(tmp_path: Path) -> None:
    path = write_task(tmp_path, COLOURS, unsafe_code=True, use_prompt="x", dataset_path="piqa")
    with pytest.raises(InputError, match=r"(?s)unsafe_code.*use_prompt.*dataset_path|use_prompt.*unsafe_code.*dataset_path"):
        find_tasks([str(path)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"task: [unclosed", "not YAML"),
        (b"- a\n- b\n", "mapping"),
        (b"", "mapping"),
        (b"task: \xff\xfe", "not UTF-8"),
        (b"a: &x 1\nb: *x\n", "aliases are refused"),
        (b"include: self.yaml\n", "too deeply"),
        (b"include: absent.yaml\n", "no such task file"),
        (b"x: " + b"y" * (1 << 20), "too large"),
    ],
)
def test_a_file_that_is_no_task_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "self.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        find_tasks([str(path)])


def test_a_missing_task_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such task file"):
        find_tasks([str(tmp_path / "absent.yaml")])
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(InputError, match="this is a folder"):
        find_tasks([str(tmp_path / "folder.yaml")])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "holds no items"),
        (['{"a": 1}', "{broken"], "line 2"),
        (['{"a": 1}', "[1]"], "line 2"),
        (['{"a": 1}', '{"b": 1}'], "line 2"),
        (['{"a": 1}', '{"a": 1}', "\udcff"], "line 3"),
    ],
)
def test_items_that_cannot_be_read_are_refused_with_file_and_line(tmp_path: Path, lines: list[str], sentence: str) -> None:
    path = write_task(tmp_path, COLOURS)
    (tmp_path / "items.jsonl").write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=sentence) as refused:
        find_tasks([str(path)])
    assert "items.jsonl" in str(refused.value)


def test_missing_items_are_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path, COLOURS)
    (tmp_path / "items.jsonl").unlink()
    with pytest.raises(InputError, match="no such file of items"):
        find_tasks([str(path)])


def test_own_tasks_are_found_by_name_in_the_order_of_the_recipe() -> None:
    tasks = find_tasks(["number_agreement", "heldout_perplexity"])
    assert all(isinstance(task, OwnTask) for task in tasks)
    assert [task.definition.name for task in tasks] == ["number_agreement", "heldout_perplexity"]


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all() -> None:
    with pytest.raises(InputError, match="did you mean `number_agreement`") as refused:
        find_tasks(["number_agreements"])
    assert "heldout_perplexity, heldout_continuation, number_agreement" in str(refused.value)
    with pytest.raises(InputError, match="no task `zzz`") as refused:
        find_tasks(["zzz"])
    assert "did you mean" not in str(refused.value)


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two tasks are called `number_agreement`"):
        find_tasks(["number_agreement", str(write_task(tmp_path, COLOURS, task="number_agreement"))])


def test_another_item_or_another_field_gives_another_digest(tmp_path: Path) -> None:
    def digest(folder: str, items: list[dict[str, Any]], **fields: Any) -> str:
        [task] = find_tasks([str(write_task(tmp_path / folder, items, **fields))])
        return task.reads["tasks/colours"]

    assert digest("first", COLOURS) == digest("second", COLOURS)
    assert digest("first", COLOURS) != digest("third", COLOURS[:3])
    assert digest("first", COLOURS) != digest("fourth", COLOURS, description="Colours.")
