"""Draws what codes vary with: shares by layer, and the values of factors as pictures."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray
from PIL.Image import Image

from convlens.client._text import percent
from convlens.client.studies._charts import (
    COLOURS,
    FAINT,
    INK,
    LINE,
    fitted,
    in_style,
    new_figure,
    picture_of,
)
from convlens.client.studies._factor_variance import Part, Parts
from convlens.client.studies._grid import Factor

# Charts beside each other, and pixels of a picture in them.
ACROSS, SIDE = 3, 72
# Pictures of a factor that are drawn.
MOST_TILES = 24
# The least share that has room for its number.
LEGIBLE = 0.045


@in_style
def shares(parts: Mapping[str, Parts]) -> Image:
    """A bar for each layer, the first one on top."""
    figure, [[axes]] = new_figure(9, 1.3 + 0.42 * len(parts))
    layers = list(parts)
    names = [part.name for part in parts[layers[0]].factors]
    start = np.zeros(len(layers))
    for number, name in enumerate([*names, "the rest"]):
        found = [[*each.factors, each.rest][number].share for each in parts.values()]
        is_rest = number == len(names)
        colour = LINE if is_rest else COLOURS[number % len(COLOURS)]
        hatch = "//" if not is_rest and number >= len(COLOURS) else None
        bars = axes.barh(
            layers, found, left=start, label=name, color=colour, hatch=hatch, height=0.72
        )
        told = [percent(share) if share >= LEGIBLE else "" for share in found]
        axes.bar_label(bars, told, label_type="center", color=INK if is_rest else "white")
        start += found
    axes.invert_yaxis()
    axes.set(xlim=(0, max(1, float(start.max()))), xlabel="share of the variance")
    axes.grid(visible=False)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    figure.legend(loc="outside upper left", ncols=min(7, len(names) + 1))
    return picture_of(figure)


@in_style
def embeddings(
    factors: Sequence[Factor], parts: Parts, shown: Mapping[str, Sequence[NDArray[np.uint8]]]
) -> Image:
    """For each factor the mean codes of its values in their two strongest components."""
    columns = min(ACROSS, len(factors))
    rows = ceil(len(factors) / columns)
    figure, axes = new_figure(4.2 * columns, 3.9 * rows, rows, columns)
    cells = list(axes.flat)
    for cell, factor, part in zip(cells, factors, parts.factors, strict=False):
        _embedding(cell, factor, part, shown[factor.name])
    for cell in cells[len(factors) :]:
        cell.axis("off")
    return picture_of(figure)


def _embedding(cell: Any, factor: Factor, part: Part, tiles: Sequence[NDArray[np.uint8]]) -> None:
    assert part.places is not None
    places = np.zeros((len(part.places), 2))
    places[:, : part.places.shape[1]] = part.places
    if factor.is_ordered:
        cell.plot(*places.T, color=FAINT, linewidth=1)
    for place in np.linspace(0, len(places) - 1, min(MOST_TILES, len(places))):
        number = round(float(place))
        tile = tiles[number].repeat(4 - tiles[number].shape[2] or 1, 2)
        picture = fitted(tile, SIDE)
        image = OffsetImage(picture, zoom=0.5, interpolation="none")
        cell.add_artist(AnnotationBbox(image, tuple(places[number]), frameon=False, pad=0))
        cell.annotate(
            factor.values[number],
            tuple(places[number]),
            (0, -26),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            color=INK,
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
            zorder=5,
        )
    reach = 1.35 * float(np.abs(places).max()) or 1.0
    dimensions = f"{part.dimension} dimension{'s' if part.dimension != 1 else ''}"
    cell.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    cell.set_title(f"{factor.name}: {percent(part.share, 1)}, {dimensions}")
    cell.tick_params(labelsize=7, length=0)
