"""The files of `convlens synthesize`: pictures, and how they grew."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client._fake_synthesis import synthesize
from convlens.client.cli import _synthesis_files
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import synthesis_pb2 as pb
from tests.clients.cli.synthesizing import CAT, FOOL, names, pixels, question
from tests.clients.streaming import breaking


def frames(path: Path) -> list[tuple[int, Any]]:
    """How long each frame stays, in milliseconds, and its pixels."""
    found: list[tuple[int, Any]] = []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append((image.info["duration"], np.asarray(image.convert("RGB"))))
    return found


def test_the_growth(run: Any, tmp_path: Path) -> None:
    gif = tmp_path / "cat.gif"
    result = run(*CAT, "--gif", gif, "--steps", "100", "--preview-every", "25", "--canvas", "140")
    assert result.exit_code == 0 and names(tmp_path) == ["cat.gif"]
    assert result.stdout.splitlines()[-1] == f"growth: {gif}"
    found = frames(gif)
    assert 4 <= len(found) <= 5
    assert [stays for stays, _ in found][:3] == [100] * 3 and found[-1][0] >= 2000
    assert all(picture.shape == (140, 140, 3) for _, picture in found)
    noise = [picture[:20].std() for _, picture in found]
    assert noise == sorted(noise, reverse=True) and noise[0] > 2 * noise[-1]


def test_a_long_growth_keeps_its_last_frame(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_synthesis_files, "MOST_FRAMES", 6)
    gif, out = tmp_path / "cat.gif", tmp_path / "cat.png"
    run(*CAT, "--gif", gif, "--out", out, "--steps", "40", "--preview-every", "1", "--canvas", 128)
    found = frames(gif)
    assert 3 <= len(found) <= 8
    assert np.abs(found[-1][1].astype(int) - pixels(out)).mean() < 16
    assert np.abs(found[0][1].astype(int) - pixels(out)).mean() > 24


@pytest.mark.parametrize(("steps", "every"), [(3, 1), (64, 3), (256, 11), (5000, 32)])
def test_a_growth_has_frames_enough(
    run: Any, server: FakeServer, tmp_path: Path, steps: int, every: int
) -> None:
    gif = tmp_path / "cat.gif"
    assert run(*CAT, "--gif", gif, "--steps", steps, "--canvas", "8").exit_code == 0
    assert question(server).preview_every == every
    assert len(frames(gif)) >= min(steps, 20)


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_growth_that_goes_on_keeps_its_frames(
    run: Any, server: FakeServer, tmp_path: Path, is_broken: bool
) -> None:
    gif, whole = tmp_path / "cat.gif", tmp_path / "whole.gif"
    asked = (*CAT, "--preview-every", "4")
    kept = (*asked, "--gif", gif, "--checkpoint", tmp_path / "cat.run")
    if is_broken:
        internal = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="42")
        server.answers["Synthesize"] = breaking(synthesize, 26, internal)
    assert run(*kept, "--steps", "40" if is_broken else "20").exit_code == is_broken
    assert len(frames(gif)) == 5
    run(*kept, "--steps", "40")
    run(*asked, "--gif", whole, "--steps", "40")
    assert len(frames(gif)) == len(frames(whole)) == 10
    for (_, one), (_, other) in zip(frames(gif), frames(whole), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("content", [b"mine", b"GIF89a", b""])
def test_a_file_that_is_no_growth_is_written_anew(run: Any, tmp_path: Path, content: bytes) -> None:
    gif = tmp_path / "cat.gif"
    kept = (*CAT, "--gif", gif, "--checkpoint", tmp_path / "cat.run", "--preview-every", "4")
    run(*kept, "--steps", "8")
    gif.write_bytes(content)
    assert run(*kept, "--steps", "16").exit_code == 0
    assert len(frames(gif)) == 2


def test_a_growth_of_another_size_is_written_anew(run: Any, tmp_path: Path) -> None:
    gif = tmp_path / "cat.gif"
    kept = (*CAT, "--gif", gif, "--checkpoint", tmp_path / "cat.run", "--preview-every", "4")
    run(*kept, "--steps", "8")
    Image.new("RGB", (9, 7)).save(gif)
    assert run(*kept, "--steps", "16").exit_code == 0
    assert len(frames(gif)) == 2


def test_files_that_cannot_be_written(run: Any, server: FakeServer, tmp_path: Path) -> None:
    for option, name in (("--out", "a.png"), ("--gif", "a.gif"), ("--checkpoint", "a.run")):
        nowhere = ("--out", tmp_path / "b.png", option, tmp_path / "gone" / name)
        result = run(*CAT, *nowhere)
        assert result.exit_code == 1 and "there is no folder" in result.stderr
        (tmp_path / name).mkdir()
        result = run(*CAT, "--out", tmp_path / "b.png", option, tmp_path / name)
        assert result.exit_code == 1 and "it is a folder" in result.stderr
    assert server.requests == []


def test_files_that_are_there(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"mine")
    result = run(*CAT, "--out", out)
    assert result.exit_code == 1 and "is there already; choose another name" in result.stderr
    assert out.read_bytes() == b"mine" and server.requests == []
    assert run(*CAT, "--out", out, "--overwrite", "--steps", "3").exit_code == 0
    (tmp_path / "b-2.png").write_bytes(b"mine")
    result = run(*FOOL, "--out", tmp_path / "b.png", "--steps", "99")
    assert result.exit_code == 1 and "b-2.png is there already" in result.stderr
    assert names(tmp_path) == ["a.png", "b-2.png"]


def test_pictures_that_are_not_there(run: Any, server: FakeServer, tmp_path: Path) -> None:
    def partial(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            if response.item.picture_index:
                response.item.picture.ClearField("prediction")
                response.item.picture.ClearField("rounded_prediction")
            elif response.HasField("item"):
                response.item.picture.CopyFrom(pb.SynthesizedPicture())
            yield response

    server.answers["Synthesize"] = partial
    asked = (*FOOL, "--out", tmp_path / "a.png", "--steps", "7", "--overwrite")
    result = run(*asked)
    assert result.exit_code == 0 and names(tmp_path) == ["a-2.png", "a.png"]
    first, second = (row.split() for row in result.stdout.splitlines()[1:3])
    assert first == ["–", "–", "–", "0", "–"] and second == ["dog", "–", "–", "7", "a-2.png"]
    empty = json.loads(run(*asked, "--json").stdout)["pictures"][0]
    assert empty["file"] is empty["prediction"] is None
