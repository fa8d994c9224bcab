"""The command `convlens-workers`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from convlens.contract.pools import POOLS, Pool
from convlens.workers.config import Config, ConfigError, load_config

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="networks.yaml; left out, the bundled networks.",
)
pool_option = click.option(
    "--pool",
    type=click.Choice(POOLS),
    help="The pool that this Triton is for, where each has Tritons of its own; left out, both.",
)
gpus_option = click.option(
    "--gpus", type=click.IntRange(0), help="GPUs to use; left out, those of this machine."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Prepare workers: the networks that are served, and where they run."""


@program.command()
@config_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write.",
)
@gpus_option
@pool_option
def repository(config: Path | None, out: Path, gpus: int | None, pool: Pool | None) -> None:
    """Write the model repository that Triton serves, one model for each pool of each network.

    Weights that have a name are downloaded first, unless they are here.

    \b
    convlens-workers repository --config networks.yaml --out models
    tritonserver --model-repository models --model-control-mode explicit …
    """
    from convlens.workers.triton.repository import write_repository

    loaded = load_config(config)
    _fetch(loaded)
    names = write_repository(loaded, _count(gpus), out, _pools(pool))
    served = {entry.reference for entry in loaded.networks}
    for name in names:
        # The first word is for programs: what is to be loaded from the start.
        word = "served" if name.rpartition("-")[0] in served else "loadable"
        click.echo(f"{word} {name}")


@program.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Load every network, run each method once on a sample, and say what works.

    The exit code is 0 where everything does, else 1.

    \b
    Examples:
      convlens-workers check --config networks.yaml
      convlens-workers check --config networks.yaml --json | jq '.networks[] | select(.ok | not)'
    """
    entries = load_config(config).entries
    from convlens.workers.check import Report, check_network
    from convlens.workers.check_report import as_document, print_report

    reports: list[Report] = []
    for number, entry in enumerate(entries, start=1):
        click.echo(f"checking {entry.reference} ({number} of {len(entries)}) …", err=True)
        reports.append(check_network(entry))
        if not as_json:
            print_report(reports[-1])
    if as_json:
        click.echo(as_document(reports))
    ctx.exit(0 if all(report.ok for report in reports) else 1)


@program.command("shared-memory")
@config_option
@gpus_option
@pool_option
@click.option(
    "--message-bytes",
    type=click.IntRange(1),
    required=True,
    help="Largest message, the setting max_message_bytes of the server.",
)
def shared_memory(
    config: Path | None, gpus: int | None, pool: Pool | None, message_bytes: int
) -> None:
    """Print how large /dev/shm must be where Triton runs, as a size for Kubernetes.

    \b
    convlens-workers shared-memory --pool analysis --gpus 1 --message-bytes 67108864
    """
    from convlens.workers.triton.sizing import shared_memory_of

    needed = shared_memory_of(load_config(config), _count(gpus), message_bytes, _pools(pool))
    click.echo(f"{-(-needed // 2**20)}Mi")


def _pools(pool: Pool | None) -> Sequence[Pool]:
    return (pool,) if pool else POOLS


def _count(gpus: int | None) -> int:
    if gpus is not None:
        return gpus
    import torch

    return torch.cuda.device_count()


def _fetch(config: Config) -> None:
    """Downloads what is served from the start; raises ConfigError with everything that fails."""
    mistakes: list[str] = []
    for entry in config.networks:
        try:
            entry.fetch()
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def main() -> None:
    """Runs the command; errors are one line each. Exit codes: 0, 1 (failed), 2 (wrong use)."""
    # Downloads are long enough to be told of.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("convlens").setLevel(logging.INFO)
    try:
        program(prog_name="convlens-workers")
    except ConfigError as error:
        for line in str(error).splitlines():
            click.echo(f"convlens-workers: {line}", err=True)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"convlens-workers: {where}{error.strerror or error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
