"""The command `convlens-workers`."""

import sys
from pathlib import Path

import click

from convlens.workers.config import ConfigError, load_config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Prepare workers: the networks that are served, and where they run."""


@program.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="networks.yaml; left out, the bundled networks.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write.",
)
@click.option(
    "--gpus", type=click.IntRange(0), help="GPUs to use; left out, those of this machine."
)
def repository(config: Path | None, out: Path, gpus: int | None) -> None:
    """Write the model repository that Triton serves, one model for each pool of each network.

    \b
    convlens-workers repository --config networks.yaml --out models
    tritonserver --model-repository models --model-control-mode explicit …
    """
    from convlens.workers.triton.repository import write_repository

    loaded = load_config(config)
    if gpus is None:
        import torch

        gpus = torch.cuda.device_count()
    names = write_repository(loaded, gpus, out)
    served = {entry.reference for entry in loaded.networks}
    for name in names:
        # The first word is for programs: what is to be loaded from the start.
        word = "served" if name.rpartition("-")[0] in served else "loadable"
        click.echo(f"{word} {name}")


def main() -> None:
    """Runs the command; errors are one line each. Exit codes: 0, 1 (failed), 2 (wrong use)."""
    try:
        program(prog_name="convlens-workers")
    except ConfigError as error:
        for line in str(error).splitlines():
            click.echo(f"convlens-workers: {line}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
