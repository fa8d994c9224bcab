"""`convlens attack`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from convlens.client import Cost, methods
from convlens.client._operations.asking import choices_of
from convlens.client._picture_files import found
from convlens.client.cli import _options as options
from convlens.client.cli._attack_calls import attacked, true_classes_of
from convlens.client.cli._attack_output import AttackFolder, AttackOutput, VerdictTable
from convlens.client.cli._calls import Picture, batches, shown_progress
from convlens.client.cli._connection import connected
from convlens.client.cli._method_help import method_document, method_help
from convlens.client.cli._output import estimated, print_estimate
from convlens.client.cli._specs import Choice, short
from convlens.client.cli._tally import end
from convlens.client.cli._targets import Target
from convlens.contract.rules import kind_of, title_of

DESCRIBED = {"--method": methods.AttackMethod}


@click.command()
@click.argument("pictures", nargs=-1, metavar="FILE|FOLDER|GLOB...")
@click.option(
    "--method",
    "given_methods",
    multiple=True,
    type=Choice("method", methods.AttackMethod),
    metavar="NAME[:PARAM=VALUE,...]",
    help="How to attack, and with what parameters.",
)
@click.option(
    "--target",
    type=Target(),
    metavar="LABEL|INDEX|rank:N",
    help="The class to lead to. Else any but the picture's own.",
)
@click.option(
    "--least-likely", is_flag=True, help="Lead to the class that is least likely at first."
)
@click.option(
    "--true-class",
    "true_classes",
    multiple=True,
    type=Target(),
    metavar="LABEL|INDEX",
    help="The true class; once for each picture. Else what the network says at first.",
)
@options.out("Folder for the adversarial pictures, and for receipt.json.")
@click.option("--pixels", is_flag=True, help="Write the unrounded pixels too, as .npy files.")
@options.overwrite
@click.option("--all-steps", is_flag=True, help="Run all steps, not only to the first success.")
@click.option(
    "--until-rounded", is_flag=True, help="Go on until the picture in 8 bits succeeds too."
)
@click.option(
    "--through-resize",
    is_flag=True,
    help="Attack the file's own pixels, through resizing and cropping.",
)
@options.seed
@options.time_of_call
@options.allow_partial
@options.estimate
@options.help_methods
@options.server
@options.network
@options.as_json("one JSON document")
@click.pass_context
def attack(
    ctx: click.Context,
    pictures: tuple[str, ...],
    given_methods: tuple[Message, ...],
    true_classes: tuple[Any, ...],
    out: Path | None,
    pixels: bool,
    overwrite: bool,
    estimate: bool,
    help_methods: bool,
    server: str,
    as_json: bool,
    **question: Any,
) -> None:
    """Look for small changes of pictures that fool a network.

    With --out, photo-pgd.png is the adversarial picture, lossless and as the network gets it, and
    photo-pgd-shown.png lays it beside the original, with the change made visible and what the
    network says of both. "as png" in the table is whether the picture in 8 bits succeeds as well.

    An attack that fails shows only that this attack failed, and is no error. A picture that cannot
    be read is: the others go on, and the exit code is 1.

    \b
    Examples:
      convlens attack photo.jpg --method deepfool --target star --out fooled
      convlens attack photo.jpg --method pgd:epsilon=8/255,steps=100 --json
      convlens attack photos/ --method fgsm:epsilon=2/255
      convlens attack photos/ --method carlini-wagner --estimate
      convlens attack --help-methods
    See for yourself what the network says of such a picture:
      convlens classify fooled/photo-deep-fool.png --as-is
    """
    if help_methods:
        click.echo(method_document(DESCRIBED) if as_json else method_help(DESCRIBED))
        return
    asked = _checked(ctx, pictures, given_methods, question)
    if pixels and out is None:
        raise click.UsageError("--pixels needs --out.", ctx)
    paths = found(pictures)
    if true_classes and len(true_classes) != len(paths):
        raise click.UsageError(
            f"--true-class must be there once for each picture: found {len(true_classes)} for "
            f"{len(paths)}.",
            ctx,
        )
    read = map(Picture.read, paths, true_classes or [None] * len(paths))
    # The sheet draws the change that was found, not what rounding left of it.
    given: dict[str, Any] = {**_given(question), "return_pixels": out is not None}
    with connected(server) as client:
        if estimate:

            def ask(batch: Sequence[Picture]) -> Cost:
                data = [picture.data for picture in batch]
                return client.estimate_attack(
                    data, asked, true_classes=true_classes_of(batch), **given
                )

            print_estimate(estimated(read, ask), as_json=as_json)
            return
        name = short(choices_of(methods.AttackMethod)[kind_of(asked).name])
        folder = AttackFolder(out, name, pixels=pixels, overwrite=overwrite) if out else None
        table = None if as_json else VerdictTable(paths, files=out is not None)
        output = AttackOutput(title_of(asked), folder, table)
        with shown_progress("attacking") as show:
            for batch in batches(read):
                call = attacked(client, batch, asked, given, show)
                output.add(call.outcomes, call.done)
    output.end()
    end(ctx, output.tally)


def _checked(
    ctx: click.Context,
    pictures: Sequence[str],
    given: Sequence[Message],
    question: dict[str, Any],
) -> Any:
    """The method, where all is there that must be."""
    if not pictures:
        raise click.UsageError("Missing argument 'FILE|FOLDER|GLOB...'.", ctx)
    if not given:
        raise click.UsageError(
            "Missing option '--method'; 'convlens attack --help-methods' lists what there is.", ctx
        )
    if len(given) > 1:
        raise click.UsageError(
            f"--method is given {len(given)} times, and an attack has one method; attack once for "
            "each, or measure several with 'convlens robustness --attack'.",
            ctx,
        )
    if question["least_likely"] and question["target"] is not None:
        raise click.UsageError("--target and --least-likely exclude each other.", ctx)
    return given[0]


def _given(question: dict[str, Any]) -> dict[str, Any]:
    """The options of the command as those of `attack_stream`."""
    least, every = question.pop("least_likely"), question.pop("all_steps")
    rounded = question.pop("until_rounded")
    return {
        **question,
        "target": methods.LeastLikely() if least else question["target"],
        "stop_at_success": False if every else None,
        "until_rounded_succeeds": rounded,
    }
