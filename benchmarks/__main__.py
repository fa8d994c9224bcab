"""The command line of the benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import classify as classify_benchmark
from benchmarks import echo as echo_benchmark
from benchmarks import everything
from benchmarks import explain as explain_benchmark
from benchmarks import features as features_benchmark
from benchmarks import fooling as fooling_benchmark
from benchmarks import isolation as isolation_benchmark
from benchmarks import latency as latency_benchmark
from benchmarks import litserve as litserve_benchmark
from benchmarks import merging as merging_benchmark
from benchmarks import mixed as mixed_benchmark
from benchmarks import occlusion as occlusion_benchmark
from benchmarks import stages as stages_benchmark
from benchmarks import start as start_benchmark
from benchmarks import truth as truth_benchmark

F = TypeVar("F", bound=Callable[..., Any])


def _writable(_ctx: click.Context, _option: click.Parameter, file: Path | None) -> Path | None:
    """Told before anything is measured, since figures are written at the end."""
    if file and not file.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {file.absolute().parent}; make it first.")
    return file


JSON = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    callback=_writable,
    help="Write the figures here.",
)


def rounds_option(default: int) -> Callable[[F], F]:
    """--rounds, with what a benchmark has without it."""
    text = "How often each side is measured, by turns."
    return click.option("--rounds", type=click.IntRange(1), default=default, help=text)


@click.group()
def program() -> None:
    """Measure ConvLens beside what it stands on, both sides in one run."""


@program.command()
@JSON
def classify(json_file: Path | None) -> None:
    """Classify at saturation against the bare network in a loop."""
    classify_benchmark.run(json_file)


@program.command()
@JSON
def latency(json_file: Path | None) -> None:
    """What the server adds to a Classify over asking Triton directly."""
    latency_benchmark.run(json_file)


@program.command()
@JSON
def isolation(json_file: Path | None) -> None:
    """Classify beside an analysis pool that computes at full load."""
    isolation_benchmark.run(json_file)


@program.command()
@JSON
@rounds_option(features_benchmark.ROUNDS)
def features(json_file: Path | None, rounds: int) -> None:
    """Codes of an early, a middle and a late layer against the full forward, and other ways."""
    features_benchmark.run(json_file, rounds)


@program.command()
@JSON
@rounds_option(explain_benchmark.ROUNDS)
def explain(json_file: Path | None, rounds: int) -> None:
    """32 callers with mixed explanations against one after the other, and captum."""
    explain_benchmark.run(json_file, rounds)


@program.command()
@JSON
@click.option("--seconds", default=echo_benchmark.SECONDS, help="Of a round.")
@rounds_option(echo_benchmark.ROUNDS)
def echo(json_file: Path | None, seconds: float, rounds: int) -> None:
    """The gateway in front of a stubbed engine against grpc.aio alone."""
    echo_benchmark.run(json_file, seconds, rounds)


@program.command()
@JSON
@click.option("--network", "networks", multiple=True, default=fooling_benchmark.NETWORKS)
@click.option("--pictures", default=256, help="How many.")
@click.option("--skip", default=0, help="So many pictures before them, to measure in parts.")
@click.option("--attack", "attacks", multiple=True, help="Only those with these words in a name.")
@click.option("--epsilon", default=4.0, help="The budget, in 255ths.")
@click.option("--queries", default=200, help="Queries of attacks without gradients.")
@click.option("--seed", default=0, help="Of what is drawn on both sides.")
def fooling(
    json_file: Path | None,
    networks: tuple[str, ...],
    pictures: int,
    attacks: tuple[str, ...],
    epsilon: float,
    queries: int,
    seed: int,
    skip: int,
) -> None:
    """Attacks beside foolbox's and torchattacks': successes, distances, time."""
    fooling_benchmark.run(
        json_file, networks, pictures, attacks, epsilon / 255, queries, seed, skip
    )


@program.command()
@JSON
@click.option("--network", "networks", multiple=True, default=occlusion_benchmark.NETWORKS)
@rounds_option(3)
def occlusion(json_file: Path | None, networks: tuple[str, ...], rounds: int) -> None:
    """Exact occlusion against captum's and whole passes."""
    occlusion_benchmark.run(json_file, networks, rounds)


@program.command()
@JSON
@click.option("--images", default=litserve_benchmark.IMAGES, help="Of a round at saturation.")
@click.option("--calls", default=litserve_benchmark.CALLS, help="Of a round one by one.")
@rounds_option(litserve_benchmark.ROUNDS)
def litserve(json_file: Path | None, images: int, calls: int, rounds: int) -> None:
    """Classify against LitServe with the same network."""
    litserve_benchmark.run(json_file, images, calls, rounds)


@program.command()
@JSON
@click.option("--device", default="cpu", help="cpu or cuda.")
@click.option("--network", default=merging_benchmark.NETWORK, help="A builder of networks.yaml.")
@click.option("--jobs", default=merging_benchmark.JOBS, help="How many.")
@click.option("--steps", default=merging_benchmark.STEPS, help="Of the longer methods.")
@rounds_option(merging_benchmark.ROUNDS)
def merging(
    json_file: Path | None, device: str, network: str, jobs: int, steps: int, rounds: int
) -> None:
    """Mixed jobs at once on one runner against one after the other on it, without a server."""
    merging_benchmark.run(json_file, device, network, jobs, steps, rounds)


@program.command()
@JSON
@click.option("--callers", default=mixed_benchmark.CALLERS, help="Of Attack and Explain.")
@click.option("--steps", default=mixed_benchmark.STEPS, help="Of what they ask for.")
@click.option("--calls", default=mixed_benchmark.CALLS, help="Of Classify in a round.")
@rounds_option(mixed_benchmark.ROUNDS)
def mixed(json_file: Path | None, callers: int, steps: int, calls: int, rounds: int) -> None:
    """Classify beside callers of Attack and Explain who keep the analysis pool full."""
    mixed_benchmark.run(json_file, callers, steps, calls, rounds)


@program.command()
@JSON
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(stages_benchmark.ENGINES),
    default=stages_benchmark.ENGINES,
)
@click.option(
    "--rpc",
    "rpcs",
    multiple=True,
    type=click.Choice(stages_benchmark.RPCS, case_sensitive=False),
    default=stages_benchmark.RPCS,
)
@click.option("--callers", default=stages_benchmark.CALLERS, help="At once.")
@click.option("--seconds", default=stages_benchmark.SECONDS, help="Of each RPC.")
def stages(
    json_file: Path | None,
    engines: tuple[str, ...],
    rpcs: tuple[str, ...],
    callers: int,
    seconds: float,
) -> None:
    """Where the time of each RPC goes under load, stage by stage."""
    stages_benchmark.run(json_file, engines, rpcs, callers, seconds)


@program.command()
@JSON
def start(json_file: Path | None) -> None:
    """From the start of a server to its first answer, and its stop."""
    start_benchmark.run(json_file)


@program.command()
@JSON
@click.option("--pictures", default=truth_benchmark.PICTURES, help="How many of each kind.")
def truth(json_file: Path | None, pictures: int) -> None:
    """How surely each method of Explain finds objects, and a planted marker."""
    truth_benchmark.run(json_file, pictures)


@program.command("all")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="Only this one; may be given several times.")
@click.option("--skip", multiple=True, help="Not this one; may be given several times.")
def run_all(folder: Path, only: tuple[str, ...], skip: tuple[str, ...]) -> None:
    """Every benchmark in turn, each in a process of its own; figures go into FOLDER."""
    names = [name for name in program.commands if name != "all"]
    modules = everything.commands(folder, names)
    if unknown := {*only, *skip} - {*modules}:
        raise click.UsageError(f"there is no {', '.join(unknown)}; there are {', '.join(modules)}")
    folder.mkdir(parents=True, exist_ok=True)
    if failed := everything.run(modules, only, skip):
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    program()
