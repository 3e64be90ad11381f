"""`treering new`: a recipe to start from."""

from pathlib import Path
from typing import Annotated

import typer

NAME = "new"


def command(name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the run.", show_default=False)]) -> None:
    """Write NAME.yaml: a commented recipe that runs as it is, once its card is filled in."""
    from treering.cli.terminal import command_text, print_next, say
    from treering.config.template import new_recipe
    from treering.errors import InputError
    from treering.provenance.files import write_atomically

    if name.endswith((".yaml", ".yml")):
        raise InputError(
            "this is the name of a file", expected="the name of the run", found=name, advice=f"treering new {Path(name).stem}"
        )
    path, text = Path(f"{name}.yaml"), new_recipe(name)
    if path.exists():
        raise InputError("this file is there already", where=path, advice="choose another name, or move it away")
    write_atomically(path, text.encode())
    say(f"{path}: fill in `card:`, and change what you like")
    print_next(command_text("show", path), command_text("run", path))
