"""What a picture shows, before any pixel: drawn from a seed, one random stream per attribute.

Because each attribute has a stream of its own, giving one leaves all the others as they were.
Only the object's random colour looks at others (at what it must stand out from), and nothing
looks at the colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from convlens.workers.shapes import tones
from convlens.workers.shapes.marker import Marker, random_place
from convlens.workers.shapes.marks import Mark, random_mark
from convlens.workers.shapes.outlines import CLASSES
from convlens.workers.shapes.textures import Texture, random_texture

SCALES = (0.15, 0.30)
# Wherever the centre is drawn, the largest object still fits.
CENTRES = (0.31, 0.69)
_MARKS = (0, 0, 0, 1, 2, 3, 4)


class Stream(IntEnum):
    """The attributes' random streams; a new attribute goes at the end, or all pictures change."""

    LABEL = 0
    SCALE = 1
    POSITION = 2
    ROTATION = 3
    COLOUR = 4
    SURFACE = 5
    BACKGROUND = 6
    MARKS = 7
    GRAIN = 8
    MARKER = 9


@dataclass(frozen=True)
class Scene:
    """One object on a background, in numbers."""

    seed: int
    label: int  # index into CLASSES
    position: tuple[float, float]  # centre (x right, y down), fractions of the picture's side
    scale: float  # radius of the object's enclosing circle, fraction of the picture's side
    rotation: float  # degrees, clockwise
    surface: Texture  # of the object, turning with it; its first tone is the object's colour
    background: Texture
    marks: tuple[Mark, ...]  # behind the object
    grain: float  # standard deviation of the pixel noise, of 1
    marker: Marker | None = None  # before everything else

    @property
    def name(self) -> str:
        """The class, in words."""
        return CLASSES[self.label]

    @property
    def colour(self) -> tuple[int, int, int]:
        """The object's colour, sRGB in 0..255."""
        red, green, blue = (round(255 * c) for c in self.surface.tones[0])
        return (red, green, blue)


def stream(seed: int, attribute: Stream) -> np.random.Generator:
    """The random stream of one attribute of one picture."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(attribute,)))


def plan(
    seed: int,
    *,
    label: int | None = None,
    position: tuple[float, float] | None = None,
    scale: float | None = None,
    rotation: float | None = None,
    colour: tuple[int, int, int] | None = None,
    marker: int | None = None,
) -> Scene:
    """The scene of a seed; what is given is taken as it is, the rest stays what the seed says.

    Units are those of `Scene`; `colour` is sRGB in 0..255. The seed's own colours stand out from
    the background, its own poses keep the object inside: a given one is the caller's affair.
    `marker` is the class, of the object or of another, whose marker is laid near a corner of the
    seed's choice; there is none of itself.
    """
    if label is None:
        label = label_of(seed)
    for name, index in (("label", label), ("marker", marker)):
        if index is not None and not 0 <= index < len(CLASSES):
            raise ValueError(f"{name} is {index}, must be in 0..{len(CLASSES) - 1}")
    if scale is None:
        scale = float(stream(seed, Stream.SCALE).uniform(*SCALES))
    if not 0.0 < scale <= 1.0:
        raise ValueError(f"scale is {scale}, must be above 0 and at most 1")
    if position is None:
        x, y = stream(seed, Stream.POSITION).uniform(*CENTRES, 2)
        position = (float(x), float(y))
    if rotation is None:
        rotation = float(stream(seed, Stream.ROTATION).uniform(0.0, 360.0))
    background = _background(seed)
    marks = _marks(seed, background)
    return Scene(
        seed=seed,
        label=label,
        position=position,
        scale=scale,
        rotation=rotation,
        surface=_surface(seed, background, marks, colour),
        background=background,
        marks=marks,
        grain=float(stream(seed, Stream.GRAIN).uniform(0.0, 0.02)),
        marker=None if marker is None else _marker(seed, marker),
    )


def label_of(seed: int) -> int:
    """The class that a seed draws where none is given, as an index into CLASSES."""
    return int(stream(seed, Stream.LABEL).integers(len(CLASSES)))


def _marker(seed: int, label: int) -> Marker:
    left, top = random_place(stream(seed, Stream.MARKER))
    return Marker(label, left, top)


def _background(seed: int) -> Texture:
    rng = stream(seed, Stream.BACKGROUND)
    # Dark or light, not in between: the object's colour can then be vivid and still stand out.
    lightness = rng.uniform(0.2, 0.48) if rng.random() < 0.5 else rng.uniform(0.72, 0.95)
    colour = tones.rgb_of_lab(tones.random_labs(rng, np.array([lightness]), (0.0, 0.11))[0])
    two = tones.pair(colour, tones.random_step(rng, (0.03, 0.13), 0.05))
    return random_texture(rng, tones.as_tones(two), (1.0, 5.0))


def _marks(seed: int, background: Texture) -> tuple[Mark, ...]:
    rng = stream(seed, Stream.MARKS)
    ground = tones.lab_of_rgb(np.array(background.tones[0]))
    count = _MARKS[int(rng.integers(len(_MARKS)))]
    steps = [tones.random_step(rng, (0.07, 0.18), 0.1) for _ in range(count)]
    colours = [tones.rgb_of_lab(tones.stepped(ground, step)) for step in steps]
    return tuple(random_mark(rng, tones.as_tone(colour)) for colour in colours)


def _surface(
    seed: int,
    background: Texture,
    marks: tuple[Mark, ...],
    colour: tuple[int, int, int] | None,
) -> Texture:
    rng = stream(seed, Stream.SURFACE)
    step = tones.random_step(rng, (0.04, 0.15), 0.06)
    if colour is None:
        behind = np.array([*background.tones, *(mark.tone for mark in marks)])
        rgb = tones.standing_out(stream(seed, Stream.COLOUR), step, behind)
    else:
        rgb = np.array(colour) / 255.0
    return random_texture(rng, tones.as_tones(tones.pair(rgb, step)), (1.0, 2.6))
