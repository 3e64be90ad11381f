"""Made-up items in the forms of the harness's own tasks."""

import json
from pathlib import Path
from typing import Any

_THINGS = ("tree", "river", "stone", "cloud", "lamp", "road", "bell", "field", "boat", "wheel", "nail", "rope")


def _thing(number: int) -> str:
    return _THINGS[number % len(_THINGS)]


def items_of(task: str, count: int = 12) -> list[dict[str, Any]]:
    """So many items as the task's data set has them."""
    return [_ITEMS[task.partition("_paradigm")[0] if task.startswith("blimp") else task](number) for number in range(count)]


def write_items(path: Path, task: str, count: int = 12) -> Path:
    """Write a file of items and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items_of(task, count)), encoding="utf-8")
    return path


def _choices(number: int, count: int) -> list[str]:
    return [f"the {_thing(number + 3 * place)} of {place}" for place in range(count)]


def _arc(number: int) -> dict[str, Any]:
    choices = {"text": _choices(number, 4), "label": ["A", "B", "C", "D"]}
    return {"id": str(number), "question": f"Which is a {_thing(number)}?", "choices": choices, "answerKey": "ABCD"[number % 4]}


def _sciq(number: int) -> dict[str, Any]:
    wrong = {f"distractor{place + 1}": text for place, text in enumerate(_choices(number, 3))}
    support = f"A {_thing(number)} is near the {_thing(number + 1)}, and both are old." if number % 3 else ""
    return {
        "question": f"What is near the {_thing(number)}?",
        **wrong,
        "correct_answer": _thing(number + 1),
        "support": support,
    }


def _blimp(number: int) -> dict[str, Any]:
    return {"sentence_good": f"The {_thing(number)} is old.", "sentence_bad": f"The {_thing(number)} are old."}


_ITEMS: dict[str, Any] = {
    "arc_easy": _arc,
    "arc_challenge": _arc,
    "sciq": _sciq,
    "piqa": lambda number: {
        "goal": f"move the {_thing(number)}",
        "sol1": f"push the {_thing(number)} with a pole",
        "sol2": f"sing to the {_thing(number)}",
        "label": number % 2,
    },
    "lambada_openai": lambda number: {"text": f"They saw the {_thing(number)}. Nobody else had seen the {_thing(number)}"},
    "winogrande": lambda number: {
        "sentence": f"The {_thing(number)} did not fit the box because the _ was too large.",
        "option1": _thing(number),
        "option2": "box",
        "answer": str(1 + number % 2),
    },
    "wsc": lambda number: {
        "text": f"The {_thing(number)} fell on the road because it was heavy .",
        "span1_index": 0,
        "span2_index": 7,
        "span1_text": f"The {_thing(number)}",
        "span2_text": "it",
        "idx": number,
        "label": number % 2,
    },
    "logiqa": lambda number: {
        "label": "abcd"[number % 4],
        "context": f"All of the {_thing(number)}s are old.",
        "question": "What follows?",
        "options": _choices(number, 4),
    },
    "hellaswag": lambda number: {
        "activity_label": "Boats",
        "ctx_a": f"A {_thing(number)} lies on the shore.",
        "ctx_b": "someone",
        "ctx": f"A {_thing(number)} lies on the shore. someone",
        "endings": [f"takes {choice} away" for choice in _choices(number, 4)],
        "label": str(number % 4),
    },
    "blimp": _blimp,
}
