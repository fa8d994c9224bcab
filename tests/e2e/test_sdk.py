"""The SDK and the command against a real server: what users write, and what they see."""

import asyncio
import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image as PILImage

from convlens.client import (
    AsyncClient,
    Classification,
    Client,
    ConvLensError,
    DeadlineExceeded,
    Health,
    InvalidRequest,
    MessageTooLarge,
    NotFound,
    Unavailable,
)
from tests.conftest import RunningServer


@pytest.fixture
def client(server: RunningServer):
    with Client(server.address) as opened:
        yield opened


def label_of(path: Path) -> str:
    return path.name.partition("-")[0]


def test_every_kind_of_image_means_the_same(client: Client, pictures: list[Path]) -> None:
    path = pictures[0]
    with PILImage.open(path) as opened:
        picture = opened.convert("RGB")
    array = np.asarray(picture)
    forms = [
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        picture,
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
    ]
    answers = client.classify(forms)
    for answer in answers:
        # Rows of one batch may differ in their last bits, as the processor shares them out.
        assert [each.index for each in answer.classes] == [
            each.index for each in answers[0].classes
        ]
        assert answer.top.logit == pytest.approx(answers[0].top.logit, rel=1e-5)
    assert answers[0].top.label == label_of(path)


def test_one_image_gives_one_result_and_a_list_a_list(client: Client, pictures) -> None:
    one = client.classify(pictures[0], top_k=10)
    many = client.classify(pictures, top_k=10)
    assert isinstance(one, Classification)
    assert [answer.top.label for answer in many] == [label_of(path) for path in pictures]
    assert len(one.classes) == 10
    assert one.top.logit == pytest.approx(many[0].top.logit, abs=1e-4)
    assert one.receipt.network == "shapes"


async def test_the_async_client_says_the_same(server: RunningServer, pictures, client) -> None:
    async with AsyncClient(server.address) as other:
        answers = await asyncio.gather(*(other.classify(path) for path in pictures))
        streamed = [answer async for answer in other.classify_stream(pictures)]
        network = await other.network()
    assert [answer.top.label for answer in answers] == [label_of(path) for path in pictures]
    assert [answer.top.label for answer in streamed] == [label_of(path) for path in pictures]
    assert network == client.network("shapes")


def test_networks_and_health(client: Client) -> None:
    [summary] = client.networks()
    network = client.network()
    assert (summary.name, summary.classes) == (network.name, len(network.labels))
    [accuracy] = network.accuracies
    assert accuracy.top1 is not None
    assert accuracy.top1 > 0.97
    assert accuracy.top5 is None
    assert client.health() == Health.SERVING
    assert client.health("convlens.v1.ClassificationService") == Health.SERVING


def test_errors_say_what_to_do(client: Client, pictures: list[Path]) -> None:
    with pytest.raises(NotFound, match="served are: shapes@1") as missing:
        client.classify(pictures[0], network="alexnet")
    assert missing.value.reason == "NETWORK_NOT_FOUND"
    assert missing.value.request_id
    with pytest.raises(InvalidRequest) as wrong:
        client.classify(pictures[0], top_k=0)
    assert [violation.field for violation in wrong.value.violations] == ["top_k"]
    with pytest.raises(InvalidRequest, match="cannot be read"):
        client.classify(b"no picture")
    with pytest.raises(MessageTooLarge):
        client.classify(b"\0" * (65 * 2**20))
    with pytest.raises(DeadlineExceeded):
        client.classify(pictures[0], timeout=1e-6)
    assert client.classify(pictures[0]).top.label == label_of(pictures[0])


def test_a_bad_picture_among_good_ones(client: Client, pictures: list[Path]) -> None:
    mixed = [pictures[0], b"no picture", pictures[1]]
    for answers in (
        client.classify(mixed, on_error="return"),
        list(client.classify_stream(mixed, on_error="return")),
    ):
        kinds = [type(answer) for answer in answers]
        assert [issubclass(kind, InvalidRequest) for kind in kinds] == [False, True, False]
        error = answers[1]
        assert isinstance(error, ConvLensError)
        assert error.index == 1


def test_no_server(pictures: list[Path]) -> None:
    with (
        Client("127.0.0.1:9", timeout=3, max_attempts=1) as nobody,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*convlens-server") as caught,
    ):
        nobody.classify(pictures[0])
    assert caught.value.reason == "SERVER_UNREACHABLE"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "convlens", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_shows_its_pictures_and_leaves_nothing_running(pictures: list[Path]) -> None:
    started: set[int] = set()
    convlens = Path(sys.executable).parent / "convlens"
    with subprocess.Popen([convlens, "demo"], stdout=subprocess.PIPE, text=True) as demo:
        while demo.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                started |= {child.pid for child in psutil.Process(demo.pid).children(True)}
            time.sleep(0.05)
        assert demo.stdout
        shown = demo.stdout.read()
    assert demo.returncode == 0
    assert started
    assert not any(psutil.pid_exists(pid) for pid in started)
    for path in pictures:
        assert path.name in shown
    assert str(pictures[0].parent) in shown


# With a FakeServer it does by default, in tests/clients/cli.
@pytest.mark.slow
def test_the_demo_speaks_json(pictures: list[Path]) -> None:
    document = json.loads(command("demo", "--json").stdout)
    assert [entry["classes"][0]["label"] for entry in document["results"]] == [
        label_of(path) for path in pictures
    ]


def test_a_folder_is_classified(server: RunningServer, pictures: list[Path], tmp_path) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    folder = str(pictures[0].parent)
    result = command("classify", folder, str(tmp_path), "--server", server.address, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert len(lines) == len(pictures) + 1
    assert sum("error" in line for line in lines) == 1


def test_wrong_use_and_no_server_have_their_exit_codes(pictures: list[Path]) -> None:
    assert command("classify").returncode == 2
    result = command("classify", str(pictures[0]), "--server", "127.0.0.1:9")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
