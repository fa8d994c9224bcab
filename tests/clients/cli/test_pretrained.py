"""`convlens networks --available`: aligned columns, orders, JSON."""

import json
import math

import pytest

from convlens.v1 import network_pb2


def weights(network: str, name: str, top1: float | None, parameters: int, **more):
    return network_pb2.PretrainedWeights(
        network=network,
        weights=name,
        accuracy=network_pb2.Accuracy(dataset="ImageNet-1K validation", top1=top1, top5=top1),
        parameters=parameters,
        input=network_pb2.InputGeometry(height=224, width=224),
        recipe=f"https://example.org/{network}",
        **more,
    )


@pytest.fixture
def three(server):
    server.answers["ListPretrained"] = network_pb2.ListPretrainedResponse(
        weights=[
            weights("alexnet", "V1", 0.56522, 61_100_840, multiply_adds=714_000_000),
            weights("vgg16", "FEATURES", None, 138_357_544, file_bytes=2**20),
            weights("a_much_longer_name", "V2", 0.8, 5_288_548, is_default=True),
        ]
    )


def test_columns_are_aligned(run, three):
    result = run("networks", "--available")
    assert result.exit_code == 0
    title, *lines = result.stdout.splitlines()
    assert lines[0].split() == [
        *("alexnet", "V1", "56.522", "56.522", "61.1M", "0.71G", "224"),
        *("0.0", "MiB", "https://example.org/alexnet"),
    ]
    assert lines[1].split()[2:4] == ["–", "–"]
    assert "V2*" in lines[2] and "V1*" not in lines[0]
    for column, values in {"top-1 %": ["56.522", "–", "80.000"], "file": ["0.0 MiB"]}.items():
        right = title.index(column) + len(column)
        for line, value in zip(lines, values, strict=False):
            assert line[:right].endswith(value)
    left = title.index("recipe")
    assert all(line[left:].startswith("https://") for line in lines)
    assert "DEFAULT" in result.stderr


@pytest.mark.parametrize(
    ("order", "first", "last"),
    [
        ("name", "alexnet", "a_much_longer_name"),
        ("top1", "a_much_longer_name", "vgg16"),
        ("top5", "a_much_longer_name", "vgg16"),
        ("parameters", "a_much_longer_name", "vgg16"),
        ("multiply-adds", "vgg16", "alexnet"),
        ("size", "alexnet", "vgg16"),
    ],
)
def test_orders(run, three, order, first, last):
    lines = run("networks", "--available", "--sort", order).stdout.splitlines()[1:]
    assert (lines[0].split()[0], lines[-1].split()[0]) == (first, last)


def test_the_name_is_sent_and_nothing_found_is_said(run, server):
    result = run("networks", "--available", "vgg")
    assert server.requests[-1].message.name_contains == "vgg"
    assert result.exit_code == 0
    assert result.stdout == (
        f"The torchvision of the server at {server.address} has no network whose name contains "
        "'vgg'.\n"
    )


def test_json(run, server):
    document = json.loads(run("networks", "--available", "resnet", "--json").stdout)
    assert document["server"] == server.address
    [entry] = document["weights"]
    assert (entry["network"], entry["weights"]) == ("resnet18", "IMAGENET1K_V1")
    assert math.isclose(entry["accuracy"]["top1"], 0.69758)
    assert entry["parameters"] == 11_689_512
    assert entry["input"]["resize"] == 256


@pytest.mark.parametrize("arguments", [["resnet"], ["--sort", "top1"]])
def test_a_name_without_available_is_wrong_use(run, arguments):
    result = run("networks", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("convlens: NAME and --sort are for --available.")
