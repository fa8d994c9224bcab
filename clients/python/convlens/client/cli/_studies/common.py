"""What the commands of all studies have in common."""

import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from convlens.client._errors import InvalidRequest
from convlens.client._spool import forget
from convlens.client._text import json_text, printable, shown
from convlens.client.cli import _options as options
from convlens.client.cli._connection import connected
from convlens.client.cli._files import check_folder, write_whole
from convlens.client.cli._progress import progress
from convlens.client.cli._study_page import study_page

if TYPE_CHECKING:
    from convlens.client import Client
    from convlens.client.studies import Study

F = TypeVar("F", bound=Callable[..., Any])
DOCUMENT, PAGE, STATE = "study.json", "page.html", "state"
EXTRA = 'pip install "convlens-client[studies]"'

pictures = click.argument("pictures", nargs=-1, required=True, metavar="FOLDER|FILE|GLOB...")
folder_argument = click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER"
)
labels = click.option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CSV with columns file and label, or JSON; else each picture's folder names its class.",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a study is called with: keyword arguments that all of them take, and who is asked."""

    client: "Client"
    network: str
    state: Path
    progress: Callable[[str, int, int], None]

    @property
    def common(self) -> dict[str, Any]:
        """As keyword arguments of the studies."""
        return {"network": self.network, "state": self.state, "progress": self.progress}


def studying(make: Callable[..., "Study"]) -> Callable[..., None]:
    """The command's function of one that makes a study; it takes a Run before its options.

    Adds --out, --overwrite, --server, --network and --json, keeps what is done below --out until
    the study is whole, and writes and prints what was found.
    """

    @options.server
    @options.network
    @options.as_json("one JSON document")
    @click.option(
        "--out",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The folder that gets page.html, pictures, tables and study.json.",
    )
    @click.option("--overwrite", is_flag=True, help="Begin anew, whatever is there.")
    @click.pass_context
    @wraps(make)
    def command(
        ctx: click.Context,
        out: Path,
        overwrite: bool,
        server: str,
        network: str,
        as_json: bool,
        **given: Any,
    ) -> None:
        _check(out, overwrite=overwrite)
        with connected(server) as client, shown_progress() as show:
            run = Run(client, network, out / STATE, show)
            found = _made(make, run, given)
        _write(found, out, shlex.join(["convlens", *ctx.obj]))
        _remove_state(out / STATE)
        _tell(found, out, as_json=as_json)
        if found.facts.skipped:
            ctx.exit(1)

    return command


def _made(make: Callable[..., "Study"], run: Run, given: dict[str, Any]) -> "Study":
    try:
        return make(run, **given)
    except ModuleNotFoundError as error:
        words = f"Studies need the library {error.name}: {EXTRA}."
        raise click.ClickException(words) from error
    except BaseException as error:
        _remove_empty(run.state)
        # What was wrong with the request is so again.
        if run.state.is_dir() and not isinstance(error, InvalidRequest):
            words = f"what is done is kept in {shown(run.state)}; the same command goes on from it."
            click.echo(f"convlens: {words}", err=True)
        raise


def _check(out: Path, *, overwrite: bool) -> None:
    check_folder(out)
    if (out / DOCUMENT).exists() and not overwrite:
        raise click.ClickException(
            f"{shown(out)} has a study already; choose another --out, or give --overwrite."
        )
    if overwrite:
        _remove_state(out / STATE)


def _remove_empty(state: Path) -> None:
    """What was made for nothing is gone again."""
    for folder in (state, state.parent):
        with suppress(OSError):
            folder.rmdir()


def _remove_state(state: Path) -> None:
    """Removes what studies keep there; what is somebody else's stays."""
    with suppress(OSError):
        for folder in (*state.iterdir(), state):
            forget(folder)
        state.rmdir()


def _write(found: "Study", out: Path, command: str) -> None:
    try:
        found.save(out)
    except OSError as error:
        words = f"{shown(out)} cannot be written: {error.strerror}."
        raise click.ClickException(words) from error
    write_whole(out / PAGE, study_page(out, command))


def _tell(found: "Study", out: Path, *, as_json: bool) -> None:
    for each in found.facts.skipped:
        text = f"convlens: {printable(each.picture)}: {printable(each.message)}"
        click.echo(text, err=True)
    if as_json:
        from convlens.client.studies._study import records

        tables = {title: records(frame) for title, frame in found.tables().items()}
        document = {
            "study": found.name,
            "out": str(out.resolve()),
            "findings": list(found.findings),
            **asdict(found.facts),
            "tables": tables,
        }
        click.echo(json_text(document))
        return
    for sentence in found.findings:
        click.echo(printable(sentence))
    pictures = found.facts.pictures
    click.echo(
        f"{shown(out / PAGE)}: {pictures} picture{'s' if pictures > 1 else ''} through "
        f"{printable(found.facts.network)} in {found.facts.seconds:.1f} s"
    )
    if found.facts.skipped:
        skipped = len(found.facts.skipped)
        click.echo(f"convlens: {skipped} of {pictures + skipped} pictures were skipped.", err=True)


@contextmanager
def shown_progress() -> Generator[Callable[[str, int, int], None], None, None]:
    """Shows a bar for each thing that is done; where there is nothing to count, a line."""
    with progress("{task.description}") as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if not total:
                click.echo(f"convlens: {printable(what)}", err=True)
                return
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
