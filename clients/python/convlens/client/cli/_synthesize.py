"""`convlens synthesize`."""

from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np

from convlens.client import methods
from convlens.client._images import read_file, to_image
from convlens.client._operations.synthesizing import numbers_of
from convlens.client._text import shown
from convlens.client.cli._calls import Picture
from convlens.client.cli._program import Commands
from convlens.client.cli._synthesis_call import Asked
from convlens.client.cli._synthesis_options import making
from convlens.client.cli._synthesis_settings import ENCODINGS
from convlens.client.cli._targets import Target
from convlens.client.methods import CanvasStart, Parametrization
from convlens.v1.geometry_pb2 import Position
from convlens.v1.tensor_pb2 import Tensor

# What keeps pictures natural: Olah et al. 2017, doi:10.23915/distill.00007.
NATURAL = methods.Priors(
    parametrization=Parametrization.PARAMETRIZATION_FOURIER, decorrelate_colors=True, jitter=4
)
NATURAL_HELP = "Keep it natural: Fourier coefficients, decorrelated colours, jitter 4"


@click.group(cls=Commands)
def synthesize() -> None:
    """Make the pictures that a network answers to.

    A bar shows step, score and probability. Ctrl-C, or the end of --timeout, leaves the last
    preview in --out and --gif; with --checkpoint the same command goes on from there, and one
    with more --steps goes on from the end.

    FILE.receipt.json, beside the pictures, keeps what 'convlens replay' needs to make them again,
    from the beginning, and compare the bits.

    \b
    Examples:
      convlens synthesize class-model --target star --out star.png --gif star.gif
      convlens synthesize class-model --target star --natural --out star.png \\
          --set jitter=8,rotation=5
      convlens synthesize unit --layer conv3 --map 3 --out unit.png
      convlens synthesize invert photo.jpg --layer pool1 --out inverted.png
      convlens synthesize fool --by cppn --out fooled.png --checkpoint fooled.run
      convlens synthesize fool --help-methods
    """


@synthesize.command("class-model")
@click.option("--target", type=Target(), metavar="LABEL|INDEX", help="The class.")
@click.option("--natural", is_flag=True, help=f"{NATURAL_HELP}, from noise; --set wins.")
@making({"class-model": methods.ClassModel()})
def class_model(target: Any, natural: bool) -> Asked:
    """Make the picture that scores highest for a class."""
    method = methods.ClassModel(target=_needed(target, "--target"))
    if natural:
        method.priors.CopyFrom(NATURAL)
        method.start = CanvasStart.CANVAS_START_NOISE
    return Asked(methods.SynthesisMethod(class_model=method))


@synthesize.command("unit")
@click.option("--layer", metavar="NAME", help="The layer, as 'convlens anatomy' lists it.")
@click.option("--map", "channel", type=click.IntRange(0), metavar="N", help="The map, from 0.")
@click.option("--row", type=click.IntRange(0), metavar="N", help="With --column: one unit of it.")
@click.option("--column", type=click.IntRange(0), metavar="N", help="Else the mean of the map.")
@click.option(
    "--direction",
    type=click.Path(path_type=Path),
    metavar="FILE.npy",
    help="In place of --map: a direction among the maps, [channels].",
)
@click.option("--natural", is_flag=True, help=f"{NATURAL_HELP}; --set wins.")
@making({"unit": methods.UnitMaximization()})
def unit(
    layer: str | None,
    channel: int | None,
    row: int | None,
    column: int | None,
    direction: Path | None,
    natural: bool,
) -> Asked:
    """Make the picture that a map or a unit answers to most."""
    method = methods.UnitMaximization(layer=_needed(layer, "--layer"))
    if natural:
        method.priors.CopyFrom(NATURAL)
    if (channel is None) == (direction is None):
        raise click.UsageError("Give either --map or --direction.")
    if (row is None) != (column is None) or (row is not None and channel is None):
        raise click.UsageError("--row and --column go together, with --map.")
    if direction is not None:
        method.direction.CopyFrom(_numbers("direction", direction))
    else:
        place = Position(row=row or 0, column=column or 0)
        found = methods.FeatureUnit(
            map_index=channel or 0, position=place if row is not None else None
        )
        method.unit.CopyFrom(found)
    return Asked(methods.SynthesisMethod(unit_maximization=method))


@synthesize.command("invert")
@click.argument("photo", required=False, type=click.Path(path_type=Path), metavar="PHOTO")
@click.option("--layer", metavar="NAME", help="The layer, or 'logits' or 'log-probabilities'.")
@click.option("--reconstructions", type=int, metavar="N", help="How many, each from its own start.")
@click.option(
    "--code",
    type=click.Path(path_type=Path),
    metavar="FILE.npy",
    help="In place of PHOTO: a code in the layer's own shape.",
)
@making({"invert": methods.Inversion()})
def invert(
    photo: Path | None, layer: str | None, reconstructions: int | None, code: Path | None
) -> Asked:
    """Make the picture whose code is nearest to that of PHOTO."""
    if photo is None and code is None:
        raise click.UsageError("Missing argument 'PHOTO', or option '--code'.")
    if photo is not None and code is not None:
        raise click.UsageError("PHOTO and --code exclude each other.")
    method, source = methods.Inversion(layer=_needed(layer, "--layer")), None
    if photo is not None:
        source = Picture.read(photo)
        if source.error is not None:
            raise source.error
        method.image.CopyFrom(to_image(source.data))
    elif code is not None:
        method.code.CopyFrom(_numbers("code", code))
    asked = methods.SynthesisMethod(inversion=method)
    return Asked(asked, source, {"reconstructions": reconstructions})


@synthesize.command("fool")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=Target(),
    metavar="LABEL|INDEX",
    help="A class; several times for several. Else all.",
)
@click.option(
    "--by",
    type=click.Choice(list(ENCODINGS)),
    default="gradient",
    show_default=True,
    help="Ascend the gradient, evolve pixels, or evolve networks that draw patterns.",
)
@making({f"fool --by {name}": each for name, each in ENCODINGS.items()})
def fool(targets: tuple[Any, ...], by: str) -> Asked:
    """Make pictures of nothing that the network is sure of.

    One that does not reach the wanted confidence is no error; it is said.
    """
    asked = methods.SynthesisMethod(fooling=ENCODINGS[by])
    asked.fooling.targets.extend(targets)
    return Asked(asked)


def _needed(value: Any, option: str) -> Any:
    if value is None:
        raise click.UsageError(f"Missing option '{option}'.")
    return value


def _numbers(name: str, file: Path) -> Tensor:
    """What a .npy file holds."""
    data = read_file(file)
    try:
        return numbers_of(name, np.load(BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise click.ClickException(f"{shown(file)} is no .npy file with numbers.") from error
