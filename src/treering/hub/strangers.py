"""What strangers wrote, as it may be shown."""

from collections.abc import Sequence

_SHOWN_CHARACTERS = 300
_SHOWN_NAMES = 12


def shown(text: object, most: int = _SHOWN_CHARACTERS) -> str:
    """Return a stranger's text as it may stand on a terminal: on one line, nothing that is obeyed, and not without end."""
    whole = " ".join(str(text)[: 4 * most].split())
    visible = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in whole)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def named(names: Sequence[str], most: int = _SHOWN_NAMES) -> str:
    """Return names as an enumeration; past so many of them the ones between are left out, and all are counted."""
    safe = [shown(name, 120) for name in names]
    if len(safe) <= most:
        return ", ".join(safe)
    return f"{', '.join(safe[: most - 2])}, … {safe[-1]} ({len(safe):,} in all)"
