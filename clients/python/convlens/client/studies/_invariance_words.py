"""Says whether the curves of invariance have the shape that Zeiler & Fergus found."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convlens.client._text import percent
from convlens.client.studies._invariance import Curves
from convlens.client.studies._transforms import Change, Kind

# What a stable answer keeps of its probability, on average over the changes.
STABLE = 0.75
# By how much more of its largest distance the smallest change takes a layer that changes sooner.
SOONER = 0.1
PAPER = "Zeiler & Fergus's figure 5"


def findings(layers: Sequence[str], curves: Mapping[Kind, Curves]) -> list[str]:
    """The verdicts with the numbers behind them; on the layers only where there are two."""
    said = [_stability(curves)]
    if len(layers) > 1:
        said = [
            _gradual(layers, curves),
            *(_steps(layers, *each) for each in curves.items()),
            *said,
        ]
    return said


def least(curves: Curves) -> list[int]:
    """The places of the smallest changes; two where they go either way."""
    sizes = [change.size for change in curves.changes]
    smallest = min(size for size in sizes if size)
    return [number for number, size in enumerate(sizes) if np.isclose(size, smallest)]


def at_once(curves: Curves, layer: int) -> tuple[float, float]:
    """The mean distance at the smallest changes, and the largest mean distance at any."""
    means = curves.distances[layer].mean(0)
    return float(means[least(curves)].mean()), float(means.max())


def kept(curves: Curves) -> NDArray[np.float64]:
    """What each change leaves of the mean probability of the unchanged pictures."""
    return curves.probabilities.mean(0) / curves.unchanged.mean()


def _gradual(layers: Sequence[str], curves: Mapping[Kind, Curves]) -> str:
    shares = {
        kind: [first / most if most else 0.0 for first, most in _ends(each)]
        for kind, each in curves.items()
    }
    like = [kind for kind, (first, last) in shares.items() if first >= last + SOONER]
    told = f"{layers[0]} changes at once and {layers[-1]} gradually"
    if len(like) == len(shares):
        return f"As in {PAPER}, {told}: under {_listed(like)}."
    if like:
        unlike = [kind for kind in shares if kind not in like]
        return f"As in {PAPER}, {told} under {_listed(like)}, but not under {_listed(unlike)}."
    return f"Unlike in {PAPER}, {layers[0]} does not change sooner than {layers[-1]}."


def _ends(curves: Curves) -> list[tuple[float, float]]:
    return [at_once(curves, 0), at_once(curves, -1)]


def _steps(layers: Sequence[str], kind: Kind, curves: Curves) -> str:
    (first, most), (last, its_most) = _ends(curves)
    size = _size(curves.changes[least(curves)[-1]])
    return (
        f"The smallest {kind}, {size}, takes {layers[0]} {percent(first)} of the way to another "
        f"picture and {layers[-1]} {percent(last)}: {percent(first / (most or 1))} and "
        f"{percent(last / (its_most or 1))} of the most that any takes them."
    )


def _stability(curves: Mapping[Kind, Curves]) -> str:
    means: dict[Kind, float] = {kind: _mean_kept(each) for kind, each in curves.items()}
    told = _listed(
        [f"{percent(mean)} under {kind} ({_worst(curves[kind])})" for kind, mean in means.items()]
    )
    numbers = f"Of its probability, the true class keeps on average {told}."
    if len(means) < 3:
        return numbers
    stable = [kind for kind, mean in means.items() if mean >= STABLE]
    if stable == ["translation", "scale"]:
        told = "the answer is stable under translation and scale, not under rotation"
        return f"As in {PAPER}, {told}. {numbers}"
    which = f"under {_listed(stable)} alone" if 0 < len(stable) < 3 else "under all three"
    if not stable:
        which = "under none of the three"
    told = f"where rotation alone upsets it, the answer is stable {which}"
    return f"Unlike in {PAPER}, {told}. {numbers}"


def _mean_kept(curves: Curves) -> float:
    places = [number for number, change in enumerate(curves.changes) if change.size]
    return float(kept(curves)[places].mean())


def _worst(curves: Curves) -> str:
    left = kept(curves)
    number = int(left.argmin())
    return f"at worst {percent(left[number])}, at {curves.changes[number]}"


def _size(change: Change) -> str:
    if change.kind == "rotation":
        return f"{change.size:g}°"
    return f"{abs(change.amount):g}{' pixels' if change.kind == 'translation' else ' times'}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
