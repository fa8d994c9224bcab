"""Checks the gradients that the server answers with against finite differences of its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convlens.client import methods
from convlens.client._client import Client
from convlens.client._features import LayerSelection
from convlens.client._results import InputGeometry, Network
from convlens.client.studies._input_pixels import input_pixels
from convlens.client.studies._walk import name_of
from convlens.v1.explanation_methods_pb2 import ChannelReduction

#: Scores of one class for pictures [height, width, channels] in [0, 1].
Score = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float64]]
# Random directions beside the gradient's own.
DIRECTIONS = 24
OWN, RANDOM = "gradient", "random"
# Largest changes of a pixel: with larger steps more units of a ReLU change sides, with smaller ones
# the rounding of float32 scores weighs more; the best of them counts.
STEPS = (3e-4, 1e-4, 3e-5, 1e-5)
INDICES = range(len(STEPS))
# Pixels keep this far from black and white, so that they can be moved to both sides.
MARGIN = 0.02
# Along itself a gradient is steep, and the difference sure to a thousandth or better. Random
# directions hardly change a score: there float32 and kinks leave some hundredths, and what a
# gradient lacks altogether, such as a channel, makes some tenths.
TOLERANCE, RANDOM_TOLERANCE = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """One direction in which a picture was moved; a score is the class's before the softmax.

    `analytic` is the gradient times the direction, `numeric` the central difference of two scores
    with pixels moved by at most `step`; both per unit of the direction, whose largest number is 1.
    `relative_error` is |analytic - numeric| / (|analytic| + |numeric|); that is large by itself
    where a direction hardly matters, so a picture is judged over all of them.
    """

    picture: Path
    target: str
    direction: str
    step: float
    analytic: float
    numeric: float
    relative_error: float


def checks_of(
    client: Client, served: Network, picture: Path, random: np.random.Generator
) -> list[GradientCheck]:
    """Checks the gradient of the predicted class's score for one picture; raises ConvLensError."""
    pixels = framed(picture, served.input)
    network = name_of(served)
    asked = methods.Saliency(reduction=ChannelReduction.CHANNEL_REDUCTION_NONE)
    [found] = client.explain(pixels, asked, network=network, geometry="as_is").attributions
    gradient = found.map.reshape(pixels.shape).astype(np.float64)
    assert found.target is not None
    target = found.target

    def score(pictures: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        wanted = [LayerSelection("logits", "none", "float32")]
        answers = client.extract_features_stream(
            pictures, wanted, network=network, geometry="as_is"
        )
        return np.array([answer[0].ravel()[target.index] for answer in answers], np.float64)

    return compared(picture, target.label, pixels, gradient, score, random)


def compared(
    picture: Path,
    target: str,
    pixels: NDArray[np.float32],
    gradient: NDArray[np.float64],
    score: Score,
    random: np.random.Generator,
) -> list[GradientCheck]:
    """The gradient against central differences of `score`, along itself and random signs.

    Its own direction tells whether what it has is right, random ones whether it lacks something.
    Of the steps, that counts for either with which they agree best.
    """
    ways = [gradient / (np.abs(gradient).max() or 1)]
    ways += [random.choice([-1.0, 1.0], pixels.shape) for _ in range(DIRECTIONS)]
    moved = [
        (pixels + side * step * way).astype(np.float32)
        for step in STEPS
        for way in ways
        for side in (1, -1)
    ]
    widths = 2 * np.array(STEPS)[:, None]
    scores = score(moved).reshape(len(STEPS), len(ways), 2)
    numeric = (scores[:, :, 0] - scores[:, :, 1]) / widths
    # float32 rounds the pixels, too: what they were really moved by is what counts.
    slopes = [
        (gradient * (ahead.astype(np.float64) - behind)).sum()
        for ahead, behind in zip(moved[::2], moved[1::2], strict=True)
    ]
    analytic = np.array(slopes).reshape(len(STEPS), len(ways)) / widths
    found: list[GradientCheck] = []
    for numbers in ([0], range(1, len(ways))):
        errors = [relative_error(analytic[n, numbers], numeric[n, numbers]) for n in INDICES]
        best = int(np.argmin(errors))
        for number in numbers:
            pair = float(analytic[best, number]), float(numeric[best, number])
            name = f"{RANDOM} {number}" if number else OWN
            error = relative_error(*(np.array([each]) for each in pair))
            found.append(GradientCheck(picture, target, name, STEPS[best], *pair, error))
    return found


def relative_error(analytic: NDArray[np.float64], numeric: NDArray[np.float64]) -> float:
    """The distance of two lists of slopes as a share of both their lengths, from 0 to 1."""
    both = float(np.linalg.norm(analytic) + np.linalg.norm(numeric))
    return float(np.linalg.norm(analytic - numeric)) / both if both else 0.0


def errors_of(checks: Sequence[GradientCheck]) -> tuple[float, float]:
    """The relative errors of a picture: along the gradient, and over all random directions.

    Random directions are taken together, since a single one may hardly matter.
    """
    own = [check for check in checks if check.direction == OWN]
    others = [check for check in checks if check.direction != OWN]
    along, across = (
        relative_error(
            np.array([check.analytic for check in group]),
            np.array([check.numeric for check in group]),
        )
        for group in (own, others)
    )
    return along, across


def is_right(checks: Sequence[GradientCheck]) -> bool:
    """Whether both errors of a picture are within what float32 and kinks explain."""
    along, across = errors_of(checks)
    return along <= TOLERANCE and across <= RANDOM_TOLERANCE


def framed(picture: Path, geometry: InputGeometry) -> NDArray[np.float32]:
    """What the network is given of the picture [height, width, channels], off black and white."""
    shares = input_pixels(picture, geometry).astype(np.float64) / 255
    return (MARGIN + (1 - 2 * MARGIN) * shares).astype(np.float32)
