"""The picture of the README: what several methods say of three pictures."""

from pathlib import Path

from figures import FAINT, apart, blank, column, legend, row, tile, words
from method_pictures import (
    COLORS,
    OVERLAY,
    asked,
    picture,
    target_of,
)
from PIL import Image

from convlens.client import Attribution, Client
from convlens.client.methods import (
    Fill,
    GradCam,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)

SHOWN = ("star-2", "cross-1", "arrow-1")
SIDE, GAP, LABEL = 150, 12, 84
METHODS = {
    "what moves the score": Saliency(),
    "averaged over noise": SmoothGrad(),
    "what adds to the score": IntegratedGradients(),
}
OVERLAID = {
    "missed when covered": Occlusion(window=24, fill=Fill.FILL_BLUR),
    "of the layer features.9": GradCam(layer="features.9"),
}


def overview(client: Client) -> Image.Image:
    """A row for each picture, a column for each method."""
    found = {name: explained(client, picture(name)) for name in SHOWN}
    first = found[SHOWN[0]]
    lines = [line(picture(name), of_picture) for name, of_picture in found.items()]
    titles = apart(blank(1, 1), row(heads(first), GAP), lines[0].width)
    keys = [legend(one.png, *COLORS[one.sign], 14) for one in (first[0], first[2])]
    return column([titles, *lines, apart(blank(1, 1), row(keys, 34), titles.width)], GAP)


def explained(client: Client, source: Path) -> list[Attribution]:
    """What every method says of a picture."""
    alone = asked(client, source, *METHODS.values())
    return alone + asked(client, source, *OVERLAID.values(), rendering=OVERLAY)


def line(source: Path, found: list[Attribution]) -> Image.Image:
    """A picture and all of its maps."""
    tiles = [tile(source, SIDE), *(tile(one.png, SIDE) for one in found)]
    return row([label_of(found[0]), row(tiles, GAP)], 0)


def label_of(found: Attribution) -> Image.Image:
    """The class, and how sure the network is of it."""
    target = target_of(found)
    text = column([words(target.label, 17), words(f"{target.probability:.1%}", 14, FAINT)], 2)
    return apart(text, blank(1, 1), LABEL)


def heads(found: list[Attribution]) -> list[Image.Image]:
    """What each column shows."""
    said = zip(found, (*METHODS, *OVERLAID), strict=True)
    both = [column([words(one.method, 16), words(text, 14, FAINT)], 1) for one, text in said]
    return [apart(head, blank(1, 1), SIDE) for head in both]
