"""`convlens anatomy`: the table, the totals, what fits."""

import json
from typing import Any

import pytest
from rich.cells import cell_len

from convlens.client.cli import _anatomy
from convlens.client.cli._anatomy import TITLES, scaled
from convlens.v1 import anatomy_pb2 as pb
from convlens.v1 import network_pb2

SKIPS = pb.DESIGN_WARNING_KIND_STRIDE_SKIPS


def field(*sizes: int) -> pb.ReceptiveField:
    vertical, horizontal = (pb.FieldExtent(size=size, jump=4, offset=1.5) for size in sizes)
    return pb.ReceptiveField(vertical=vertical, horizontal=horizontal)


def layer(name: str, kind: str = "Conv2d", **given: Any) -> pb.Layer:
    return pb.Layer(name=name, kind=kind, supports_features=True, **given)


@pytest.fixture
def served(server) -> network_pb2.Network:
    """What the fake server says; tests change it."""
    network = network_pb2.Network(
        name="vgg16",
        version="2",
        input=network_pb2.InputGeometry(channels=3, height=224, width=192),
        anatomy=pb.Anatomy(
            layers=[
                layer(
                    "features.0",
                    output_shape=[64, 224, 192],
                    parameters=1792,
                    multiply_adds=86_704_128,
                    forward_bytes=12_845_056,
                    receptive_field=field(3, 9),
                    supports_deconvnet=True,
                    supports_grad_cam=True,
                ),
                layer("features.1", "ReLU", output_shape=[64], receptive_field=field(3, 3)),
                layer("fc", "Linear", output_shape=[10], parameters=102_764_544),
            ],
            parameters=138_357_544,
            multiply_adds=15_470_264_320,
            activations=15_112_168,
            forward_bytes=60_448_672,
            training_bytes=120_897_344,
            training_memory=pb.TrainingMemory(
                activation_bytes=60_448_672,
                activation_gradient_bytes=60_448_672,
                parameter_bytes=553_430_176,
                parameter_gradient_bytes=553_430_176,
                momentum_bytes=553_430_176,
            ),
            warnings=[
                pb.DesignWarning(layer=name, kind=SKIPS, sentence="It skips.") for name in "abcde"
            ],
            grammar="INPUT -> CONV -> RELU -> FC",
        ),
    )
    server.answers["GetNetwork"] = lambda _: network_pb2.GetNetworkResponse(network=network)
    return network


def test_the_table(run, server, served):
    result = run("anatomy", "vgg16")
    assert (result.exit_code, result.stderr) == (0, "")
    title, _, header, first, relu, fc, *_ = result.stdout.splitlines()
    assert title == "vgg16@2, input 3 × 224 × 192"
    assert header.split() == list(TITLES)
    assert first.split() == [
        *("features.0", "Conv2d", "64×224×192", "1.79", "k", "86.70", "M", "12.85", "MB"),
        *("3×9", "4", "FDG"),
    ]
    # Nothing is said where there is nothing: no zeros between the numbers.
    assert relu.split() == ["features.1", "ReLU", "64", "3", "4", "F··"]
    assert fc.split() == ["fc", "Linear", "10", "102.76", "M", "F··"]
    assert [request.message.network for request in server.requests] == ["vgg16"]


def test_columns_line_up(run, served):
    served.anatomy.layers[1].name = "猫" * 4
    _, _, header, *rows = run("anatomy").stdout.splitlines()[:6]
    for title in ("params", "mult-adds", "memory", "field", "jump"):
        end = header.index(title) + len(title)
        for row in rows:
            wide = sum(cell_len(char) - 1 for char in row)
            # Numbers end under the end of their title, or are not there.
            assert row[: end - wide][-1] != " " or row[end - wide - len(title) : end - wide] == (
                " " * len(title)
            )


def test_totals(run, served):
    text = run("anatomy").stdout
    assert "parameters     138.36 M\n" in text
    assert "multiply-adds  15.47 G\n" in text
    assert (
        "activations    15.11 M values: 60.45 MB forward, 120.90 MB forward and backward\n" in text
    )
    words = " ".join(text.split())
    assert "training 1.66 GB for parameters, their gradients and momentum; 120.90 MB for" in words
    assert "grammar        INPUT -> CONV -> RELU -> FC\n" in text
    # The same sentence of many layers is said once.
    assert "warning        a, b, 3 more: It skips.\n" in text


@pytest.mark.parametrize("width", [80, 100])
def test_what_a_terminal_shows_fits(run, served, monkeypatch, width):
    monkeypatch.setattr(_anatomy, "_terminal_width", lambda: width)
    served.anatomy.layers[0].name = "blocks.3.layers.1.layers.grid_attention.partition_op.reshape"
    served.anatomy.layers[1].kind = "AdaptiveAvgPool2d"
    served.anatomy.layers[2].output_shape[:] = [64, 49, 3, 3, 32]
    served.anatomy.grammar = "INPUT -> " + " -> ".join(["CONV"] * 30)
    lines = run("anatomy").stdout.splitlines()
    assert max(map(cell_len, lines)) <= width
    titles = lines[2].split()
    assert titles[:6] == list(TITLES[:6])
    # The wider one keeps more.
    assert ("for" in titles) == (width == 100)
    assert lines[3].startswith("blocks.3") and "reshape" in lines[3]
    assert ("F features" in "".join(lines)) == ("for" in titles)


def test_a_pipe_gets_everything(run, served):
    name = "blocks.3.layers.1.layers.grid_attention.partition_op.reshape_in_full"
    served.anatomy.layers[0].name = name
    lines = run("anatomy").stdout.splitlines()
    assert name in lines[3]
    assert lines[2].split() == list(TITLES)


def test_json(run, server, served):
    result = run("anatomy", "--json")
    document = json.loads(result.stdout)
    assert document["network"] == "vgg16@2"
    assert document["server"] == server.address
    assert document["parameters"] == 138_357_544
    first, *_ = document["layers"]
    assert first["receptive_field"]["horizontal"] == {"size": 9, "jump": 4, "offset": 1.5}
    assert document["layers"][2]["receptive_field"] is None
    assert document["training_memory"]["momentum_bytes"] == 553_430_176
    assert document["warnings"][0] == {
        "layer": "a",
        "kind": "stride_skips",
        "sentence": "It skips.",
    }


def test_a_server_that_tells_nothing(run, server):
    result = run("anatomy")
    assert result.exit_code == 0
    assert result.stdout.endswith("The server tells nothing of its layers.\n")


def test_a_network_that_is_not_served(run):
    result = run("anatomy", "zoo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "convlens: No network zoo is served; served are: pets@1.\n"


def test_names_cannot_play_with_the_terminal(run, served):
    served.anatomy.layers[0].name = "\x1b[2Jevil"
    served.anatomy.grammar = "\x1b[31mred"
    served.anatomy.warnings[0].sentence = "\x1b[31mred"
    assert "\x1b" not in run("anatomy").output


@pytest.mark.parametrize(
    ("count", "unit", "text"),
    [
        (0, "", "0"),
        (999, "", "999"),
        (1000, "", "1.00 k"),
        (999_994, "B", "999.99 kB"),
        # Never 1000.00.
        (999_999, "B", "1.00 MB"),
        (138_357_544, "", "138.36 M"),
        (4096, "B", "4.10 kB"),
        (12, "B", "12 B"),
        (374_570_000_000, "", "374.57 G"),
    ],
)
def test_units(count, unit, text):
    assert scaled(count, unit) == text
