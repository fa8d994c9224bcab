"""Draws what a network loses without its layers: a bar for each layer and group."""

from textwrap import wrap
from typing import TYPE_CHECKING

from PIL.Image import Image

from convlens.client.studies._charts import COLOURS, FAINT, INK, new_figure, picture_of

if TYPE_CHECKING:
    from convlens.client.studies._removal import RemovalStudy, Without

# Inches of a line of text, and of the figure without its bars.
LINE, AROUND = 0.2, 1.1
# Characters of a name in a line.
WIDEST = 34
WAYS = {
    "replaced by what it takes": COLOURS[0],
    "replaced by zeros": COLOURS[1],
    "one and the other": COLOURS[3],
}


def bars(study: "RemovalStudy") -> Image:
    """The accuracy lost, from top to bottom in the order of computation, then the groups.

    Whiskers are Wilson's intervals of the accuracy that is left.
    """
    from matplotlib.patches import Patch

    every = [*study.single, *study.groups]
    titles = ["\n".join(wrap(each.title, WIDEST, break_on_hyphens=False)) for each in every]
    places: list[float] = []
    top = 0.0
    for number, title in enumerate(titles):
        height = max(1.25, 0.8 * (title.count("\n") + 1) + 0.45)
        # A gap before the groups.
        top += 0.6 if number == len(study.single) and study.single else 0
        places.append(top + height / 2)
        top += height
    figure, axes = new_figure(8, AROUND + LINE * top)
    chart = axes[0, 0]
    whole = 100 * study.whole.accuracy
    for place, each in zip(places, every, strict=True):
        low, high = (100 * bound for bound in each.interval)
        chart.barh(place, 100 * study.lost(each), height=0.8, color=WAYS[_way(each)])
        chart.plot([whole - high, whole - low], [place, place], color=INK, linewidth=0.9)
    chart.set_yticks(places, titles)
    chart.set_ylim(top, 0)
    chart.axvline(0, color=FAINT, linewidth=0.8)
    chart.grid(visible=False, axis="y")
    chart.tick_params(axis="y", length=0)
    chart.set_xlabel(f"points of accuracy lost, of {whole:.1f} with all layers; lines: 95 %")
    ways = {_way(each) for each in every}
    handles = [Patch(color=colour, label=way) for way, colour in WAYS.items() if way in ways]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False)
    return picture_of(figure)


def _way(each: "Without") -> str:
    passes_on, zeros, both = WAYS
    found = set(each.how.values())
    return both if len(found) > 1 else passes_on if found == {"identity"} else zeros
