"""GetNetwork carries the anatomy, on both engines, and the command shows it."""

import subprocess
import sys

from convlens.client import Client, FieldExtent, ReceptiveField
from tests.conftest import RunningServer


def test_a_served_network_has_its_anatomy(server: RunningServer) -> None:
    with Client(server.address) as client:
        network = client.network("shapes")
    anatomy = network.anatomy
    assert anatomy.parameters == network.parameters == 292_842
    assert sum(layer.parameters for layer in anatomy.layers) == anatomy.parameters
    assert anatomy.multiply_adds == 93_340_928
    assert anatomy.grammar == (
        "INPUT -> [CONV -> RELU -> POOL]*2 -> [[CONV -> RELU]*2 -> POOL]*2 "
        "-> CONV -> RELU -> POOL -> [FC -> RELU]*2 -> FC"
    )
    assert anatomy.warnings == ()
    # Names as its modules have them, without the normalisation that the server puts before it.
    names = [layer.name for layer in anatomy.layers]
    assert names == [f"features.{n}" for n in range(19)] + [f"classifier.{n}" for n in range(6)]
    last = anatomy.layers[18]
    assert (last.kind, last.output_shape) == ("MaxPool2d", (64, 4, 4))
    assert last.receptive_field == ReceptiveField(*[FieldExtent(118, 32, 15.5)] * 2)
    assert (last.supports_features, last.supports_deconvnet, last.supports_grad_cam) == (True,) * 3
    assert not anatomy.layers[-1].supports_grad_cam


def test_the_command_shows_it(server: RunningServer) -> None:
    command = [sys.executable, "-m", "convlens.client.cli", "anatomy", "--server", server.address]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    title, _, header, *rows = result.stdout.splitlines()
    assert title == "shapes@1, input 3 × 128 × 128"
    assert header.split()[:3] == ["layer", "kind", "output"]
    assert rows[0].split()[:3] == ["features.0", "Conv2d", "24×128×128"]
    assert "multiply-adds  93.34 M" in result.stdout
