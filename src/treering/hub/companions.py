"""The cards of what is published beside a model: its data set and its checkpoints."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from treering.config.schema import Recipe

_SHARDS = [{"split": split, "path": f"corpus/{split}-*.jsonl"} for split in ("train", "validation")]


def data_card(recipe: Recipe, name: str, *, texts: bool) -> str:
    """Return the card of a release's data set.

    Args:
        name: ORG/NAME of the model.
        texts: Whether documents and tokens are in it; their license is their owners' matter, so the card names none.
    """
    if texts:
        metadata = {"configs": [{"config_name": "default", "data_files": _SHARDS}]}
        what = "The documents, tokens and training order"
        more = "The documents are as the training saw them (`corpus/`), with their sources; their licenses are their owners'."
    else:
        metadata = {**_license(recipe), "viewer": False}
        what = "The training order"
        more = (
            "Documents and tokens are not in it: `treering prepare` makes them again, byte for byte, from the recipe's sources."
        )
    again = "" if texts else "treering prepare runs/release\n"
    body = f"""
# {what} of {name}

{what} of [{name}](https://huggingface.co/{name}), with the records and manifests of its corpus and tokens, from
which anyone can say what any training step saw. {more}

```bash
pip install treering
treering fetch {name} --to runs/release
{again}treering batch 0 runs/release
```
"""
    return _front_matter({"tags": ["treering"], **metadata}) + body


def checkpoints_card(recipe: Recipe, name: str) -> str:
    """Return the card of a release's checkpoints.

    Args:
        name: ORG/NAME of the model.
    """
    body = f"""
# Checkpoints of {name}

Weights in float32 and AdamW's moments of [{name}](https://huggingface.co/{name}), a branch for each checkpoint: what training
goes on from. `transformers` loads the model's own branches, not these.

```bash
pip install treering
treering fetch {name} --to runs/release --checkpoints
treering verify runs/release --sample 1
```
"""
    return _front_matter({"tags": ["treering"], "base_model": name, **_license(recipe)}) + body


def _license(recipe: Recipe) -> dict[str, str]:
    card = recipe.card
    named = {"license": card.license, "license_name": card.license_name, "license_link": card.license_link}
    return {key: value for key, value in named.items() if value is not None}


def _front_matter(metadata: dict[str, Any]) -> str:
    stream, yaml = StringIO(), YAML(typ="rt", pure=True)
    yaml.default_flow_style, yaml.width = False, 1 << 30
    yaml.dump(metadata, stream)
    return f"---\n{stream.getvalue()}---\n"
