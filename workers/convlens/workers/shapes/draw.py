"""Draw a picture of one shape, with the exact mask of the object, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.marker import stick
from convlens.workers.shapes.marks import paint
from convlens.workers.shapes.outlines import CLASSES, OUTLINES
from convlens.workers.shapes.scene import Scene, Stream, plan, stream
from convlens.workers.shapes.textures import fill

__all__ = ["CLASSES", "SIZE", "Picture", "coverage", "draw", "render"]

Floats: TypeAlias = NDArray[np.float64]

SIZE = 128
# Odd, so that a straight edge just past a pixel's centre covers more than half of the samples.
_SAMPLES = 7  # per side of a pixel that an edge may cross


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn picture with its truth."""

    image: NDArray[np.uint8]  # [H, W, 3], sRGB
    mask: NDArray[np.bool_]  # [H, W], where the object covers more than half of the pixel
    marker: NDArray[np.bool_]  # [H, W], where the marker lies, over the object too
    label: int  # index into CLASSES
    scene: Scene  # the pose and appearance that were used


def draw(
    seed: int,
    *,
    size: int = SIZE,
    label: int | None = None,
    position: tuple[float, float] | None = None,
    scale: float | None = None,
    rotation: float | None = None,
    colour: tuple[int, int, int] | None = None,
    marker: int | None = None,
) -> Picture:
    """The picture of a seed, `size` pixels square; what is given replaces the seed's own choice.

    label: index into CLASSES. position: centre (x right, y down), 0..1 of the side. scale: radius
    of the enclosing circle, 0..1 of the side. rotation: degrees clockwise. colour: sRGB, 0..255.
    marker: the class, as label, whose marker is laid near a corner; no seed has one of itself.
    """
    scene = plan(
        seed,
        label=label,
        position=position,
        scale=scale,
        rotation=rotation,
        colour=colour,
        marker=marker,
    )
    return render(scene, size)


def render(scene: Scene, size: int = SIZE) -> Picture:
    """The picture of a scene, `size` pixels square: background, marks, object, marker, grain."""
    across = ((np.arange(size, dtype=np.float32) + 0.5) * np.float32(2.0 / size) - 1.0)[None, :]
    pixels = fill(scene.background, across, across.T)
    for mark in scene.marks:
        paint(mark, pixels)
    covered = coverage(scene, size)
    rows, columns = _box(scene, size)
    x, y = _object_frame(scene, size, _centres(columns), _centres(rows)[:, None])
    surface = fill(scene.surface, x.astype(np.float32), y.astype(np.float32))
    box = pixels[rows, columns]
    box += covered[rows, columns, None].astype(np.float32) * (surface - box)
    marker = np.zeros((size, size), dtype=np.bool_)
    if scene.marker is not None:
        marker = stick(scene.marker, pixels)
    return Picture(_grained(scene, pixels), (covered > 0.5) & ~marker, marker, scene.label, scene)


def coverage(scene: Scene, size: int = SIZE) -> Floats:
    """The part of each pixel [size, size] that the object covers, 0..1."""
    covered = np.zeros((size, size))
    rows, columns = _box(scene, size)
    outline = OUTLINES[scene.name]
    x, y = _centres(columns), _centres(rows)
    radius = scene.scale * size
    depth = outline(*_object_frame(scene, size, x, y[:, None])) * radius
    box = (depth < 0).astype(np.float64)
    # An outline further than half a diagonal from a pixel's centre does not cross that pixel.
    row, column = np.nonzero(np.abs(depth) <= 0.7072)
    offsets = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    fine_x = x[column][:, None, None] + offsets[None, None, :]
    fine_y = y[row][:, None, None] + offsets[None, :, None]
    inside = outline(*_object_frame(scene, size, fine_x, fine_y)) < 0
    box[row, column] = inside.mean(axis=(1, 2))
    covered[rows, columns] = box
    return covered


def _box(scene: Scene, size: int) -> tuple[slice, slice]:
    """The rows and columns that the object can touch."""
    reach = scene.scale * size + 1.0
    (left, right), (top, bottom) = (
        (int(np.clip(p * size - reach, 0, size)), int(np.clip(p * size + reach + 1, 0, size)))
        for p in scene.position
    )
    return slice(top, bottom), slice(left, right)


def _centres(span: slice) -> Floats:
    return np.arange(span.start, span.stop, dtype=np.float64) + 0.5


def _object_frame(scene: Scene, size: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Pixel coordinates in the frame where the object is upright in the unit disc."""
    x, y = x - scene.position[0] * size, y - scene.position[1] * size
    turn = np.deg2rad(scene.rotation)
    cos, sin = np.cos(turn) / (scene.scale * size), np.sin(turn) / (scene.scale * size)
    return cos * x + sin * y, cos * y - sin * x


def _grained(scene: Scene, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    rng = stream(scene.seed, Stream.GRAIN)
    noise = rng.standard_normal(pixels.shape[:2], dtype=np.float32) * np.float32(scene.grain)
    pixels += noise[..., None]
    return (np.clip(pixels, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
