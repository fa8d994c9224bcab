"""What syntheses reach on the bundled networks, in short; docs/synthesis_results.md has it all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convlens.client import Client, InvalidRequest, SynthesizedPicture
from convlens.client.methods import ClassModel, FoolingCppn, FoolingGradient, Inversion
from convlens.workers.shapes.draw import CLASSES
from tests.conftest import running_server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    file = tmp_path_factory.mktemp("networks") / "networks.yaml"
    file.write_text("networks: [{name: shapes}, {name: shapes-robust}]\n")
    with (
        running_server(engine="embedded", networks=file) as server,
        Client(server.address, timeout=1800) as opened,
    ):
        yield opened


def each_made(client: Client, asked: list[tuple[Any, dict[str, Any]]]) -> list[SynthesizedPicture]:
    """The picture of each call; their steps share passes."""
    with ThreadPoolExecutor(8) as executor:
        ends = [executor.submit(client.synthesize_to_end, way, **more) for way, more in asked]
        return [picture for end in ends for picture in end.result().pictures]


def test_most_class_models_are_sure_and_another_network_agrees(client: Client) -> None:
    made = each_made(client, [(ClassModel(steps=40), {"target": label}) for label in CLASSES])
    sure = [
        answer.label == label and (answer.probability or 0) >= 0.999
        for picture, label in zip(made, CLASSES, strict=True)
        if (answer := picture.rounded_prediction)
    ]
    assert sum(sure) >= 8
    others = client.classify([picture.png for picture in made], network="shapes-robust")
    agreed = [other.top.label == label for other, label in zip(others, CLASSES, strict=True)]
    assert sum(agreed) >= 8


def test_less_comes_back_from_deeper_codes_and_the_class_stays(
    client: Client, pictures: list[Path]
) -> None:
    layers = ("features.2", "features.5", "features.10")
    asked = [(Inversion(layer=each, steps=80), {"image": pictures[0]}) for each in layers]
    made = each_made(client, asked)
    ratios = [picture.psnr or 0 for picture in made]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 16 > ratios[-1] + 3
    labels = {picture.rounded_prediction.label for picture in made if picture.rounded_prediction}
    assert labels == {client.classify(pictures[0]).top.label}


def test_a_checkpoint_of_another_network_is_refused(client: Client) -> None:
    done = client.synthesize_to_end(ClassModel(steps=1), target="star")
    with pytest.raises(InvalidRequest, match="another question"):
        client.synthesize_to_end(
            ClassModel(steps=1), target="star", checkpoint=done.checkpoint, network="shapes-robust"
        )


def test_every_class_is_fooled_by_gradient_from_noise(client: Client) -> None:
    made = client.synthesize_to_end(FoolingGradient(), target=CLASSES).pictures
    answers = client.classify([picture.png for picture in made])
    assert [answer.top.label for answer in answers] == list(CLASSES)
    assert all((answer.top.probability or 0) >= 0.99 for answer in answers)
    assert all(picture.confident for picture in made)


@pytest.mark.slow
def test_every_class_is_fooled_by_patterns(client: Client) -> None:
    made = client.synthesize_to_end(FoolingCppn(), target=CLASSES).pictures
    answers = client.classify([picture.png for picture in made])
    assert [answer.top.label for answer in answers] == list(CLASSES)
    assert all((answer.top.probability or 0) >= 0.99 for answer in answers)
