"""YAML 1.2 text to plain values with the line of each, and plain values to YAML text.

The scanner, parser and resolver are ruamel.yaml's. Values are built here, because a recipe takes less than YAML offers:
no repeated keys, no merge keys, no tags, no endless nesting, and every place keeps its line.
"""

from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, Event
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter

from treering.errors import RecipeError

Place = tuple[str | int, ...]


class Problem(NamedTuple):
    """Where in a recipe something is wrong, and a sentence that says what."""

    place: Place
    sentence: str


_MOST_VALUES = 10_000
_DEEPEST = 32
_TAG = "tag:yaml.org,2002:"
_TEXTS = ("str", "timestamp", "value", "merge")  # without quotes: words, dates, `=` and `<<`


def read_yaml(text: str, where: object) -> tuple[Any, dict[Place, int]]:
    """Return the value that a YAML text spells, lists as tuples, and the line on which each place of it begins.

    Raises:
        RecipeError: When it is not one YAML 1.2 document, repeats a key, uses tags or merge keys, or is too large or too deep.
    """
    try:
        _refuse_excess(_yaml().parse(text))  # first, because composing recurses
        root = _yaml().compose(text)
    except _Refusal as refusal:
        raise RecipeError(where, [str(refusal)]) from None
    except YAMLError as error:
        raise RecipeError(where, [_syntax_problem(error, text)]) from error
    builder = _Builder()
    try:
        value = None if root is None else builder.build(root, ())
    except _Refusal as refusal:
        raise RecipeError(where, [str(refusal)]) from None
    if builder.problems:
        raise RecipeError(where, builder.problems)
    return value, builder.lines


def write_yaml(value: Any) -> str:
    """Return a JSON value as YAML 1.2 text that `read_yaml` reads back to the same value."""
    stream = StringIO()
    yaml = _yaml()
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.width = 1000
    yaml.dump(value, stream)
    return stream.getvalue()


def dotted(place: Place) -> str:
    """Return a place as it is written in messages, such as `corpus.sources.0.path`."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in place)


def sentences(problems: Iterable[Problem], lines: Mapping[Place, int]) -> list[str]:
    """Return each problem with the line of its place, or of the nearest around it that has one, in the order of the lines."""
    located = [(_line_of(problem.place, lines), problem) for problem in problems]
    located.sort(key=lambda pair: pair[0])
    return [f"{f'line {line}: ' if line else ''}{dotted(place)}: {sentence}" for line, (place, sentence) in located]


class _Representer(SafeRepresenter):
    """Writes text with anything but printable characters in double quotes, escaped: the plain style loses some line ends."""

    def represent_text(self, text: str) -> ScalarNode:
        return self.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


_Representer.add_representer(str, _Representer.represent_text)


class _Refusal(Exception):
    """The text is YAML, but more than a recipe can be."""


class _Builder:
    """Builds the value of a node; gathers the line of every place, and all problems that leave the rest readable."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.problems: list[str] = []
        self._values = 0

    def build(self, node: Node, place: Place) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _Refusal(f"aliases expand to more than {_MOST_VALUES} values")
        if len(place) > _DEEPEST:
            raise _Refusal(f"{_line(node)}an alias stands inside what it names, or aliases nest more than {_DEEPEST} deep")
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return tuple(self._item(item, (*place, index)) for index, item in enumerate(node.value))
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            name = self._name(key, place)
            here = (*place, name)
            if name in result:
                self._note(key, here, f"this field stands twice, first on line {self.lines[here]}")
                continue
            self.lines[here] = key.start_mark.line + 1
            result[name] = self.build(value, here)
        return result

    def _item(self, node: Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.build(node, place)

    def _name(self, key: Node, place: Place) -> str:
        if not isinstance(key, ScalarNode):
            self._note(key, place, "a field's name is text, found a list or a mapping")
            return ""
        if key.tag == _TAG + "merge":
            self._note(key, (*place, key.value), "merge keys are YAML 1.1's: spell the fields out")
        elif key.tag.removeprefix(_TAG) not in _TEXTS:
            self._note(key, (*place, key.value), f"a field's name is text, found {key.value}: put it in quotes")
        return self._text(key, place)

    def _scalar(self, node: Node, place: Place) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, ScalarNode) and kind in _TEXTS:
            return self._text(node, place)
        if not isinstance(node, ScalarNode) or kind not in _VALUES:
            self._note(node, place, f"a recipe has no tags, found {node.tag.replace(_TAG, '!!')}")
            return None
        try:
            return _VALUES[kind](node.value)
        except ValueError:
            self._note(node, place, "this number cannot be read")
            return None

    def _text(self, node: ScalarNode, place: Place) -> str:
        try:
            node.value.encode()
        except UnicodeEncodeError:
            self._note(
                node, place, "half of a surrogate pair is no character; write the character itself, or \\U with 8 digits"
            )
            return ""
        return node.value

    def _note(self, node: Node, place: Place, sentence: str) -> None:
        name = f"{dotted(place)}: " if place else ""
        self.problems.append(f"{_line(node)}{name}{sentence}")


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _line_of(place: Place, lines: Mapping[Place, int]) -> int:
    return next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), 0)


def _line(node: Node | Event) -> str:
    return f"line {node.start_mark.line + 1}: "


def _integer(text: str) -> int:
    """Return an integer in decimal (leading zeros are no octal), or with 0x, 0o or 0b."""
    digits = text.lstrip("+-")
    return int(text, 0) if digits[:2].lower() in ("0x", "0o", "0b") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_VALUES: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": _float,
}


def _refuse_excess(events: Iterable[Event]) -> None:
    depth = 0
    for count, event in enumerate(events):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        elif isinstance(event, DocumentStartEvent) and event.version not in (None, (1, 2)):
            raise _Refusal(f"a recipe is YAML 1.2, found %YAML {'.'.join(str(part) for part in event.version)}")
        if depth > _DEEPEST:
            raise _Refusal(f"{_line(event)}nested more than {_DEEPEST} deep")
        if count > 2 * _MOST_VALUES:  # a mapping's keys are events too
            raise _Refusal(f"more than {_MOST_VALUES} values")


def _syntax_problem(error: YAMLError, text: str) -> str:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: character U+{error.character:04X} has no place in YAML"
    if not isinstance(error, MarkedYAMLError):
        return str(error).partition("\n")[0]
    problem = (error.problem or str(error)).partition("\n")[0]
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    advice = ": indent with spaces" if "'\\t'" in problem else ""
    mark = error.problem_mark or error.context_mark
    return f"{'' if mark is None else f'line {mark.line + 1}: '}{problem}{advice}"
