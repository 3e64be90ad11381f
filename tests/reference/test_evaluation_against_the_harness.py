"""Scores are those of the LM Evaluation Harness's own evaluation, with its own model class, of the same items."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from evaluation_making import make_run, tiny_model
from harness_items import items_of, write_items
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from treering.config.run_directory import RunDirectory
from treering.evaluation.likelihoods import score_continuations
from treering.evaluation.stage import evaluate
from treering.evaluation.tasks.catalogue import find_tasks
from treering.evaluation.tasks.harness_index import find_harness_tasks
from treering.revisions.loading import load_model, load_tokenizer

TASKS = (
    "lambada_openai",
    "piqa",
    "winogrande",
    "wsc",
    "arc_easy",
    "arc_challenge",
    "sciq",
    "logiqa",
    "hellaswag",
    "blimp_adjunct_island",
)
UNIT = 2**-24


def by_the_harness(run: RunDirectory, files: dict[str, Path], num_fewshot: int) -> dict[str, dict[str, Any]]:
    """What the harness says, through its registry and its own `evaluate`, of tasks that include its files."""
    folder = run.path.parent / "included"
    folder.mkdir()
    for name, path in files.items():
        (known,) = find_harness_tasks(name)
        (task,) = find_tasks([name], {name: str(path)})
        absent = {f"{split}_split": None for split in ("training", "validation", "fewshot")}
        splits = {key: value for key, value in task.definition.config.items() if key.endswith("_split")}
        kept = {key: value for key, value in splits.items() if value in task.definition.data_files}
        data = {"dataset_path": "json", "dataset_name": None}
        data["dataset_kwargs"] = {"data_files": {split: str(file) for split, file in task.definition.data_files.items()}}
        body = {"include": str(known.file), **absent, **kept, **data, "task": name}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    revision = run.stage("revisions") / "step4"
    model = HFLM(pretrained=load_model(revision, torch.float32), tokenizer=load_tokenizer(revision), batch_size=8, device="cpu")
    results = simple_evaluate(
        model,
        tasks=list(files),
        task_manager=TaskManager(include_defaults=False, include_path=str(folder)),
        num_fewshot=num_fewshot,
        bootstrap_iters=1000,
    )
    return results["results"]  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_scores_are_the_harnesss(tmp_path: Path, num_fewshot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = TASKS if num_fewshot == 0 else ("arc_easy", "sciq", "piqa")
    files = {}
    for name in names:
        split = "validation" if name in ("piqa", "winogrande", "wsc", "hellaswag") else "test"
        folder = tmp_path / "items" / name
        write_items(folder / f"{split}.jsonl", "blimp" if name.startswith("blimp") else name, 40)
        if name == "arc_easy" and not num_fewshot:  # longer than the model reads: its beginning is dropped
            long = items_of(name, 1)[0] | {"question": "Which of all these old things is it? " * 30}
            with (folder / f"{split}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(long) + "\n")
        files[name] = folder / f"{split}.jsonl" if num_fewshot == 0 else folder
        if num_fewshot:
            write_items(folder / "train.jsonl", name, 6)
    data = {name: str(path) for name, path in files.items()}
    run = make_run(tmp_path / "run", steps=(0, 4), tasks=names, data=data, num_fewshot=num_fewshot)
    evaluate(run)
    ours = json.loads((run.stage("evaluation") / "harness" / "step4.json").read_text())["tasks"]
    assert {task["task"]: task["truncated"] for task in ours}["arc_easy"] == (0 if num_fewshot else 4)
    theirs = by_the_harness(run, files, num_fewshot)
    for task in ours:
        for metric in task["metrics"]:
            found, expected = metric["value"], theirs[task["task"]][f"{metric['metric']},none"]
            if metric["metric"] == "perplexity":
                # A mean of some tens of log probabilities, each of a few products of rounding error UNIT × logit (of up to 30).
                assert found == pytest.approx(expected, rel=64 * UNIT * 30), task["task"]
                continue
            assert found == expected, (task["task"], metric["metric"])
            assert metric["stderr"] == theirs[task["task"]][f"{metric['metric']}_stderr,none"]


def test_a_shared_context_gives_what_each_pair_alone_gives() -> None:
    model, generator = tiny_model(3), torch.Generator().manual_seed(5)

    def draw(count: int) -> list[int]:
        return torch.randint(0, 700, (count,), generator=generator).tolist()

    pairs = [(context, draw(1 + number)) for context in (draw(40), draw(17), draw(3)) for number in range(4)]
    pairs += [(draw(5), draw(2)), (pairs[0][0], draw(60))]
    together, told = score_continuations(model, pairs, 3, lambda _: None), []
    alone = [score_continuations(model, [pair], 1, told.append)[0] for pair in pairs]
    assert told == [1] * len(pairs)
    for (nats, greedy), (expected, expected_greedy) in zip(together, alone, strict=True):
        assert nats == pytest.approx(expected, abs=64 * UNIT * 30 * 60)  # 60 targets, each of a few products
        assert greedy == expected_greedy
    with torch.inference_mode():
        for (context, continuation), (nats, greedy) in zip(pairs, together, strict=True):
            logits = model(torch.tensor([[*context, *continuation[:-1]]])).logits[0, len(context) - 1 :].double()
            targets = torch.tensor(continuation)
            assert nats == pytest.approx(
                float(logits.log_softmax(-1).gather(1, targets[:, None]).sum()), abs=64 * UNIT * 30 * 60
            )
            assert greedy == bool((logits.argmax(-1) == targets).all())


def test_what_is_likeliest_is_seen_as_greedy() -> None:
    model = tiny_model(3)
    context = list(range(30, 60))
    with torch.inference_mode():
        first = int(model(torch.tensor([context])).logits[0, -1].argmax())
        second = int(model(torch.tensor([[*context, first]])).logits[0, -1].argmax())
    pairs = [(context, [first, second]), (context, [first, (second + 1) % 700]), (context, [(first + 1) % 700])]
    assert [greedy for _, greedy in score_continuations(model, pairs, 8, lambda _: None)] == [True, False, False]
