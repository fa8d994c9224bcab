"""The gradient check agrees with right gradients, and tells wrong ones of several kinds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, methods
from convlens.client._picture_files import found
from convlens.client.studies._gradients import (
    STEPS,
    compared,
    errors_of,
    framed,
    is_right,
    relative_error,
)
from convlens.v1.explanation_methods_pb2 import CHANNEL_REDUCTION_NONE

Wrong = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def asked(client: Client, drawn: Path):
    """A picture, its gradient, and the scores of its class, as the server has them."""
    picture = found(drawn)[0]
    pixels = framed(picture, client.network().input)
    asked = methods.Saliency(reduction=CHANNEL_REDUCTION_NONE)
    [answer] = client.explain(pixels, asked, geometry="as_is").attributions
    assert answer.target is not None
    index = answer.target.index

    def score(pictures: Sequence[np.ndarray]) -> np.ndarray:
        answers = client.extract_features(list(pictures), "logits", geometry="as_is")
        return np.array([each["logits"][index] for each in answers], np.float64)

    # The same pictures are asked for by every case.
    known: dict[bytes, float] = {}

    def remembered(pictures: Sequence[np.ndarray]) -> np.ndarray:
        new = [each for each in pictures if each.tobytes() not in known]
        for start in range(0, len(new), 32):
            part = new[start : start + 32]
            known.update(zip((each.tobytes() for each in part), score(part), strict=True))
        return np.array([known[each.tobytes()] for each in pictures])

    return picture, pixels, answer.map.astype(np.float64), remembered


def checked(asked, wrong: Wrong):
    picture, pixels, gradient, score = asked
    random = np.random.default_rng(0)
    return compared(picture, "a class", pixels, wrong(gradient), score, random)


def test_the_servers_gradient_is_right(asked) -> None:
    checks = checked(asked, np.array)
    assert is_right(checks)
    assert errors_of(checks)[0] < 2e-3
    assert [check.direction for check in checks][:2] == ["gradient", "random 1"]


def without_a_channel(gradient: np.ndarray) -> np.ndarray:
    return gradient * [1, 1, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda gradient: 1.05 * gradient,
        lambda gradient: -gradient,
        np.abs,
        lambda gradient: gradient[:, :, ::-1],
        lambda gradient: np.roll(gradient, 1, 0),
        without_a_channel,
        lambda gradient: gradient * (np.indices(gradient.shape)[0] < 64),
        lambda gradient: 0 * gradient,
    ],
    ids=["5 %", "sign", "abs", "BGR", "a row", "no blue", "upper half", "nothing"],
)
def test_a_wrong_gradient_is_told(asked, wrong: Wrong) -> None:
    assert not is_right(checked(asked, wrong))


def test_a_quadratic_score_has_its_own_gradient() -> None:
    """In float64, where differences of a square are exact: the errors are those of rounding."""
    pixels = np.random.default_rng(0).uniform(0.1, 0.9, (6, 5, 3)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal(pixels.shape)
    given: list[np.ndarray] = []

    def score(pictures: Sequence[np.ndarray]) -> np.ndarray:
        given.extend(pictures)
        return np.array([(weights * np.square(each, dtype=np.float64)).sum() for each in pictures])

    gradient = 2.0 * weights * pixels
    checks = compared(Path("x"), "x", pixels, gradient, score, np.random.default_rng(2))
    assert max(errors_of(checks)) < 1e-5
    assert len(given) == len(STEPS) * len(checks) * 2
    assert np.abs(given[0] - pixels).max() == pytest.approx(STEPS[0], rel=1e-3)


def test_the_relative_error_is_that_of_lengths() -> None:
    assert relative_error(np.array([3.0, 4.0]), np.array([3.0, 4.0])) == 0
    assert relative_error(np.array([3.0, 4.0]), np.array([-3.0, -4.0])) == 1
    assert relative_error(np.array([1.0]), np.array([3.0])) == 0.5
    assert relative_error(np.zeros(2), np.zeros(2)) == 0


def test_pictures_of_any_form_are_what_the_network_is_given(client: Client, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 333 * 40).reshape(333, 40).astype(np.uint16)
    clear = np.full((333, 40, 4), 90, np.uint8)
    for name, image in {"deep": Image.fromarray(ramp), "clear": Image.fromarray(clear)}.items():
        image.save(tmp_path / f"{name}.png")
        pixels = framed(tmp_path / f"{name}.png", client.network().input)
        assert pixels.shape == (128, 128, 3) and pixels.dtype == np.float32
        plain = ((pixels - 0.02) / 0.96).astype(np.float32)
        here = client.extract_features(plain, "features.0", geometry="as_is")["features.0"]
        there = client.extract_features(tmp_path / f"{name}.png", "features.0")["features.0"]
        np.testing.assert_allclose(here, there, atol=1e-4)
