"""`convlens extract`."""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import click
from numpy.typing import NDArray

from convlens.client import (
    Client,
    ConvLensError,
    Features,
    LayerSelection,
    Network,
    Pooling,
)
from convlens.client._patience import patiently
from convlens.client._picture_files import found
from convlens.client._spool import Entry, Spool, SpoolError, Unwritable, remove_finished
from convlens.client._text import json_text, printable, shown
from convlens.client.cli import _options as options
from convlens.client.cli._codes import RESERVED, writer_of
from convlens.client.cli._connection import connected
from convlens.client.cli._files import check_folder, check_new
from convlens.client.cli._progress import progress

POOLINGS = get_args(Pooling)


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="FOLDER|FILE|GLOB...")
@click.option(
    "--layers",
    required=True,
    multiple=True,
    metavar="LAYER[:POOLING],...",
    help="Layers as 'convlens anatomy' lists them, or cnn-code, or logits.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the codes go: a .npz or a .parquet file.",
)
@click.option(
    "--pooling",
    type=click.Choice(POOLINGS),
    help="How the places of a map are reduced, for layers that do not say it; not by default.",
)
@click.option("--half", is_flag=True, help="Keep 16 bits of each number instead of 32.")
@click.option("--l2", is_flag=True, help="Scale every code to Euclidean length 1.")
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever is there.")
@options.server
@options.network
@options.as_json("one JSON document when all is written")
@click.pass_context
def extract(
    ctx: click.Context,
    pictures: tuple[str, ...],
    layers: tuple[str, ...],
    out: Path,
    pooling: Pooling | None,
    half: bool,
    l2: bool,
    overwrite: bool,
    server: str,
    network: str,
    as_json: bool,
) -> None:
    """Write what a network computes at its layers, for whole folders of pictures.

    Rows are in the order of the pictures, and folders are sorted. A picture that cannot be read is
    reported and listed in the file, the others go on, and the exit code is 1. Of the pictures
    that are done only the names stay in memory. What is done is kept in FILE.partial: after Ctrl-C,
    or when the server was lost, the same command goes on from there.

    \b
    Poolings: none [channels, height, width], avg and max [channels] (max with
    the row and column of each maximum), flatten (one vector).

    \b
    Examples:
      convlens extract photos/ --layers cnn-code --out codes.npz
      convlens extract photos/ --layers layer3:avg,layer4:max --out codes.parquet
      convlens extract photos/ --layers logits --network resnet50 --out logits.npz
      python -c 'import numpy; print(numpy.load("codes.npz")["cnn-code"].shape)'
    """
    names = [name.strip() for group in layers for name in group.split(",")]
    wanted = [_selection(name, pooling, half, l2) for name in names]
    _check_names(names)
    write = writer_of(out)
    partial = out.with_name(f"{out.name}.partial")
    _check_out(out, partial, overwrite)
    paths = _found(pictures)
    started = time.monotonic()
    with connected(server) as client:
        run = _run(client.network(network), names, wanted)
        with _spool(partial, run, overwrite) as spool:
            _report_resumed(spool, spool.resume(paths), len(paths))
            _fill(client, spool, paths, wanted, run)
            failed = [entry for entry in spool.entries() if entry.error]
            if spool.answered:
                with spool.output(out) as file:
                    write(spool, run, file)
            spool.remove()
    _report(out, spool, run, failed, time.monotonic() - started, as_json)
    if failed:
        text = f"convlens: {len(failed)} of {len(paths)} pictures failed"
        click.echo(f"{text}." if spool.answered else f"{text}; nothing is written.", err=True)
        ctx.exit(1)


def _check_out(out: Path, partial: Path, overwrite: bool) -> None:
    check_folder(out)
    if os.path.exists(out) and not overwrite:
        remove_finished(partial)
    check_new(out, overwrite=overwrite)


def _found(names: Sequence[str]) -> list[Path]:
    paths = found(names)
    if not any(map(os.path.lexists, paths)):
        raise click.ClickException(f"There is no {printable(', '.join(names))}.")
    return paths


def _selection(name: str, pooling: Pooling | None, half: bool, l2: bool) -> LayerSelection:
    layer, separator, own = name.partition(":")
    if separator and own not in POOLINGS:
        raise click.UsageError(
            f"--layers has {name!r}; a pooling must be one of {', '.join(POOLINGS)}."
        )
    chosen = cast(Pooling, own) if separator else pooling
    return LayerSelection(layer, chosen, "float16" if half else None, l2)


def _check_names(names: Sequence[str]) -> None:
    if "" in names:
        raise click.UsageError("--layers has an empty name.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise click.UsageError(f"--layers has {twice!r} twice.")
    if reserved := next((name for name in names if name in RESERVED), None):
        raise click.UsageError(
            f"{reserved!r} is what the file calls something else; write {reserved}:none, or "
            "another pooling."
        )


def _run(served: Network, names: Sequence[str], wanted: Sequence[LayerSelection]) -> dict[str, Any]:
    """What is computed: codes of runs that agree in this belong into one file."""
    return {
        "network": f"{served.name}@{served.version}",
        "network_digest": served.digest,
        "precision": served.precision,
        "layers": [
            {
                "name": name,
                "layer": layer.layer,
                "pooling": layer.pooling or "none",
                "dtype": layer.dtype or "float32",
                "l2_normalize": bool(layer.l2_normalize),
            }
            for name, layer in zip(names, wanted, strict=True)
        ],
    }


@contextmanager
def _spool(folder: Path, run: dict[str, Any], overwrite: bool) -> Generator[Spool, None, None]:
    try:
        spool = Spool(folder, run, fresh=overwrite)
    except SpoolError as error:
        raise _unfit(error) from None
    except OSError as error:
        words = f"{shown(folder)} cannot be written: {error.strerror}."
        raise click.ClickException(words) from error
    try:
        yield spool
    except Unwritable as error:
        _report_kept(spool)
        raise _unfit(error) from error
    except SpoolError as error:
        raise _unfit(error) from error
    except BaseException:
        _report_kept(spool)
        raise
    finally:
        spool.close()


def _unfit(error: SpoolError) -> click.ClickException:
    return click.ClickException(f"{printable(str(error))}. {error.advice}.")


def _fill(
    client: Client,
    spool: Spool,
    paths: Sequence[Path],
    wanted: Sequence[LayerSelection],
    run: dict[str, Any],
) -> None:
    """Adds the pictures that are not done yet."""
    left = paths[spool.done :]
    with progress("extracting", len(paths)) as bar:
        task = bar.add_task("", total=len(paths), completed=spool.done)
        with closing(_outcomes(client, left, wanted, run["network"])) as outcomes:
            for path, result in outcomes:
                if isinstance(result, ConvLensError):
                    text = f"convlens: {shown(path)}: {printable(result.message)}"
                    click.echo(text, err=True)
                elif result.receipt.network_digest != run["network_digest"]:
                    raise SpoolError(f"{run['network']} became another network meanwhile")
                spool.add(path, _rows(result, run))
                bar.advance(task)


def _rows(
    result: Features | ConvLensError, run: dict[str, Any]
) -> dict[str, NDArray[Any]] | ConvLensError:
    """The arrays of a picture, under the names that they have in the file."""
    if isinstance(result, ConvLensError):
        return result
    rows: dict[str, NDArray[Any]] = {}
    for layer, code in zip(run["layers"], result.codes, strict=True):
        rows[layer["name"]] = code.values
        if code.positions is not None:
            rows[f"{layer['name']}.positions"] = code.positions
    return rows


def _outcomes(
    client: Client, paths: Sequence[Path], wanted: Sequence[LayerSelection], network: str
) -> Generator[tuple[Path, Features | ConvLensError], None, None]:
    """The results of the pictures in order; waits where the server is full, or away for a while."""

    def begin(position: int) -> Generator[Features | ConvLensError, None, None]:
        return client.extract_features_stream(
            paths[position:], wanted, network=network, on_error="return"
        )

    def note(text: str) -> None:
        click.echo(f"convlens: {printable(text)}", err=True)

    yield from zip(paths, patiently(begin, len(paths), note), strict=True)


def _report_resumed(spool: Spool, done: int, total: int) -> None:
    if spool.lost:
        text = f"convlens: {spool.lost} pictures are computed again, as {spool.why}."
        click.echo(text, err=True)
    if done:
        click.echo(f"convlens: {done} of {total} pictures are done already.", err=True)


def _report_kept(spool: Spool) -> None:
    if spool.done:
        click.echo(
            f"convlens: {spool.done} pictures are kept in {shown(spool.folder)}; the same "
            "command goes on from there.",
            err=True,
        )


def _report(
    out: Path,
    spool: Spool,
    run: dict[str, Any],
    failed: Sequence[Entry],
    seconds: float,
    as_json: bool,
) -> None:
    arrays = {form.name: (spool.answered, *form.shape) for form in spool.forms}
    if as_json:
        document = {
            "out": str(out) if spool.answered else None,
            "run": run,
            "pictures": spool.answered,
            "failed": [{"picture": entry.picture, "error": entry.error} for entry in failed],
            "arrays": arrays,
            "seconds": round(seconds, 3),
        }
        click.echo(json_text(document))
        return
    if not spool.answered:
        return
    click.echo(f"{shown(out)}: {spool.answered} pictures through {printable(run['network'])}")
    width = max((len(name) for name in arrays), default=0)
    for name, shape in arrays.items():
        click.echo(f"  {printable(name):{width}}  {' × '.join(map(str, shape))}")
