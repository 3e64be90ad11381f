"""`treering neox`: GPT-NeoX's orders built, checked and looked up, its checkpoints imported, its configurations translated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from treering.order.neox_batches import NeoXBatches

app = typer.Typer(
    name="neox",
    no_args_is_help=True,
    help="GPT-NeoX's orders, checkpoints and configurations: built, looked up, imported, translated.",
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's files less `.bin` and `.idx`.", show_default=False)]
Maps = Annotated[
    Path, typer.Argument(metavar="MAPS", help="Index maps' files less `_doc_idx.npy` and the like.", show_default=False)
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Updates of the run; left out, those that the maps' name says.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Sequences of an update, over all GPUs.")]
TokenizerFile = Annotated[Path | None, typer.Option("--tokenizer", help="A tokenizer.json, to show text.")]
_EXCERPT = 72


@app.command("order")
def order(
    data: Data,
    steps: Annotated[int, typer.Option("--steps", min=1, help="`train-iters`.")],
    batch_size: BatchSize = 1024,
    sequence_length: Annotated[int, typer.Option("--sequence-length", min=1, help="`seq-length`.")] = 2048,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1234,
    out: Annotated[Path, typer.Option("--out", help="The folder to write the maps to.")] = Path(),
    as_json: Json = False,
) -> None:
    """Build the index maps with which GPT-NeoX orders a data set listed under `train-data-paths`, under its own names.

    Maps that are all there are left as they are.
    """
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.corpus.indexed import IndexedData
    from treering.order.index_maps import KINDS, Plan, map_path, samples_wanted, write_index_maps

    indexed = IndexedData(data)
    indexed.refuse_scattered()
    sizes = indexed.sizes
    plan = Plan(sizes, samples_wanted(steps, batch_size), sequence_length, seed)
    prefix = out / f"{data.name}_{plan.name}"
    there = all(map_path(prefix, kind).exists() for kind in KINDS)
    if not there:
        write_index_maps(plan, prefix, TerminalProgress())
    if as_json:
        print_json({"maps": str(prefix), "samples": plan.samples_built, "documents": len(sizes), "epochs": plan.epochs})
        return
    say(
        f"{prefix}: {'there already, ' if there else ''}{plan.samples_built:,} samples of {sequence_length:,} tokens, "
        f"{len(sizes):,} documents, {plan.epochs} epoch{'s shuffled together' if plan.epochs > 1 else ''}"
    )
    print_next(
        command_text("neox", "check", data, prefix), command_text("neox", "batch", 0, data, prefix, "--batch-size", batch_size)
    )


@app.command("check")
def check(
    data: Data,
    maps: Maps,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--no-shuffle", help="Also shuffle again, with the seed in the maps' name, and compare.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Compare index maps with their data set: permutations, cuts, and the shuffles of the seed that their name says."""
    from treering.cli.terminal import TerminalProgress, print_json, say
    from treering.corpus.indexed import IndexedData
    from treering.order.index_maps import open_index_maps
    from treering.order.map_checks import check_index_maps, check_seed

    found, indexed, progress = open_index_maps(maps), IndexedData(data), TerminalProgress()
    indexed.refuse_scattered()
    sizes = indexed.sizes
    check_index_maps(found, sizes, progress)
    if shuffle:
        check_seed(found, sizes, progress)
    if as_json:
        print_json({"maps": str(maps), "samples": len(found.shuffled), "seed": found.seed if shuffle else None})
        return
    proven = f", and they are those of seed {found.seed}" if shuffle else ""
    say(f"{maps}: every one of {len(found.shuffled):,} samples once, cut where it should be{proven}")


@app.command("batch")
def batch(
    step: Annotated[
        int, typer.Argument(metavar="STEP", help="The batch that update STEP → STEP + 1 eats.", show_default=False)
    ],
    data: Data,
    maps: Maps,
    batch_size: BatchSize = 1024,
    steps: Steps = None,
    tokenizer: TokenizerFile = None,
    as_json: Json = False,
) -> None:
    """Show what a step of a GPT-NeoX run trained on: samples, documents, tokens."""
    from treering.cli.terminal import command_text, print_json, print_next, say
    from treering.order.neox_batches import open_neox_batches

    batches = open_neox_batches(data, maps, batch_size, steps)
    record = {"step": step, "sequences": [_described(batches, sample) for sample in batches.sequence_ids(step).tolist()]}
    if as_json:
        print_json(record)
        return
    decode = _decoder(tokenizer)
    say(f"batch {step} of {batches.steps:,} of {maps}: {batch_size} sequences of {batches.maps.sequence_length} tokens")
    for sequence in record["sequences"]:
        documents = ", ".join(f"{piece['document']} [{piece['start']}, {piece['stop']})" for piece in sequence["documents"])
        text = decode(sequence["tokens"])
        say(f"\nsample {sequence['sample']}  documents {documents}\n  {text[:_EXCERPT]}{' …' if len(text) > _EXCERPT else ''}")
    first = record["sequences"][0]["documents"][0]["document"]
    print_next(command_text("neox", "trace", first, data, maps, "--batch-size", batch_size))


@app.command("trace")
def trace(
    document: Annotated[
        int, typer.Argument(metavar="DOCUMENT", help="Its number in the data set, from 0.", show_default=False)
    ],
    data: Data,
    maps: Maps,
    batch_size: BatchSize = 1024,
    steps: Steps = None,
    as_json: Json = False,
) -> None:
    """Show which steps of a GPT-NeoX run trained on a document."""
    from treering.cli.terminal import print_json, say
    from treering.order.neox_batches import open_neox_batches

    batches = open_neox_batches(data, maps, batch_size, steps)
    found = batches.steps_of_document(document)
    if as_json:
        print_json({"document": document, "steps": found})
        return
    say(f"document {document} is in {len(found)} of {batches.steps:,} batches: {', '.join(map(str, found)) or 'none'}")


@app.command("import")
def import_(
    save: Annotated[
        Path, typer.Argument(metavar="SAVE", help="The folder that holds the run's global_stepN.", show_default=False)
    ],
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A recipe whose model, tokenizer and revisions are the run's.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write step0, step1, … to.")] = Path("revisions"),
    as_json: Json = False,
) -> None:
    """Turn a GPT-NeoX run's checkpoints into revisions that transformers loads, each compared with its logits."""
    from treering.cli.terminal import TerminalProgress, print_json, say
    from treering.config.reading import read_recipe
    from treering.neox.importing import import_checkpoints

    records = import_checkpoints(save, read_recipe(recipe), out, TerminalProgress())
    if as_json:
        print_json({"revisions": records})
        return
    worst = max(records, key=lambda record: record["agreement"]["largest_difference"] / record["agreement"]["bound"])
    apart = worst["agreement"]
    say(
        f"{out}: {len(records)} revisions, {records[0]['name']} to {records[-1]['name']}; logits agree with transformers to "
        f"{apart['largest_difference']:.2g}, where {apart['bound']:.2g} is rounding ({worst['name']})"
    )
    model = read_recipe(recipe).model
    say(f"computed with {model.hidden_act}, which the recipe says, and rotary angles in fp32 (GPT-NeoX v1.0: in fp16)")
    for record in records:
        if record["same_weights_as"]:
            say(f"{record['name']} has the weights of {record['same_weights_as']}")


@app.command("recipe")
def recipe_(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG.yml …", help="GPT-NeoX's, together.", show_default=False)],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many the run had: no configuration says so.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="The tokenizer.json.")],
    corpus: Annotated[Path, typer.Option("--corpus", help="The text to train on, where no --data is given.")] = Path("corpus"),
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="A data set of `train-data-paths`, less `.bin` and `.idx`; once for each, in their order."),
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option("--validation", help="What is held out; once for each --data, or never.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="The run's folder of global_stepN, to import what it trained.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the run; left out, the last file's.")] = None,
    schedule: Annotated[
        Literal["neox-v1", "neox"], typer.Option("--schedule", help="The cosine of v1.0 (Pythia's), or today's.")
    ] = "neox-v1",
    as_json: Json = False,
) -> None:
    """Write the recipe of a GPT-NeoX configuration, NAME.yaml, and say what became of every key."""
    from treering.cli.terminal import command_text, print_json, print_next, say
    from treering.config.reading import parse_recipe
    from treering.config.yaml_text import write_yaml
    from treering.errors import InputError
    from treering.neox.configs import Surroundings, read_configs, to_recipe
    from treering.provenance.files import write_atomically

    around = Surroundings(gpus, tokenizer, corpus, tuple(data or ()), tuple(validation or ()), checkpoints, schedule)
    translation = to_recipe(read_configs(configs), name or configs[-1].stem, around)
    path = Path(f"{translation.recipe['name']}.yaml")
    text = write_yaml(translation.recipe)
    parse_recipe(text, f"{configs[-1]}, as a recipe")
    if path.exists():
        raise InputError("this file is there already", where=path, advice="give another --name, or move it away")
    write_atomically(path, text.encode())
    if as_json:
        print_json(
            {"account": translation.account, "consequences": list(translation.consequences), "recipe": translation.recipe}
        )
        return
    say(f"{path}: {sum(told == 'translated' for told in translation.account.values())} keys translated; without effect here:")
    for reason in sorted({told for told in translation.account.values() if told != "translated"}):
        say(f"  {reason}: {', '.join(key for key, told in translation.account.items() if told == reason)}")
    for consequence in translation.consequences:
        say(f"  otherwise than under GPT-NeoX: {consequence}")
    print_next(command_text("show", path))


@app.command("config")
def config(
    target: Target,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many to train on.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("config.yml"),
    runs: Runs = RUNS,
) -> None:
    """Write the GPT-NeoX configuration that trains a recipe's model on its run's tokens, in JSON, which is YAML."""
    import json

    from treering.cli.terminal import command_text, print_next, say
    from treering.config.reading import read_recipe
    from treering.config.run_directory import RECIPE
    from treering.config.schema import NEOX_ORDER
    from treering.errors import InputError
    from treering.neox.config_writing import to_config
    from treering.provenance.files import write_atomically

    if out.exists():
        raise InputError("this file is there already", where=out, advice="give another --out, or move it away")
    recipe = read_recipe(target / RECIPE if target.is_dir() else target)
    tokens = (target if target.is_dir() else runs / recipe.name).resolve() / "tokens"
    written = to_config(recipe, gpus, tokens)
    write_atomically(out, (json.dumps(written, indent=2) + "\n").encode())
    say(f"{out}: add `save`; then, in GPT-NeoX's folder:\n  python ./deepy.py train.py {out.resolve()}")
    version = {"neox-v1": "v1.0, which trained Pythia", "neox": "2026-05 or later"}[recipe.training.schedule.name]
    say(f"its learning rate is that of GPT-NeoX {version}; first weights are GPT-NeoX's own, of the same spread")
    if recipe.order.name != NEOX_ORDER:
        say(f"GPT-NeoX will take the tokens in an order of its own: treering trains in that order with order.name {NEOX_ORDER}")
    named = [*written["train_data_paths"], *written["valid_data_paths"]]
    if missing := [prefix for prefix in named if not Path(f"{prefix}.bin").exists()]:
        say(f"not there yet: {', '.join(missing)}")
    if str(tokens / "train") in missing:
        print_next(command_text("prepare", target))


def _described(batches: "NeoXBatches", sample: int) -> dict[str, Any]:
    pieces = [{"document": piece.document, "start": piece.start, "stop": piece.stop} for piece in batches.pieces(sample)]
    return {"sample": sample, "documents": pieces, "tokens": batches.tokens(sample).tolist()}


def _decoder(tokenizer: Path | None) -> "Callable[[list[int]], str]":
    from treering.tokens.tokenizer import load_tokenizer

    if tokenizer is None:
        return lambda tokens: " ".join(map(str, tokens))
    library = load_tokenizer(tokenizer, padding=None)
    return lambda tokens: " ".join(library.decode(tokens).split())
