"""`treering neox`: GPT-NeoX's data sets and orders, built, checked and looked up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treering.cli.arguments import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from treering.neox.batches import NeoXBatches

app = typer.Typer(
    name="neox", no_args_is_help=True, help="GPT-NeoX's data sets and orders: built, checked, looked up.", rich_markup_mode=None
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's files less `.bin` and `.idx`.", show_default=False)]
Maps = Annotated[
    Path, typer.Argument(metavar="MAPS", help="Index maps' files less `_doc_idx.npy` and the like.", show_default=False)
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
) -> None:
    """Build the index maps with which GPT-NeoX orders a data set listed under `train-data-paths`, under its own names."""
    from treering.cli.terminal import TerminalProgress, command_text, print_next, say
    from treering.errors import InputError
    from treering.neox.index_maps import KINDS, Plan, map_path, samples_wanted, write_index_maps
    from treering.provenance.files import storage_errors
    from treering.tokens.indexed import IndexedData

    sizes = IndexedData(data).sizes
    plan = Plan(sizes, samples_wanted(steps, batch_size), sequence_length, seed)
    prefix = out / f"{data.name}_{plan.name}"
    if there := [path for kind in KINDS if (path := map_path(prefix, kind)).exists()]:
        raise InputError("this index map is there already", where=there[0], advice=command_text("neox", "check", prefix, data))
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_index_maps(plan, prefix, TerminalProgress())
    say(
        f"{prefix}: {plan.samples_built:,} samples of {sequence_length:,} tokens, {len(sizes):,} documents, "
        f"{plan.epochs} epoch{'s' if plan.epochs > 1 else ''} shuffled together"
    )
    print_next(command_text("neox", "batch", 0, data, prefix, "--batch-size", batch_size))


@app.command("check")
def check(
    maps: Maps,
    data: Data,
    seed: Annotated[bool, typer.Option("--seed/--no-seed", help="Also build them again from the seed in their name.")] = True,
) -> None:
    """Compare index maps with their data set: permutations, cuts, and the seed that their name says."""
    from treering.cli.terminal import TerminalProgress, say
    from treering.neox.checking import check_index_maps, check_seed
    from treering.neox.index_maps import open_index_maps
    from treering.tokens.indexed import IndexedData

    found, sizes = open_index_maps(maps), IndexedData(data).sizes
    check_index_maps(found, sizes, TerminalProgress())
    if seed:
        check_seed(found, sizes)
    proven = f", and they are those of seed {found.seed}" if seed else ""
    say(f"{maps}: every one of {len(found.shuffled):,} samples once, cut where it should be{proven}")


@app.command("batch")
def batch(
    step: Annotated[
        int, typer.Argument(metavar="STEP", help="The batch that update STEP → STEP + 1 eats.", show_default=False)
    ],
    data: Data,
    maps: Maps,
    batch_size: BatchSize = 1024,
    tokenizer: TokenizerFile = None,
    as_json: Json = False,
) -> None:
    """Show what a step of a GPT-NeoX run trained on: samples, documents, tokens."""
    from treering.cli.terminal import print_json, say
    from treering.neox.batches import open_batches

    batches = open_batches(data, maps, batch_size)
    record = {"step": step, "sequences": [_described(batches, sample) for sample in batches.samples(step).tolist()]}
    if as_json:
        print_json(record)
        return
    decode = _decoder(tokenizer)
    say(f"batch {step} of {maps}: {batch_size} sequences of {batches.maps.sequence_length} tokens")
    for sequence in record["sequences"]:
        documents = ", ".join(f"{piece['document']} [{piece['start']}, {piece['stop']})" for piece in sequence["documents"])
        text = decode(sequence["tokens"])
        say(f"\nsample {sequence['sample']}  documents {documents}\n  {text[:_EXCERPT]}{' …' if len(text) > _EXCERPT else ''}")


@app.command("trace")
def trace(
    document: Annotated[
        int, typer.Argument(metavar="DOCUMENT", help="Its number in the data set, from 0.", show_default=False)
    ],
    data: Data,
    maps: Maps,
    batch_size: BatchSize = 1024,
    as_json: Json = False,
) -> None:
    """Show which steps of a GPT-NeoX run trained on a document."""
    from treering.cli.terminal import print_json, say
    from treering.neox.batches import open_batches

    steps = open_batches(data, maps, batch_size).steps_of_document(document)
    if as_json:
        print_json({"document": document, "steps": steps})
        return
    say(f"document {document} is in the batches {', '.join(map(str, steps)) or '(none)'}")


def _described(batches: "NeoXBatches", sample: int) -> dict[str, Any]:
    pieces = [{"document": piece.document, "start": piece.start, "stop": piece.stop} for piece in batches.pieces(sample)]
    return {"sample": sample, "documents": pieces, "tokens": batches.tokens(sample).tolist()}


def _decoder(tokenizer: Path | None) -> "Callable[[list[int]], str]":
    from treering.tokens.tokenizer import load_tokenizer

    if tokenizer is None:
        return lambda tokens: " ".join(map(str, tokens))
    library = load_tokenizer(tokenizer, padding=None)
    return lambda tokens: " ".join(library.decode(tokens).split())
