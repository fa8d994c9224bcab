"""Deconvnet's patches of one map share one scale, whichever picture they are of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.client import Client, DeconvnetDetails, DeconvnetPatch
from convlens.client._drawing import drawn
from convlens.client._fake_explanations import explain
from convlens.client.cli._calls import Picture, explained
from convlens.client.methods import Deconvnet, Rendering
from convlens.client.testing import FakeServer
from convlens.v1 import explanation_pb2 as pb


def fainter(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """All maps of the second picture have half the strength, but its map 1 has the double."""
    response = explain(request)
    for answer in response.results[1].explanation.attributions:
        for patch in answer.attribution.deconvnet.patches:
            values = np.frombuffer(patch.reconstruction.data, "<f4")
            factor = np.float32(2 if patch.map_index == 1 else 0.5)
            patch.reconstruction.data = (values * factor).tobytes()
            patch.scale = float(np.abs(values * factor).max())
    return response


@pytest.fixture
def patches(server: FakeServer, tmp_path: Path) -> list[list[DeconvnetPatch]]:
    """The patches of two pictures."""
    server.answers["Explain"] = fainter
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"a picture")
    sent = [Picture.read(path) for path in paths]
    asked = [Deconvnet(layer="a", strongest=2)]
    with Client(server.address) as client:
        call = explained(client, sent, asked, {"rendering": Rendering()}, lambda _: None)
    found = [outcome.answers[0].attribution.details for outcome in call.outcomes]
    return [list(each.patches) for each in found if isinstance(each, DeconvnetDetails)]


def test_patches_of_one_map_share_one_scale(patches: Any) -> None:
    (first, second), (faint, bright) = patches
    strength = [float(np.abs(p.reconstruction).max()) for p in (first, second, faint, bright)]
    assert strength[0] == pytest.approx(2 * strength[2])
    assert strength[3] == pytest.approx(2 * strength[1])
    assert first.scale == faint.scale == pytest.approx(strength[0])
    assert second.scale == bright.scale == pytest.approx(strength[3])


def test_what_was_drawn_at_another_scale_is_drawn_anew(patches: Any) -> None:
    (first, second), (faint, bright) = patches
    assert first.png and bright.png and not faint.png and not second.png
    shown = np.asarray(faint.image().convert("RGB"))
    plane = drawn(faint.reconstruction, "reconstruction", first.scale)
    side = shown.shape[0] // plane.shape[0]
    assert np.array_equal(shown[::side, ::side], plane)
    # Half the strength is half as far from grey.
    distance = np.abs(shown.astype(float) - 127.5).max()
    assert distance == pytest.approx(127.5 / 2, abs=1)


def test_the_report_says_so(run: Any, server: FakeServer, tmp_path: Path) -> None:
    server.answers["Explain"] = fainter
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"a picture")
    out = tmp_path / "report.html"
    asked = ["--method", "deconvnet:layer=a,strongest=1"]
    assert run("report", tmp_path / "a.png", tmp_path / "b.png", *asked, "-o", out).exit_code == 0
    html = out.read_text(encoding="utf-8")
    ends = [line.strip() for line in html.splitlines() if 'class="ends"' in line]
    assert len(ends) == 2 and len(set(ends)) == 1
    assert "share one scale among pictures that are asked for together" in html
