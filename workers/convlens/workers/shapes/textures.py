"""Textures: two tones mixed by a field over a frame that runs from -1 to 1 both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.tones import Tones

Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 in, float32 out

_NOISE_CELLS = 32


@dataclass(frozen=True)
class Texture:
    """What fills the object or the background, in numbers."""

    kind: str
    tones: Tones
    angle: float  # radians
    cycles: float  # periods from the centre of the frame to its edge
    phase: tuple[float, float]  # radians
    sharpness: float  # 0.5 is a sine wave, 4 nearly a step
    noise: int  # seed of the noise


def gradient(texture: Texture, u: Floats, v: Floats) -> Floats:
    """From one tone to the other across the frame."""
    return np.clip(0.5 + 0.45 * u, 0.0, 1.0)


def stripes(texture: Texture, u: Floats, v: Floats) -> Floats:
    """Parallel bands."""
    return _stepped(texture, np.sin(_waves(texture) * u + texture.phase[0]))


def checks(texture: Texture, u: Floats, v: Floats) -> Floats:
    """A chequerboard."""
    across = np.sin(_waves(texture) * 0.7 * u + texture.phase[0])
    return _stepped(texture, 2.0 * across * np.sin(_waves(texture) * 0.7 * v + texture.phase[1]))


def dots(texture: Texture, u: Floats, v: Floats) -> Floats:
    """Spots on a square lattice."""
    waves = _waves(texture)
    lattice = np.cos(waves * u + texture.phase[0]) + np.cos(waves * v + texture.phase[1])
    return _stepped(texture, lattice - 0.7)


def noise(texture: Texture, u: Floats, v: Floats) -> Floats:
    """Two octaves of value noise: random heights on a grid, smoothly joined."""
    rng = np.random.default_rng(texture.noise)
    heights = rng.random((_NOISE_CELLS, _NOISE_CELLS), dtype=np.float32)
    coarse = _joined(heights, u * texture.cycles, v * texture.cycles)
    fine = _joined(heights, u * (2.7 * texture.cycles) + 11.5, v * (2.7 * texture.cycles) + 5.5)
    return np.clip(0.5 + texture.sharpness * (0.65 * coarse + 0.35 * fine - 0.5), 0.0, 1.0)


FIELDS: dict[str, Callable[[Texture, Floats, Floats], Floats]] = {
    "gradient": gradient,
    "stripes": stripes,
    "checks": checks,
    "dots": dots,
    "noise": noise,
}
KINDS: tuple[str, ...] = ("plain", *FIELDS)


def random_texture(rng: np.random.Generator, tones: Tones, cycles: tuple[float, float]) -> Texture:
    """A texture of any kind in the given tones, its `cycles` drawn from a range."""
    return Texture(
        kind=KINDS[int(rng.integers(len(KINDS)))],
        tones=tones,
        angle=float(rng.uniform(0.0, 2 * np.pi)),
        cycles=float(rng.uniform(*cycles)),
        phase=(float(rng.uniform(0.0, 2 * np.pi)), float(rng.uniform(0.0, 2 * np.pi))),
        sharpness=float(rng.uniform(0.5, 3.0)),
        noise=int(rng.integers(2**32)),
    )


def fill(texture: Texture, x: Floats, y: Floats) -> Floats:
    """The texture's colours [H, W, 3], sRGB in 0..1, at points x, y [H, W] of its frame."""
    first, second = (np.array(tone, dtype=np.float32) for tone in texture.tones)
    if texture.kind == "plain":
        return np.broadcast_to(first, (*np.broadcast_shapes(x.shape, y.shape), 3)).copy()
    turn_x, turn_y = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    field = FIELDS[texture.kind](texture, turn_x * x + turn_y * y, turn_x * y - turn_y * x)
    return first + field[..., None] * (second - first)


def _waves(texture: Texture) -> float:
    return 2 * np.pi * texture.cycles


def _stepped(texture: Texture, wave: Floats) -> Floats:
    return np.clip(0.5 + texture.sharpness * wave, 0.0, 1.0)


def _joined(heights: Floats, x: Floats, y: Floats) -> Floats:
    left, top = np.floor(x), np.floor(y)
    dx, dy = x - left, y - top
    dx, dy = dx * dx * (3 - 2 * dx), dy * dy * (3 - 2 * dy)
    # The grid repeats, so no frame is too large for it.
    column = left.astype(np.int32) & (_NOISE_CELLS - 1)
    row = (top.astype(np.int32) & (_NOISE_CELLS - 1)) * _NOISE_CELLS
    right = (column + 1) & (_NOISE_CELLS - 1)
    below = (row + _NOISE_CELLS) & (_NOISE_CELLS * _NOISE_CELLS - 1)
    flat = heights.ravel()
    upper = flat[row + column] * (1 - dx) + flat[row + right] * dx
    lower = flat[below + column] * (1 - dx) + flat[below + right] * dx
    return upper * (1 - dy) + lower * dy
