"""The pictures of syntheses: how they grow, and what each method makes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from figures import FAINT, column, grid, row, tile, words
from method_pictures import picture, small, told
from PIL import Image

from convlens.client import Client, SynthesisDone, SynthesisPreview, SynthesizedPicture
from convlens.client.methods import (
    CanvasStart,
    ClassModel,
    FeatureUnit,
    FoolingCppn,
    FoolingGradient,
    Inversion,
    Parametrization,
    Priors,
    UnitMaximization,
)
from convlens.workers.shapes.draw import CLASSES

# Until it is done: evolution shows the network some thousand pictures.
TIMEOUT = 1800.0
# Of the network's input: every pixel is shown as it is.
SIDE, GAP = 128, 15
SHOWN = 6
RECIPE = Priors(
    parametrization=Parametrization.PARAMETRIZATION_FOURIER, decorrelate_colors=True, jitter=4
)
NATURAL = ClassModel(priors=RECIPE, start=CanvasStart.CANVAS_START_NOISE)
LAYERS = ("features.2", "features.5", "features.10", "features.15", "classifier.5")
MAPS = (("features.5", 5), ("features.10", 9), ("features.10", 30), ("features.15", 12))
MORE_MAPS = (("features.15", 40), ("features.18", 7))


def made(client: Client, method: Any, **given: Any) -> Sequence[SynthesizedPicture]:
    """What a method makes."""
    return client.synthesize_to_end(method, timeout=TIMEOUT, **given).pictures


def under(image: Image.Image, *lines: str) -> Image.Image:
    """A picture with lines of text below it."""
    first, *others = lines
    return column([told(image, words(first, 16)), *map(small, others)], 2)


def sure(found: SynthesizedPicture) -> str:
    """What the network says of the PNG."""
    answer = found.rounded_prediction
    assert answer
    return f"{answer.label} {answer.probability:.1%}"


def class_models(client: Client) -> Image.Image:
    """Of every class, with the recipe."""
    tiles = [
        under(tile(found.png, SIDE), label, sure(found))
        for label in CLASSES
        for found in made(client, NATURAL, target=label)
    ]
    return grid(tiles, len(CLASSES) // 2, GAP)


def class_model(client: Client) -> Image.Image:
    """How one grows, with the pixels alone and with the recipe."""
    rows = {"without priors": ClassModel(), "Fourier, decorrelated colours, jitter": NATURAL}
    return column(
        (column([words(title, 15, FAINT), grown(client, each)], 8) for title, each in rows.items()),
        18,
    )


def grown(client: Client, method: ClassModel) -> Image.Image:
    """The model of a star after some steps."""
    tiles: list[Image.Image] = []
    wanted = (4, 16, 32, 64)
    events = client.synthesize(method, target="star", preview_every=4, timeout=TIMEOUT)
    for event in events:
        if isinstance(event, SynthesisPreview) and event.step in wanted:
            tiles.append(under(tile(event.pngs[0], SIDE), f"{event.step} steps"))
        if isinstance(event, SynthesisDone):
            [found] = event.pictures
            tiles.append(under(tile(found.png, SIDE), f"{found.steps}: {sure(found)}"))
    return row(tiles, GAP, 0)


def unit_maximization(client: Client) -> Image.Image:
    """What some maps answer to most."""
    return row([unit(client, *each) for each in (*MAPS, *MORE_MAPS)], GAP, 0)


def unit(client: Client, layer: str, number: int) -> Image.Image:
    """What one map answers to most."""
    wanted = UnitMaximization(layer=layer, unit=FeatureUnit(map_index=number), priors=RECIPE)
    [found] = made(client, wanted)
    return under(tile(found.png, SIDE), f"{layer}, map {number}", f"answers {found.activation:.3g}")


def inversion(client: Client) -> Image.Image:
    """Two pictures, and what is left of them in the codes of some layers."""
    return column((inverted(client, name) for name in ("heart-1", "star-2")), 18)


def inverted(client: Client, name: str) -> Image.Image:
    """A picture, and what becomes of its codes."""
    tiles = [under(tile(picture(name), SIDE), "the picture")]
    for layer in LAYERS:
        [found] = made(client, Inversion(layer=layer), image=picture(name))
        tiles.append(under(tile(found.png, SIDE), layer, f"PSNR {found.psnr:.1f} dB", sure(found)))
    return row(tiles, GAP, 0)


def fooling(client: Client) -> Image.Image:
    """Some by gradient, and some by CPPN."""
    ways = {"by gradient, from noise": FoolingGradient(), "by CPPN and MAP-Elites": FoolingCppn()}
    rows: list[Image.Image] = []
    for title, way in ways.items():
        tiles = [
            under(tile(found.png, SIDE), sure(found))
            # Evolution gets further with more classes: each is a step on the way to others.
            for found in made(client, way, target=CLASSES)[:SHOWN]
        ]
        rows.append(column([words(title, 15, FAINT), row(tiles, GAP, 0)], 8))
    return column(rows, 18)


SYNTHESIS_FIGURES: Mapping[str, Callable[[Client], Image.Image]] = {
    "class_model": class_model,
    "unit_maximization": unit_maximization,
    "inversion": inversion,
    "fooling": fooling,
}
