"""`convlens robustness`."""

import shlex
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from convlens.client import Client, Cost, InvalidRequest, LabeledImage, RobustnessPoint, methods
from convlens.client._errors import from_status
from convlens.client._labels import LabeledFile, check_classes, labeled_files
from convlens.client._operations.robustness import robustness_plan
from convlens.client.cli import _options as options
from convlens.client.cli._connection import connected
from convlens.client.cli._files import check_folder, check_new, write_whole
from convlens.client.cli._method_help import method_document, method_help
from convlens.client.cli._output import Estimate, print_estimate, total
from convlens.client.cli._progress import progress
from convlens.client.cli._report_maker import check_page
from convlens.client.cli._robustness_output import print_document, print_evaluation, tell_page
from convlens.client.cli._robustness_page import robustness_page
from convlens.client.cli._robustness_run import Evaluation, ItemTally, Run, Show
from convlens.client.cli._robustness_state import State
from convlens.client.cli._robustness_words import budget
from convlens.client.cli._rows import percent
from convlens.client.cli._specs import Choice, Numbers, short
from convlens.client.cli._tally import end
from convlens.contract import Failure, rule_of, with_defaults
from convlens.contract.robustness import check_plan
from convlens.v1 import adversarial_pb2 as pb

DESCRIBED = {"--attack": methods.AttackMethod}
FIELDS = pb.RobustnessPlan.DESCRIPTOR.fields_by_name
LEVEL = rule_of(FIELDS["confidence_level"])


@click.command()
@click.argument("folder", required=False, metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CSV with columns file and label, or JSON; else each picture's folder names its class.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=Choice("attack", methods.AttackMethod),
    metavar="NAME[:PARAM=VALUE,...]",
    help="How to attack; several times for several.",
)
@click.option(
    "--epsilons",
    type=Numbers(),
    default=(),
    metavar="X,X,...",
    help="Budgets for the largest change of any value, as 1/255,2/255,4/255.",
)
@click.option(
    "--epsilons-l2",
    type=Numbers(),
    default=(),
    metavar="X,X,...",
    help="Budgets for the Euclidean length of the change, as 0.25,0.5,1.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.html", help="A page with the curve."
)
@click.option("--overwrite", is_flag=True, help="Write over a page that is there.")
@click.option(
    "--require-rounded",
    is_flag=True,
    help="Count a success only where the picture in 8 bits succeeds.",
)
@click.option(
    "--confidence",
    "confidence_level",
    type=options.FiniteRange(LEVEL.greater_than, LEVEL.less_than, min_open=True, max_open=True),
    metavar="LEVEL",
    help=f"Level of the confidence intervals; {LEVEL.default} by default.",
)
@options.seed
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep what is done in this file, and go on from it where it is there.",
)
@click.option(
    "--timeout",
    type=options.SECONDS,
    metavar="SECONDS",
    help="How long the evaluation of one network may take.",
)
@options.allow_partial
@options.estimate
@options.help_methods
@options.server
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME[@VERSION]",
    help="A served network; several times for several curves. Else the default.",
)
@options.as_json("one JSON document")
@click.pass_context
def robustness(
    ctx: click.Context,
    folder: Path | None,
    labels: Path | None,
    attacks: tuple[Any, ...],
    out: Path | None,
    overwrite: bool,
    checkpoint: Path | None,
    timeout: float | None,
    estimate: bool,
    help_methods: bool,
    server: str,
    networks: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Measure accuracy against the size of the change that an attack may make.

    Every picture of FOLDER is attacked within each budget. An image counts as right where no
    attack succeeded; the curve of all attacks together is the worst for each image. What is not
    found may be there all the same: the true curve is not above this one.

    With --checkpoint, a run that was interrupted goes on when the same command is given again. A
    picture that cannot be read is reported, the others go on, and the exit code is 1.

    \b
    Labels are in a file:
      file,label
      star/1.png,star
    or else the folder of each picture names its class, as FOLDER/star/1.png does.

    \b
    Examples:
      convlens robustness pictures/ --attack pgd --attack fgsm \\
          --epsilons 1/255,2/255,4/255,8/255 --out curve.html
      convlens robustness pictures/ --attack auto-attack --epsilons 4/255 \\
          --network shapes --network my-network --out curves.html
      convlens robustness pictures/ --labels labels.csv --attack deep-fool \\
          --epsilons-l2 0.25,0.5,1 --checkpoint run.json
      convlens robustness pictures/ --attack pgd --epsilons 4/255 --estimate
      convlens robustness --help-methods
    """
    if help_methods:
        click.echo(method_document(DESCRIBED) if as_json else method_help(DESCRIBED))
        return
    if folder is None:
        raise click.UsageError("Missing argument 'FOLDER'.", ctx)
    plan = _plan(ctx, attacks, given)
    _check_files(out, checkpoint, overwrite=overwrite)
    files = labeled_files(folder, labels, _note)
    with connected(server) as client:
        served = [_served(client, name, files) for name in networks or ("",)]
        if estimate:
            cost = _estimated(client, served, files, attacks, given)
            print_estimate(Estimate(cost, len(files), 0), as_json=as_json)
            return
        evaluations, tally = _evaluated(
            client,
            served,
            files,
            plan,
            attacks,
            given,
            State(checkpoint),
            timeout,
            prints=not as_json,
        )
    if out is not None:
        command = shlex.join(["convlens", *ctx.obj])
        write_whole(out, robustness_page(evaluations, command))
    if as_json:
        print_document(evaluations, out)
    elif out is not None:
        tell_page(out)
    end(ctx, tally)


def _note(text: str) -> None:
    click.echo(f"convlens: note: {text}", err=True)


def _plan(ctx: click.Context, attacks: Sequence[Any], given: dict[str, Any]) -> pb.RobustnessPlan:
    """The plan with every default; UsageError where it breaks the contract."""
    if not attacks:
        raise click.UsageError(
            "Missing option '--attack'; 'convlens robustness --help-methods' lists what there is.",
            ctx,
        )
    for attack in attacks:
        named = {field.name for field, _ in attack.ListFields()}
        if own := sorted(named & {"epsilon", "epsilon_l2"}):
            raise click.UsageError(
                f"--attack has {short(own[0])}, and the budgets are those of --epsilons and "
                "--epsilons-l2; leave it out there.",
                ctx,
            )
    try:
        plan = with_defaults(robustness_plan(attacks, **given))
        check_plan(plan)
    except InvalidRequest as error:
        raise click.UsageError(error.message, ctx) from error
    except Failure as failure:
        words = from_status(failure.status()).violations
        said = "; ".join(f"{each.field.removeprefix('plan.')} {each.description}" for each in words)
        raise click.UsageError(f"{said}.", ctx) from failure
    return plan


def _check_files(out: Path | None, checkpoint: Path | None, *, overwrite: bool) -> None:
    """Says at once what would keep a file from being written."""
    if out is not None:
        check_page(out, overwrite=overwrite)
    if checkpoint is not None:
        check_folder(checkpoint)
        check_new(checkpoint, overwrite=True)


def _served(client: Client, name: str, files: Sequence[LabeledFile]) -> str:
    """The name with its version, so that all calls ask the same one; it must know all labels."""
    network = client.network(name)
    check_classes(network, files)
    return f"{network.name}@{network.version}"


def _estimated(
    client: Client,
    networks: Sequence[str],
    files: Sequence[LabeledFile],
    attacks: Sequence[Any],
    given: dict[str, Any],
) -> Cost:
    cost = Cost(0, 0)
    for network in networks:
        images = (LabeledImage(file.id, file.path, file.label.target) for file in files)
        found = client.estimate_robustness(images, attacks, network=network, **given)
        cost = total(cost, found)
    return cost


def _evaluated(
    client: Client,
    networks: Sequence[str],
    files: Sequence[LabeledFile],
    plan: pb.RobustnessPlan,
    attacks: Sequence[Any],
    given: dict[str, Any],
    state: State,
    timeout: float | None,
    *,
    prints: bool,
) -> tuple[list[Evaluation], ItemTally]:
    """The evaluation of each network, printed when it is there."""
    evaluations: list[Evaluation] = []
    tally = ItemTally()
    for network in networks:
        own = pb.RobustnessPlan()
        own.CopyFrom(plan)
        own.network = network
        with shown_curve(network, len(files)) as show:
            run = Run(client, files, attacks, given, state, timeout, show, tally)
            evaluations.append(run.evaluated(network, own))
        if prints:
            print_evaluation(evaluations[-1])
    return evaluations, tally


@contextmanager
def shown_curve(network: str, images: int) -> Generator[Show, None, None]:
    """Shows how many images are done, and how many of them withstand the largest budget."""
    with progress(network + "{task.description}") as bar:
        task = bar.add_task("", total=images)

        def show(done: int, points: Sequence[RobustnessPoint]) -> None:
            bar.update(task, completed=done)
            if points:
                last = points[-1]
                size = budget(last.norm, last.epsilon)
                bar.update(task, description=f" {percent(last.accuracy)} right at {size}")

        yield show
