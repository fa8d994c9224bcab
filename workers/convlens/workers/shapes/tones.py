"""Colours: drawn in Oklab, where equal steps look equal, and chosen so that they stand apart.

Tones are sRGB triples in 0..1. Oklab: https://bottosson.github.io/posts/oklab/
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Tone: TypeAlias = tuple[float, float, float]
Tones: TypeAlias = tuple[Tone, Tone]

APART = 0.22  # least distance of any tone of the object from any tone of the background
DARKEST, LIGHTEST = 0.12, 0.97
_CANDIDATES = 32
# Half the weight for chroma: two colours of one lightness are hard to tell apart for many people.
_SEEN = np.array([1.0, 0.5, 0.5])

_LMS_OF_LAB = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LINEAR_OF_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_LAB_OF_LMS = np.linalg.inv(_LMS_OF_LAB)
_LMS_OF_LINEAR = np.linalg.inv(_LINEAR_OF_LMS)


def rgb_of_lab(lab: Floats) -> Floats:
    """sRGB in 0..1 of Oklab colours [..., 3], clipped to what a screen can show."""
    linear = np.clip((lab @ _LMS_OF_LAB.T) ** 3 @ _LINEAR_OF_LMS.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def lab_of_rgb(rgb: Floats) -> Floats:
    """Oklab of sRGB colours [..., 3] in 0..1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LMS_OF_LINEAR.T) @ _LAB_OF_LMS.T


def distance(one: Floats, other: Floats) -> Floats:
    """How far apart sRGB colours [..., 3] look: 1 from black to white."""
    return np.linalg.norm((lab_of_rgb(one) - lab_of_rgb(other)) * _SEEN, axis=-1)


def random_labs(rng: np.random.Generator, lightness: Floats, chroma: tuple[float, float]) -> Floats:
    """Oklab colours [n, 3] of the given lightness [n] and of any hue."""
    count = len(lightness)
    hue = rng.uniform(0.0, 2 * np.pi, count)
    reach = rng.uniform(*chroma, count)
    return np.stack([lightness, reach * np.cos(hue), reach * np.sin(hue)], axis=-1)


def random_step(rng: np.random.Generator, lightness: tuple[float, float], tint: float) -> Floats:
    """A step in Oklab [3]: lighter or darker by `lightness`, tinted by up to `tint`."""
    up = 1.0 if rng.random() < 0.5 else -1.0
    return np.array([up * rng.uniform(*lightness), *rng.uniform(-tint, tint, 2)])


def stepped(lab: Floats, step: Floats) -> Floats:
    """Colours [..., 3] moved by a step; where it would leave the range, the other way."""
    beyond = lab[..., 0] + step[0]
    outside = (beyond < DARKEST) | (beyond > LIGHTEST)
    moved = lab + step
    moved[..., 0] = np.where(outside, lab[..., 0] - step[0], beyond)
    return moved


def pair(rgb: Floats, step: Floats) -> Floats:
    """The two tones [..., 2, 3] of a texture: the colours [..., 3] and a step away from them."""
    return np.stack([rgb, rgb_of_lab(stepped(lab_of_rgb(rgb), step))], axis=-2)


def standing_out(rng: np.random.Generator, step: Floats, from_these: Floats) -> Floats:
    """A colour [3] that, with its second tone, is at least `APART` from all of `from_these` [n, 3].

    The first of many random candidates that is; the extremes at the end make sure of one.
    """
    labs = random_labs(rng, rng.uniform(0.3, 0.93, _CANDIDATES), (0.07, 0.22))
    extremes = np.array([[LIGHTEST, 0.0, 0.0], [DARKEST, 0.0, 0.0]])
    colours = rgb_of_lab(np.concatenate([labs, extremes]))
    gaps = distance(pair(colours, step)[:, :, None], from_these).min(axis=(1, 2))
    passing = np.flatnonzero(gaps >= APART)
    return colours[passing[0] if passing.size else int(np.argmax(gaps))]


def as_tone(rgb: Floats) -> Tone:
    """One colour [3] as plain numbers."""
    return (float(rgb[0]), float(rgb[1]), float(rgb[2]))


def as_tones(rgb: Floats) -> Tones:
    """Two colours [2, 3] as plain numbers."""
    return (as_tone(rgb[0]), as_tone(rgb[1]))
