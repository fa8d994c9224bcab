"""What the study of layers found, in sentences."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from convlens.client._text import percent, printable

if TYPE_CHECKING:
    from convlens.client.studies._layers import Layers, Probe

# Differences below this share of 1 are not worth a word, however little the splits deviate.
LEAST = 0.005


def layer_words(found: "Layers") -> list[str]:
    """The best layer, whether deeper ones are better, and what reduced codes keep."""
    whole = [each for each in found.probes if not each.is_reduced]
    best = max(whole, key=lambda each: each.mean)
    splits = len(best.accuracies)
    count = len(found.classes)
    said = [
        f"{_name(best)} tells the classes best, by {_kind(best)}: {_share(best)} of the other "
        f"pictures, from {found.per_class} of each of {count} classes; {_splits(splits)}, and "
        f"chance is {100 / count:.3g} %."
    ]
    if len(found.layers) > 1:
        said.append(_depth([found.probe(layer) for layer in found.layers]))
    said.append(_kinds(found))
    return [*said, *_reduced(found)]


def _depth(probes: Sequence["Probe"]) -> str:
    """Whether deeper layers are better, by the SVM."""
    first, last = probes[0], probes[-1]
    best = max(probes, key=lambda each: each.mean)
    if not _apart(best, min(probes, key=lambda each: each.mean)):
        return "The layers differ by no more than the splits do: depth makes no difference here."
    falls = [(a, b) for a, b in pairwise(probes) if _apart(a, b, signed=True)]
    if not falls:
        return (
            f"Deeper layers are better: from {_name(first)} with {_share(first)} to {_name(last)} "
            f"with {_share(last)}. That is the shape of Zeiler & Fergus's table 7."
        )
    if not _apart(best, first) or _apart(first, last, signed=True):
        top = "" if best is first else f"{_name(best)} has most, {_share(best)}; "
        return (
            f"Deeper layers are not better here: {top}{_name(first)} has {_share(first)}, "
            f"{_name(last)} {_share(last)}."
        )
    if best is not last and _apart(best, last, signed=True):
        return (
            f"Deeper layers are better up to {_name(best)} with {_share(best)}; {_name(last)} "
            f"falls to {_share(last)}, and {_name(first)} has {_share(first)}."
        )
    dips = ", ".join(_name(b) for _, b in falls)
    return (
        f"Deeper layers are better on the whole: from {_name(first)} with {_share(first)} to "
        f"{_name(last)} with {_share(last)}, but not at {dips}."
    )


def _kinds(found: "Layers") -> str:
    gaps = {
        layer: found.probe(layer, "SVM").mean - found.probe(layer, "softmax").mean
        for layer in found.layers
    }
    layer = max(gaps, key=lambda each: abs(gaps[each]))
    if abs(gaps[layer]) < LEAST:
        return "SVM and softmax agree within half a percent everywhere."
    ahead = "the SVM" if gaps[layer] > 0 else "softmax"
    return (
        f"SVM and softmax differ by {100 * abs(gaps[layer]):.1f} points at most, at "
        f"{printable(layer)}, where {ahead} is ahead."
    )


def _reduced(found: "Layers") -> list[str]:
    """For each layer the smallest code that is as good as the whole one."""
    said: list[str] = []
    for layer in found.layers:
        whole = found.probe(layer)
        small = [
            each
            for each in found.probes
            if each.is_reduced and (each.layer, each.kind) == (layer, "SVM")
        ]
        if enough := [each for each in small if not _apart(whole, each, signed=True)]:
            least = min(enough, key=lambda each: each.dimensions)
            said.append(
                f"{_name(least)} keeps its accuracy with {least.dimensions:,} of "
                f"{whole.dimensions:,} dimensions: {_share(least)}, whole {_share(whole)}."
            )
        elif small:
            most = max(small, key=lambda each: each.mean)
            said.append(
                f"{_name(most)} loses by every reduction: {_share(most)} with "
                f"{most.dimensions:,} dimensions, whole {_share(whole)}."
            )
    return said


def _apart(one: "Probe", other: "Probe", *, signed: bool = False) -> bool:
    """Whether they differ by more than the splits do; `signed`, whether the first is better."""
    gap = one.mean - other.mean
    width = max(LEAST, one.deviation, other.deviation)
    return gap > width if signed else abs(gap) > width


def _kind(probe: "Probe") -> str:
    return "a linear SVM" if probe.kind == "SVM" else "softmax"


def _name(probe: "Probe") -> str:
    return printable(probe.layer)


def _share(probe: "Probe") -> str:
    return f"{100 * probe.mean:.1f} ± {percent(probe.deviation, 1)}"


def _splits(count: int) -> str:
    return f"mean ± deviation of {count} splits" if count > 1 else "of a single split"
