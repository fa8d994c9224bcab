"""Moves, enlarges and turns pictures of the size of a network's input."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from convlens.client._errors import InvalidRequest
from convlens.client._results import InputGeometry

Kind: TypeAlias = Literal["translation", "scale", "rotation"]
#: What lies where the picture has moved away: the network's mean colour, which is zero to it, the
#: pixels of the edge repeated, or the picture mirrored.
Fill: TypeAlias = Literal["mean", "edge", "mirror"]

MODES: Mapping[Fill, str] = {"mean": "grid-constant", "edge": "nearest", "mirror": "reflect"}
UNITS: Mapping[Kind, str] = {"translation": " pixels", "scale": " times", "rotation": "°"}
# Zeiler & Fergus move their pictures of 224 pixels by up to 60.
STEPS, PARTS = 8, 32
SCALES = tuple(tenths / 10 for tenths in range(10, 19))
ROTATIONS = tuple(range(0, 361, 15))
# Beyond it one pixel of the picture fills the input of any network.
LARGEST = 1000.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a picture.

    A translation is in pixels, downwards; a scale is a factor, around the centre; a rotation is in
    degrees, counter-clockwise, around the centre.
    """

    kind: Kind
    amount: float

    @property
    def size(self) -> float:
        """How far from no change at all: pixels, the logarithm of a factor, or degrees."""
        if self.kind == "translation":
            return abs(self.amount)
        if self.kind == "scale":
            return abs(math.log(self.amount))
        turn = self.amount % 360
        return min(turn, 360 - turn)

    def __str__(self) -> str:
        return f"{self.amount:g}{UNITS[self.kind]}"


def steps_of(
    input: InputGeometry,
    translations: Sequence[float] | None,
    scales: Sequence[float] | None,
    rotations: Sequence[float] | None,
) -> dict[Kind, list[Change]]:
    """The changes of each kind in their order; None takes Zeiler & Fergus's ranges, () none.

    Raises InvalidRequest where an amount is none, or nothing is changed at all.
    """
    if translations is None:
        step = max(1, round(input.height / PARTS))
        translations = range(-STEPS * step, STEPS * step + 1, step)
    given: Mapping[Kind, Sequence[float]] = {
        "translation": translations,
        "scale": SCALES if scales is None else scales,
        "rotation": ROTATIONS if rotations is None else rotations,
    }
    made: dict[Kind, list[Change]] = {
        kind: [Change(kind, _checked(kind, each, input)) for each in sorted(set(amounts))]
        for kind, amounts in given.items()
        if len(amounts)
    }
    for kind, changes in made.items():
        if not any(change.size for change in changes):
            raise InvalidRequest(
                f"Every {kind} leaves the picture as it is; give one that does not."
            )
    if not made:
        raise InvalidRequest("Nothing is changed; give translations, scales or rotations.")
    return made


def distinct(steps: Mapping[Kind, Sequence[Change]]) -> list[Change]:
    """The changes that make another picture, each once."""
    return [change for changes in steps.values() for change in changes if change.size]


def changed(
    pixels: NDArray[np.uint8], change: Change, fill: Fill, input: InputGeometry
) -> NDArray[np.uint8]:
    """The picture [height, width, channels] after the change: bilinear, rounded to 8 bits."""
    if not change.size:
        return pixels
    matrix, shift = _backwards(change)
    centre = (np.array(pixels.shape[:2]) - 1) / 2
    offset = centre - matrix @ centre - shift
    made = np.empty(pixels.shape, np.float64)
    # Without types of its own; it takes an offset for each axis.
    move = cast(Any, ndimage.affine_transform)
    for channel in range(pixels.shape[2]):
        move(
            pixels[..., channel].astype(np.float64),
            matrix,
            offset,
            output=made[..., channel],
            order=1,
            mode=MODES[fill],
            cval=255 * input.mean[channel],
        )
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def check_fill(fill: str) -> None:
    """Raises InvalidRequest where it is none."""
    if fill not in get_args(Fill):
        raise InvalidRequest(f"fill is {fill!r}; it must be one of {', '.join(get_args(Fill))}.")


def spread(changes: Sequence[Change], count: int) -> Iterator[Change]:
    """At most so many of them, from the first to the last."""
    places = np.linspace(0, len(changes) - 1, min(count, len(changes)))
    return (changes[round(float(place))] for place in places)


def _backwards(change: Change) -> tuple[NDArray[Any], NDArray[Any]]:
    """From a place (row, column) of the new picture, around the centre, to that of the old one."""
    if change.kind == "translation":
        return np.eye(2), np.array([change.amount, 0.0])
    if change.kind == "scale":
        return np.eye(2) / change.amount, np.zeros(2)
    turn = math.radians(change.amount)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.array([[cos, sin], [-sin, cos]]), np.zeros(2)


def _checked(kind: Kind, amount: float, input: InputGeometry) -> float:
    if not math.isfinite(amount):
        raise InvalidRequest(f"A {kind} is {amount}; it must be a number.")
    if kind == "translation" and (amount != round(amount) or abs(amount) >= input.height):
        raise InvalidRequest(
            f"A translation is {amount:g}; it must be a whole number of pixels, from "
            f"{1 - input.height} to {input.height - 1}."
        )
    if kind == "scale" and not 1 / LARGEST <= amount <= LARGEST:
        raise InvalidRequest(
            f"A scale is {amount:g}; it must be a factor from {1 / LARGEST:g} to {LARGEST:g}."
        )
    return float(amount)
