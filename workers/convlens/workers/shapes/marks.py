"""Distractors: small marks on the background that are none of the classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.tones import Tone

Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 in, float32 out


@dataclass(frozen=True)
class Mark:
    """One distractor, in numbers; lengths are fractions of the picture's side."""

    kind: str
    position: tuple[float, float]
    reach: float  # no part of the mark is further from its position than this
    angle: float  # radians
    shape: float  # 0..1, what it does depends on the kind
    tone: Tone


def blob(mark: Mark, u: Floats, v: Floats, pixel: float) -> Floats:
    """An elongated puddle with a lumpy rim."""
    turn = np.arctan2(v, u)
    lumps = 0.62 + 0.25 * np.cos(2 * turn) + 0.13 * np.cos(3 * turn + 6.0 * mark.shape)
    return np.clip(0.5 + (lumps - np.hypot(u, v)) / pixel, 0.0, 1.0)


def stroke(mark: Mark, u: Floats, v: Floats, pixel: float) -> Floats:
    """A thin straight line with round ends."""
    width = 0.04 + 0.06 * mark.shape
    along = np.maximum(np.abs(u) - (1.0 - width), 0.0)
    return np.clip(0.5 + (width - np.hypot(along, v)) / pixel, 0.0, 1.0)


def patch(mark: Mark, u: Floats, v: Floats, pixel: float) -> Floats:
    """A few ripples that fade out all round."""
    ripples = 0.5 + 0.5 * np.sin((6.0 + 8.0 * mark.shape) * u)
    return ripples * np.exp(-4.0 * (u * u + 1.6 * v * v))


KINDS: dict[str, Callable[[Mark, Floats, Floats, float], Floats]] = {
    "blob": blob,
    "stroke": stroke,
    "patch": patch,
}
_REACHES = {"blob": (0.03, 0.075), "stroke": (0.06, 0.22), "patch": (0.08, 0.18)}


def random_mark(rng: np.random.Generator, tone: Tone) -> Mark:
    """A mark of any kind, anywhere in the picture."""
    kind = tuple(KINDS)[int(rng.integers(len(KINDS)))]
    return Mark(
        kind=kind,
        position=(float(rng.uniform(0.03, 0.97)), float(rng.uniform(0.03, 0.97))),
        reach=float(rng.uniform(*_REACHES[kind])),
        angle=float(rng.uniform(0.0, 2 * np.pi)),
        shape=float(rng.random()),
        tone=tone,
    )


def paint(mark: Mark, pixels: Floats) -> None:
    """Paint the mark over square pixels [size, size, 3], sRGB in 0..1, in place."""
    size = pixels.shape[0]
    (left, right), (top, bottom) = (
        (max(0, int((p - mark.reach) * size) - 1), min(size, int((p + mark.reach) * size) + 2))
        for p in mark.position
    )
    x = (np.arange(left, right, dtype=np.float32) + 0.5) / size - mark.position[0]
    y = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5) / size - mark.position[1]
    turn_x = np.float32(np.cos(mark.angle) / mark.reach)
    turn_y = np.float32(np.sin(mark.angle) / mark.reach)
    u, v = turn_x * x + turn_y * y, turn_x * y - turn_y * x
    cover = KINDS[mark.kind](mark, u, v, 1.0 / (mark.reach * size))[..., None]
    box = pixels[top:bottom, left:right]
    box += cover * (np.array(mark.tone, dtype=np.float32) - box)
