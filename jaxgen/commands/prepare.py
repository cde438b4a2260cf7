"""`jaxgen prepare`: raw corpora to tokenised shards."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jaxgen.configuration import load
from jaxgen.data.prepared import PreparedCorpus
from jaxgen.errors import ConfigError
from jaxgen.preparation.prepare import prepare as prepare_corpus


def prepare(arguments: argparse.Namespace) -> int:
    """Prepares a corpus and prints what each stage kept, or checks an existing one.

    Args:
      arguments: `gin_files` and `bindings` of a preparation, `output`, `engine`, `workers`,
        `address`, `sbatch`; or `check`, a folder; or `captions`, with `gin_files` and `bindings` of
        a run, `output` and `dtype`.
    """
    if arguments.check is not None:
        count = PreparedCorpus(arguments.check).check_digests()
        print(f"{arguments.check}: {count} token files, as they were written")
        return 0
    if not arguments.gin_files or arguments.output is None:
        raise ConfigError("jaxgen prepare needs --gin_file and --output, or --check FOLDER.")
    if arguments.captions:
        from jaxgen.commands.encodings import prepare_captions

        return prepare_captions(arguments)
    preparation = load(arguments.gin_files, arguments.bindings, root="preparation")
    console = Console()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bars = {}

        def tell(stage: str, done: int, of: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=of)
            progress.update(bars[stage], completed=done)

        prepared = prepare_corpus(
            preparation,
            arguments.output,
            arguments.engine,
            arguments.workers,
            arguments.address,
            arguments.sbatch or (),
            tell,
        )
    for stage in prepared.manifest["stages"]:
        notes = [
            f"{name}: {value}"
            for key, found in stage.items()
            if key not in ("stage", "in", "out")
            for name, value in (found.items() if isinstance(found, dict) else [(key, found)])
        ]
        print(f"{stage['stage']:18} {stage['in']:>12,} -> {stage['out']:>12,}  {', '.join(notes)}")
    tokens, documents = prepared.manifest["tokens"], prepared.manifest["documents"]
    for split in tokens:
        print(f"{split:18} {documents[split]:>12,} documents, {tokens[split]:,} tokens")
    if prepared.times:
        console.print(_times(prepared))
    print(arguments.output)
    return 0


def _times(prepared) -> Table:
    table = Table(title=f"{prepared.seconds:.1f} s from beginning to end")
    for heading in ("stage", "MB in", "seconds of all workers", "MB/s of a worker"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for one in prepared.times:
        megabytes = one.bytes_in / 1e6
        speed = f"{megabytes / one.seconds:,.1f}" if one.seconds else "-"
        table.add_row(one.name, f"{megabytes:,.1f}", f"{one.seconds:,.1f}", speed)
    return table
