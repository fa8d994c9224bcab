"""Draws an accuracy report: shares with their intervals, confusion, calibration, mistakes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from convlens.client._text import percent, printable
from convlens.client.studies._attributes import title_of
from convlens.client.studies._charts import COLOURS, FAINT, INK, new_figure, picture_of
from convlens.client.studies._shares import Share

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy

# Inches: of a chart, of a line of one with names, and of what it has above and below.
WIDTH, STEP, REST = 7.2, 0.24, 0.9
# Classes that are shown from each end, and those of a confusion matrix; pairs in its place.
EDGE, MOST_CLASSES, MOST_PAIRS = 15, 20, 20
LABEL = "accuracy, %, with its interval of 95 %; beside the names, how many pictures"


def accuracy_charts(found: "Accuracy") -> Mapping[str, Image]:
    """All figures that there is something to show in."""
    made: dict[str, Image] = {}
    if len(found.told) > 1:
        ways = list(found.top(1).values())
        made["Accuracy by what is asked"] = shares_chart(ways[::-1])
    if len(found.classes) > 1:
        made["Accuracy by class"] = shares_chart(_edges(found.classes))
    for factor in found.factors:
        shares = found.by(factor)
        if len(shares) > 1:
            # Upwards, like numbers on an axis; names with the easiest on top.
            order = shares if factor.is_ordered else sorted(shares, key=lambda each: each.share)
            made[title_of(factor)] = shares_chart(_edges(order))
    if len(found.mistakes):
        small = len(_confused(found)) <= MOST_CLASSES
        made["Confusion"] = confusion_matrix(found) if small else pairs_chart(found)
    made["Calibration"] = calibration_chart(found)
    if len(found.mistakes):
        from convlens.client.studies._mistakes import mistakes_sheet

        made["Worst mistakes"] = mistakes_sheet(found)
    return made


def shares_chart(shares: Sequence[Share | None]) -> Image:
    """A line for each share, with its interval; from below, and None for those left out."""
    figure, [[axes]] = new_figure(WIDTH, REST + STEP * len(shares))
    for place, each in enumerate(shares):
        if each is None:
            continue
        percent = [100 * end for end in (each.low, each.share, each.high)]
        axes.plot(percent[::2], [place, place], color=COLOURS[0], linewidth=1.6)
        axes.plot(percent[1], place, "o", color=COLOURS[0], markersize=4.5)
    names = ["⋮" if each is None else f"{_short(each.name)}  {each.count}" for each in shares]
    axes.set_yticks(range(len(shares)), names)
    axes.set_ylim(-0.7, len(shares) - 0.3)
    axes.grid(visible=False, axis="y")
    least = min(each.low for each in shares if each is not None)
    axes.set_xlim(max(0, 100 * least - 4), 100.8)
    # In the middle of the figure: beside long names there is no room for it below the axes.
    figure.supxlabel(LABEL, fontsize=9, color=FAINT)
    return picture_of(figure)


def confusion_matrix(found: "Accuracy") -> Image:
    """Of each true class (row), the share that was taken for each other class (column)."""
    classes = _confused(found)
    names = [_short(found.labels[each]) for each in classes]
    place = {each: number for number, each in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for true, told in zip(found.truth.tolist(), found.last.predicted.tolist(), strict=True):
        counts[place[true], place[told]] += 1
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = 1.9 + 0.42 * len(classes)
    figure, [[axes]] = new_figure(side + 0.5, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts).tolist():
        ink = "white" if shares[row, column] > 0.55 else INK
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set_xlabel("told")
    axes.set_ylabel("true")
    return picture_of(figure)


def pairs_chart(found: "Accuracy") -> Image:
    """The pairs of classes that are confused most often."""
    pairs = found.confusions[:MOST_PAIRS][::-1]
    figure, [[axes]] = new_figure(WIDTH, REST + STEP * len(pairs))
    axes.barh(range(len(pairs)), [times for _, _, times in pairs], 0.6, color=COLOURS[0])
    names = [f"{_short(true, 24)} → {_short(told, 24)}" for true, told, _ in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.grid(visible=False, axis="y")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("times that the first was taken for the second")
    return picture_of(figure)


def calibration_chart(found: "Accuracy") -> Image:
    """Accuracy against confidence, and below how many pictures there are of each."""
    bins = found.bins
    figure, [[upper], [lower]] = new_figure(5.2, 5.0, 2, 1)
    upper.get_gridspec().set_height_ratios([3, 1])
    upper.plot(
        [0, 100], [0, 100], color=FAINT, linewidth=1, linestyle="--", label="as it should be"
    )
    upper.plot(
        [100 * each.confidence for each in bins],
        [100 * each.accuracy for each in bins],
        "o-",
        color=COLOURS[0],
        markersize=4.5,
        label=f"{len(found.pictures):,} pictures, ECE {percent(found.calibration_error, 1)}",
    )
    for axes in (upper, lower):
        axes.set_xlim(0, 101)
    upper.set_ylim(0, 103)
    upper.set_ylabel("accuracy, %")
    upper.legend(loc="upper left", frameon=False)
    middles = [50 * (each.low + each.high) for each in bins]
    counts = [each.count for each in bins]
    lower.bar(middles, counts, 100 * (bins[0].high - bins[0].low) * 0.9, color=COLOURS[5])
    # A handful of pictures would be no higher than the line beside thousands.
    lower.set_yscale("log")
    lower.set_ylim(0.6, 2 * max(counts))
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.set_ylabel("pictures")
    lower.set_xlabel("confidence, %")
    return picture_of(figure)


def _edges(classes: Sequence[Share]) -> list[Share | None]:
    """From below, those of the one end, a gap where there are many, and those of the other."""
    if len(classes) <= 2 * EDGE:
        return list(classes)
    return [*classes[:EDGE], None, *classes[-EDGE:]]


def _confused(found: "Accuracy") -> list[int]:
    """The classes that are true or told."""
    return np.union1d(found.truth, found.last.predicted).tolist()


def _short(name: Any, most: int = 40) -> str:
    text = printable(str(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"
