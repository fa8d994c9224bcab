"""Draws the curves of invariance as Zeiler & Fergus's figure 5 has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL.Image import Image

from convlens.client.studies._charts import (
    COLOURS,
    FAINT,
    INK,
    in_style,
    new_figure,
    picture_of,
    sheet,
)
from convlens.client.studies._invariance import Curves
from convlens.client.studies._transforms import Kind, spread

AXES: Mapping[Kind, str] = {
    "translation": "translation, pixels down",
    "scale": "scale, times",
    "rotation": "rotation, degrees counter-clockwise",
}
UNIT = "distance, 1 is another picture"
# Single pictures that a chart shows; more of them are a grey cloud.
SINGLE = 24
ACROSS = 3


@in_style
def first_and_last(layers: Sequence[str], curves: Mapping[Kind, Curves]) -> Image:
    """Rows of changes; samples, distances in the first and the last layer, and probability."""
    shown = [0] if len(layers) == 1 else [0, -1]
    columns = 2 + len(shown)
    figure, axes = new_figure(3.2 * columns, 2.6 * len(curves), len(curves), columns)
    heights = [max(_top(each.distances[layer]) for each in curves.values()) for layer in shown]
    for row, (kind, each) in zip(axes, curves.items(), strict=True):
        amounts = [change.amount for change in each.changes]
        _sample(row[0], each)
        for cell, layer, top in zip(row[1:], shown, heights, strict=False):
            _lines(cell, amounts, each.distances[layer])
            cell.axhline(1, color=FAINT, linewidth=0.8, linestyle=":")
            cell.set(ylim=(0, top), title=layers[layer], xlabel=AXES[kind])
            cell.set_ylabel(UNIT)
        _lines(row[-1], amounts, each.probabilities)
        row[-1].set(ylim=(-0.02, 1.02), title="probability of its class", xlabel=AXES[kind])
        _turns(row[1:], kind, amounts)
    return picture_of(figure)


@in_style
def all_layers(layers: Sequence[str], curves: Mapping[Kind, Curves]) -> Image:
    """The mean distance of every layer, one chart for each kind of change."""
    figure, [axes] = new_figure(4.2 * len(curves), 3.6, 1, len(curves))
    top = max(float(each.distances.mean(1).max()) for each in curves.values())
    # Layers have an order, which their colours keep.
    colours = colormaps["viridis"](np.linspace(0, 0.86, len(layers)))
    for cell, (kind, each) in zip(axes, curves.items(), strict=True):
        amounts = [change.amount for change in each.changes]
        for number, layer in enumerate(layers):
            means = each.distances[number].mean(0)
            cell.plot(amounts, means, label=layer, color=colours[number], linewidth=1.8)
        cell.axhline(1, color=FAINT, linewidth=0.8, linestyle=":")
        cell.set(ylim=(0, 1.08 * max(top, 1)), title=kind, xlabel=AXES[kind])
        _turns([cell], kind, amounts)
    axes[0].set_ylabel(UNIT)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return picture_of(figure)


def _lines(cell: Any, amounts: Sequence[float], values: NDArray[np.float64]) -> None:
    """Thin lines of single pictures, and a thick one of the mean over all of them."""
    places = np.linspace(0, len(values) - 1, min(SINGLE, len(values)))
    for number, place in enumerate(places):
        colour = COLOURS[number % (len(COLOURS) - 1)]
        cell.plot(amounts, values[round(place)], color=colour, linewidth=0.7, alpha=0.45)
    cell.plot(amounts, values.mean(0), color=INK, linewidth=2.4)


def _top(values: NDArray[np.float64]) -> float:
    return 1.08 * max(1.0, float(values.max()))


def _turns(cells: Sequence[Any], kind: Kind, amounts: Sequence[float]) -> None:
    if kind == "rotation" and max(amounts) - min(amounts) > 180:
        for cell in cells:
            cell.set_xticks(range(0, int(max(amounts)) + 1, 90))


def _sample(cell: Any, curves: Curves) -> None:
    """Some changed pictures, in the order of their amounts."""
    tiles = [tile.repeat(3, 2) if tile.shape[2] == 1 else tile for tile in curves.sample]
    rows = [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
    cell.imshow(sheet(rows), interpolation="none")
    told = [str(change) for change in spread(curves.changes, len(tiles))]
    cell.set_title(f"{told[0]} … {told[-1]}")
    cell.axis("off")
