"""The figures of a health study."""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.client._drawing import drawn
from convlens.client._text import percent
from convlens.client.studies._activations import EDGES, HIGHEST, LOWEST, PER_DECADE, LayerHealth
from convlens.client.studies._charts import COLOURS, FAINT, INK, new_figure, picture_of, sheet
from convlens.client.studies._filters import FilterHealth

# Layers that a chart has room for; of more, these many are taken evenly.
MOST_LAYERS = 40
# How high a histogram is, in rows of the chart.
HEIGHT = 0.85
WIDTH = 8.6
# Of an axis.
TITLE: Any = {"loc": "left", "fontsize": 10, "fontweight": "bold", "color": INK}
_BLUE, _ORANGE, _GREEN = COLOURS[0], COLOURS[1], COLOURS[2]


def units(layers: Sequence[LayerHealth]) -> Image.Image:
    """Per layer, from the first one above: density with its range over pictures; units' states."""
    shown = _spread(layers)
    places = np.arange(len(shown))
    figure, axes = new_figure(WIDTH, 1.5 + 0.27 * len(shown), 1, 2)
    left, right = axes[0]
    density = 100 * np.array([layer.density for layer in shown])
    least, most = (
        100 * np.array([pick(layer.densities) for layer in shown]) for pick in (np.min, np.max)
    )
    left.barh(places, density, 0.62, color=_BLUE)
    left.hlines(places, least, most, color=INK, linewidth=1)
    left.set(xlim=(0, 100), xlabel="% of activations that are not 0; line: least to most")
    left.set_title("Density", **TITLE)
    dead = 100 * np.array([len(layer.dead) / layer.units for layer in shown])
    always = 100 * np.array([len(layer.always_on) / layer.units for layer in shown])
    right.barh(places, dead, 0.62, color=_ORANGE, label="dead")
    right.barh(places, always, 0.62, left=dead, color=_GREEN, label="always on")
    widest = max(float((dead + always).max()), 5.0)
    for place, layer in enumerate(shown):
        words = f"{len(layer.dead)} dead, {len(layer.always_on)} always on, of {layer.units}"
        end = dead[place] + always[place] + widest / 60
        right.text(end, place, words, va="center", fontsize=7, color=FAINT)
    right.set(xlim=(0, widest * 1.9), xlabel="% of units")
    right.set_title("Dead and always-on units", **TITLE)
    right.set_xticks([tick for tick in right.get_xticks() if tick <= min(100, widest * 1.05)])
    for one in (left, right):
        one.set_yticks(places, [layer.layer for layer in shown])
        one.set_ylim(len(shown) - 0.4, -0.6)
        one.grid(visible=False, axis="y")
    right.set_yticklabels([])
    figure.legend(loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    return picture_of(figure)


def histograms(layers: Sequence[LayerHealth]) -> Image.Image:
    """Per layer, how many activations have which size; those below 0 hang down.

    Sizes are on one logarithmic axis; each layer is drawn as high as its fullest bin allows.
    """
    shown = _spread(layers)
    figure, axes = new_figure(WIDTH, 1.1 + 0.42 * len(shown))
    [axis] = axes[0]
    edges = np.logspace(LOWEST, HIGHEST, PER_DECADE * (HIGHEST - LOWEST) + 1)
    sides = [_sides(layer) for layer in shown]
    total: NDArray[Any] = np.stack([up + down for up, down in sides]).sum(0)
    there = np.flatnonzero(total)
    first, last = (int(there[0]), int(there[-1])) if there.size else (0, len(edges) - 2)
    # A handful of tiny activations would squeeze all others.
    grown = np.cumsum(total)
    first = max(first, int((grown < 0.001 * float(grown[-1])).sum()))
    below = any(down.any() for _, down in sides)
    for place, ((up, down), layer) in enumerate(zip(sides, shown, strict=True)):
        high = max(up.max(), down.max(), 1) / (HEIGHT / (2 if below else 1))
        for counts, sign, colour in ((up, -1, _BLUE), (down, 1, _ORANGE)):
            if counts.any():
                axis.stairs(
                    place + sign * counts / high,
                    edges,
                    baseline=place,
                    fill=True,
                    color=colour,
                    alpha=0.75,
                )
        zero = layer.zeros / max(1, layer.zeros + int(layer.histogram.sum()))
        beside = axis.get_yaxis_transform()
        axis.text(1.01, place, f"{percent(zero)} are 0", transform=beside, fontsize=8, color=FAINT)
    axis.set_xscale("log")
    axis.set_xlim(edges[first], edges[last + 1])
    axis.set_yticks(range(len(shown)), [layer.layer for layer in shown])
    axis.set_ylim(len(shown) - (0.4 if below else 0.8), -1.05)
    axis.set_xlabel("size of an activation" + ("; below 0: hanging, orange" if below else ""))
    return picture_of(figure)


def filter_sheet(filters: FilterHealth) -> Image.Image:
    """All filters row by row, each on its own scale: grey is 0; in colour where they see it."""
    return Image.fromarray(filter_tiles(filters.weights, side=64))


def filter_tiles(
    weights: NDArray[np.float64], side: int, columns: int | None = None
) -> NDArray[np.uint8]:
    """Filters [filters, channels, height, width] as a sheet, each on its own scale."""
    tiles = [
        drawn(np.moveaxis(each, 0, -1), "reconstruction", float(np.abs(each).max()) or 1.0)
        for each in weights
    ]
    across = columns or max(1, min(12, ceil(sqrt(2 * len(tiles)))))
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    return sheet(rows, side=side, gap=max(4, side // 8))


def correlations(filters: FilterHealth) -> Image.Image:
    """The cosines between all filters: red is alike, blue opposite."""
    figure, axes = new_figure(4.6, 3.8)
    [axis] = axes[0]
    shown = axis.imshow(filters.cosines, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axis.grid(visible=False)
    axis.set(xlabel="filter", ylabel="filter")
    bar = figure.colorbar(shown, ax=axis, shrink=0.85)
    bar.set_label("cosine", color=FAINT)
    bar.outline.set_visible(False)  # pyright: ignore[reportUnknownMemberType, reportCallIssue]
    return picture_of(figure)


def _spread(layers: Sequence[LayerHealth]) -> list[LayerHealth]:
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[int(at)] for at in np.linspace(0, len(layers) - 1, MOST_LAYERS).round()]


def _sides(layer: LayerHealth) -> tuple[NDArray[Any], NDArray[Any]]:
    """Counts by size of what is above 0, and of what is below."""
    inner = PER_DECADE * (HIGHEST - LOWEST)
    zero = int(np.searchsorted(EDGES, 0.0))
    # Beside 0 lies a bin for what is smaller than all others.
    above = layer.histogram[zero + 1 : zero + 1 + inner]
    below = layer.histogram[zero - 1 - inner : zero - 1][::-1]
    return above, below
