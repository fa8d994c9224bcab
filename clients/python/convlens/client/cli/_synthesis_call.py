"""One `convlens synthesize`: asks, shows, writes and prints."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from convlens.client import InvalidRequest, SynthesisDone, methods
from convlens.client._errors import from_status
from convlens.client._text import printable, shown
from convlens.client.cli._calls import Picture
from convlens.client.cli._connection import connected
from convlens.client.cli._output import Estimate, print_estimate
from convlens.client.cli._receipts import SYNTHESIS_FORMAT, write_receipts
from convlens.client.cli._specs import short
from convlens.client.cli._synthesis_files import Album
from convlens.client.cli._synthesis_output import (
    call_json,
    print_document,
    print_made,
    tell_errors,
    tell_files,
)
from convlens.client.cli._synthesis_run import Run, shown_growth
from convlens.client.cli._synthesis_settings import PREVIEW, set_parameters
from convlens.contract import Failure, check, with_defaults
from convlens.contract.fooling import check_generations
from convlens.contract.synthesis_cost import steps_of
from convlens.v1 import synthesis_pb2 as pb

# Frames that a growth has about, unless it is said how often previews are to come.
FRAMES = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """What one way to make pictures asks for, before --set.

    `source` is the picture that is inverted, if any. `numbers` are parameters of the method that
    have an option of their own; None where not given.
    """

    method: methods.SynthesisMethod
    source: Picture | None = None
    numbers: Mapping[str, int | None] = field(default_factory=dict[str, int | None])


def made(ctx: click.Context, asked: Asked, question: dict[str, Any]) -> None:
    """Runs a command; `question` is what all of them are told."""
    method = asked.method
    out, gif, checkpoint = (question.pop(each) for each in ("out", "gif", "checkpoint"))
    server, timeout, estimate = (question.pop(each) for each in ("server", "timeout", "estimate"))
    as_json, overwrite = question.pop("as_json"), question.pop("overwrite")
    numbers = {**asked.numbers, "steps": question.pop("steps")}
    _set(ctx, method, question.pop("settings"), numbers)
    _check(ctx, method, question)
    with connected(server) as client:
        if estimate:
            del question["preview_every"]
            cost = client.estimate_synthesis(method, timeout=timeout, **question)
            print_estimate(Estimate(cost, 1, 0), as_json=as_json)
            return
        if out is None and gif is None:
            raise click.UsageError("Missing option '--out'; nothing would be left.", ctx)
        if gif is not None and question["preview_every"] is None:
            question["preview_every"] = _for_growth(method)
        album = Album(out, gif, checkpoint, overwrite=overwrite)
        started = time.monotonic()
        name = str(ctx.info_name)
        with shown_growth(name, method) as show:
            asking = {**question, "return_pixels": True}
            done = _done(Run(client, method, asking, timeout, album, show))
        places = album.done(done)
        call = call_json(done, places, asked.source)
        write_receipts(album.receipt, SYNTHESIS_FORMAT, [call])
    seconds = time.monotonic() - started
    if as_json:
        files = {"out": out, "gif": gif, "checkpoint": checkpoint, "receipt": album.receipt}
        print_document(name, done, places, files, seconds)
    else:
        print_made(method, done, places, album.receipt, seconds)
        tell_files(out, gif, len(places))
    if tell_errors(done):
        ctx.exit(1)


def _for_growth(method: methods.SynthesisMethod) -> int:
    """Steps between two previews of which some FRAMES make a growth, never more than otherwise."""
    steps = steps_of(with_defaults(method))
    return min(int(PREVIEW.default), max(1, round(steps / FRAMES)))


def _set(
    ctx: click.Context,
    asked: methods.SynthesisMethod,
    settings: Sequence[str],
    numbers: Mapping[str, int | None],
) -> None:
    """Gives the method what --set says, and the options for single parameters."""
    inner: Any = getattr(asked, str(asked.WhichOneof("method")))
    given = [f"{name}={number}" for name, number in numbers.items() if number is not None]
    try:
        set_parameters(inner, [*settings, *given])
    except ValueError as error:
        raise click.UsageError(f"{error}.", ctx) from error


def _check(ctx: click.Context, asked: methods.SynthesisMethod, question: dict[str, Any]) -> None:
    """UsageError where the request breaks the contract."""
    height, width = question["canvas"] or (None, None)
    try:
        canvas = pb.Canvas(height=height, width=width)
        check(pb.SynthesizeRequest(method=asked, canvas=canvas, network=question["network"]))
        check_generations(with_defaults(asked.fooling), "method.fooling")
    except ValueError as error:
        raise click.UsageError(f"--canvas is {height}x{width}: {error}.", ctx) from error
    except Failure as failure:
        problems = from_status(failure.status()).violations
        said = "; ".join(f"{_parameter(each.field)} {each.description}" for each in problems)
        raise click.UsageError(f"{said}.", ctx) from failure


def _parameter(field: str) -> str:
    """A field of the request as the command calls it."""
    return short(field.rpartition(".")[2] if field.startswith("method.") else field)


def _done(run: Run) -> SynthesisDone:
    """The end; of a checkpoint that does not fit it says which file that is."""
    try:
        return run.done()
    except InvalidRequest as error:
        wrong = [each for each in error.violations if each.field == "checkpoint"]
        if not wrong or run.album.file is None:
            raise
        raise click.ClickException(
            f"{shown(run.album.file)} {printable(wrong[0].description)}. Give --checkpoint another "
            "name, or remove the file to begin anew."
        ) from error
