"""Draws accuracies of linear classifiers against depth, and against dimensions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from convlens.client._text import printable
from convlens.client.studies._charts import FAINT, new_figure, picture_of, style_of

if TYPE_CHECKING:
    from convlens.client.studies._layers import Layers

# Inches.
WIDTH, HEIGHT = 7.2, 3.8
# Of sizes beside each other on an axis, so that both can be read.
LEAST_RATIO = 1.4
MARKS = {"SVM": "o", "softmax": "s"}


def depth_chart(found: "Layers") -> Image:
    """A curve of each classifier over the layers in the order of depth."""
    figure, [[axes]] = new_figure(max(WIDTH, 0.55 * len(found.layers) + 2), HEIGHT)
    places = range(len(found.layers))
    for number, kind in enumerate(MARKS):
        probes = [found.probe(layer, kind) for layer in found.layers]
        axes.errorbar(
            # Side by side: their bars would hide each other.
            [place + 0.06 * (2 * number - 1) for place in places],
            [100 * each.mean for each in probes],
            [100 * each.deviation for each in probes],
            marker=MARKS[kind],
            markersize=4,
            capsize=3,
            label=f"linear {kind}" if kind == "SVM" else kind,
            color=style_of(number)["color"],
        )
    _dress(axes, found)
    axes.set_xticks(places, [printable(layer) for layer in found.layers])
    if sum(map(len, found.layers)) > 60:
        axes.tick_params("x", rotation=40)
        for label in axes.get_xticklabels():
            label.set_ha("right")
    axes.set_xlabel("layer, the deeper ones to the right")
    return picture_of(figure)


def dimensions_chart(found: "Layers") -> Image:
    """A curve of each layer over the dimensions that its codes were reduced to, by the SVM."""
    figure, [[axes]] = new_figure(WIDTH, HEIGHT)
    sizes = set[int]()
    for number, layer in enumerate(found.layers):
        probes = sorted(
            (each for each in found.probes if (each.layer, each.kind) == (layer, "SVM")),
            key=lambda each: each.dimensions,
        )
        sizes |= {each.dimensions for each in probes}
        axes.errorbar(
            [each.dimensions for each in probes],
            [100 * each.mean for each in probes],
            [100 * each.deviation for each in probes],
            marker="o",
            markersize=4,
            capsize=3,
            label=printable(layer),
            **style_of(number),
        )
    _dress(axes, found)
    axes.set_xscale("log", base=2)
    ticks = _apart(sorted(sizes, reverse=True))
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("dimensions of the code by PCA, and last the whole code; linear SVM")
    return picture_of(figure)


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those of which the numbers below the axis do not overlap, the largest first."""
    kept: list[int] = []
    for size in sizes:
        if not kept or kept[-1] > LEAST_RATIO * size:
            kept.append(size)
    return kept


def _dress(axes: Any, found: "Layers") -> None:
    chance = 100 / len(found.classes)
    axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (2, 3)), label="chance")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 102)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
