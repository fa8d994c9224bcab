"""torchvision's networks: as torchvision builds, prepares and loads them."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn
from torchvision import models

from convlens.v1 import image_pb2
from convlens.workers.builders import builder_of
from convlens.workers.builders.builder import Order
from convlens.workers.builders.torchvision import geometry_of, names, weights_of
from convlens.workers.catalog import load_network
from convlens.workers.config import ConfigError, NetworkEntry
from convlens.workers.images import Pixels, prepare

from .test_pretrained import LECTURES

BUILDER, _ = builder_of("torchvision:any")


def entry(name: str, weights: object = "random", **more: Any) -> NetworkEntry:
    given = {"name": "n", "builder": f"torchvision:{name}", "weights": weights, **more}
    return NetworkEntry.model_validate(given)


def presets() -> dict[str, Any]:
    """One of torchvision's weights for each way to prepare pictures."""
    every = (weights for name in names() for weights in weights_of(name))
    return {str(weights.transforms()): weights for weights in every}


PRESETS = list(presets().values())


@pytest.mark.parametrize("weights", PRESETS, ids=str)
def test_pictures_are_prepared_as_torchvision_does(weights: Any) -> None:
    picture = Image.fromarray(skimage.data.coffee())
    geometry = geometry_of(weights)
    prepared = prepare(Pixels(picture), geometry, image_pb2.GEOMETRY_NETWORK, "any")
    mean = torch.tensor(geometry.mean).view(-1, 1, 1)
    std = torch.tensor(geometry.std).view(-1, 1, 1)
    assert torch.equal((prepared.tensor - mean) / std, weights.transforms()(picture))


def test_there_are_many_ways() -> None:
    modes = {weights.transforms().interpolation.value for weights in PRESETS}
    sizes = {weights.transforms().crop_size[0] for weights in PRESETS}
    assert len(PRESETS) >= 25 and modes == {"bilinear", "bicubic"} and {224, 384, 518} <= sizes


@pytest.mark.parametrize("name", sorted({row[0] for row in LECTURES}))
def test_a_network_of_every_family_takes_its_own_input(name: str) -> None:
    # RegNet asks for numbers while it is built, which meta tensors do not have.
    regnet = name.startswith("regnet")
    name = "regnet_y_400mf" if regnet else name
    with torch.device("cpu" if regnet else "meta"):
        built = BUILDER.build(Order(name, "random"))
        geometry = built.input
        assert geometry is not None
        pixels = torch.zeros(1, geometry.channels, geometry.height, geometry.width)
        with torch.inference_mode():
            scores = built.body.eval()(pixels)
    assert scores.shape == (1, len(built.labels)) == (1, 1000)
    assert not built.accuracies, "random weights have earned none"


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_network_can_be_served(name: str) -> None:
    network = load_network(entry(name), "cpu")
    assert len(network.labels) == 1000
    assert network.facts.parameters > 1e6


# Smaller inputs than their own, where that is possible.
REDUCED = {
    "googlenet": (64, {"transform_input": True, "aux_logits": True, "init_weights": False}),
    "inception_v3": (75, {"transform_input": True, "aux_logits": True, "init_weights": False}),
    "densenet121": (32, {}),
    "shufflenet_v2_x0_5": (64, {}),
}


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As torchvision's files of DenseNet have them: "denselayer1.norm.1.weight"."""
    for kind in ("norm", "conv", "relu"):
        for number in "12":
            new, old = f"{kind}{number}.", f"{kind}.{number}."
            state = {
                key.replace(new, old) if "denselayer" in key else key: value
                for key, value in state.items()
            }
    return state


def randomised(body: nn.Module) -> nn.Module:
    """With running statistics that differ, too."""
    for name, buffer in body.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return body.eval()


@pytest.mark.parametrize("name", REDUCED)
def test_a_file_gives_what_torchvision_gives(name: str, tmp_path: Path) -> None:
    size, arguments = REDUCED[name]
    theirs = randomised(models.get_model(name, weights=None, **arguments))
    torch.save(old_names(dict(theirs.state_dict())), tmp_path / "weights.pth")
    file = tmp_path / "weights.pth"
    network = load_network(entry(name, file, input={"size": size}, channels_last=False), "cpu")
    pixels = torch.rand(2, 3, size, size)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in network_numbers(network))
    with torch.inference_mode():
        expected = theirs((pixels - mean) / std)
    assert torch.equal(network.logits(pixels), expected)
    assert not network.facts.accuracies, "only torchvision's own weights have earned its figures"
    resize = geometry_of(models.get_model_weights(name)["DEFAULT"]).resize
    default = geometry_of(models.get_model_weights(name)["DEFAULT"]).height
    assert network.facts.input.resize == round(resize * size / default)


def network_numbers(network: Any) -> tuple[list[float], list[float]]:
    return list(network.facts.input.mean), list(network.facts.input.std)


def test_transformers_are_built_for_the_size_of_their_input() -> None:
    with torch.device("meta"):
        vit = BUILDER.build(Order("vit_b_32", "random", size=(64, 64))).body
        maxvit = BUILDER.build(Order("maxvit_t", "random", size=(448, 448))).body.eval()
        with torch.inference_mode():
            assert maxvit(torch.zeros(1, 3, 448, 448)).shape == (1, 1000)
    # One place for each patch, and one for the class.
    assert vit.state_dict()["encoder.pos_embedding"].shape == (1, 2 * 2 + 1, 768)


def test_auxiliary_heads_are_left_out() -> None:
    for name, parameters in (("googlenet", 6_624_904), ("inception_v3", 23_834_568)):
        with torch.device("meta"):
            body = BUILDER.build(Order(name, "random")).body
        assert sum(parameter.numel() for parameter in body.parameters()) == parameters


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """SqueezeNet's weights where torchvision says they are: here, a web server on loopback."""
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    body = models.squeezenet1_1()
    folder = tmp_path / "web"
    folder.mkdir()
    torch.save(body.state_dict(), folder / "new.pth")
    digits = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    (folder / "new.pth").rename(folder / f"squeezenet1_1-{digits}.pth")
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/squeezenet1_1-{digits}.pth"
        monkeypatch.setattr(weights.value, "url", url)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        yield body
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "DEFAULT"])
def test_weights_by_their_name(published: Any, weights: str) -> None:
    asked = entry("squeezenet1_1", weights, input={"size": 64})
    asked.fetch()
    network = load_network(asked, "cpu")
    [accuracy] = network.facts.accuracies
    assert (accuracy.dataset, accuracy.top1, accuracy.top5) == (
        "ImageNet-1K validation",
        0.58178,
        0.80624,
    )
    assert network.labels[:2] == ["tench", "goldfish"]
    theirs = published.state_dict()["features.0.weight"]
    ours = network.module.state_dict()["body.features.0.weight"]
    assert torch.equal(theirs, ours)


def test_without_a_network_the_error_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    value = models.ResNet50_Weights.IMAGENET1K_V2.value
    monkeypatch.setattr(value, "url", "https://nowhere.invalid/models/resnet50-11ad3fa6.pth")
    asked = entry("resnet50", "IMAGENET1K_V2")
    place = tmp_path / "hub/checkpoints/resnet50-11ad3fa6.pth"
    for use in (asked.fetch, lambda: load_network(asked, "cpu")):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value) == (
            "n@1: weights: torchvision's IMAGENET1K_V2 of resnet50 cannot be downloaded (there is "
            "no network: the host's name is not known); bring https://nowhere.invalid/models/"
            f"resnet50-11ad3fa6.pth to {place}, or name another file with weights:"
        )


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("resnet18x", "random", "no classification network resnet18x; did you mean resnet18 or"),
        ("zzz", "random", "there are: alexnet … wide_resnet50_2; convlens networks --available"),
        ("fcos_resnet50_fpn", "random", "torchvision has no classification network fcos_resnet"),
        ("resnet50", None, "must be given; for torchvision:resnet50 there are: IMAGENET1K_V1, "),
        ("resnet50", "IMAGENET1K_V3", "is 'IMAGENET1K_V3'; for torchvision:resnet50 there are: "),
        ("vgg16", "IMAGENET1K_FEATURES", "for torchvision:vgg16 there are: IMAGENET1K_V1, DEFA"),
    ],
)
def test_what_torchvision_does_not_have(name: str, weights: str | None, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        entry(name, weights)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"arguments": {"foo": 3}}, "arguments: torchvision:squeezenet1_1 cannot be built with fo"),
        ({"input": {"size": 4}}, "input: the network cannot compute an input of 3 x 4 x 4: "),
        ({"input": {"mean": [0.5], "std": [0.5]}}, "an input of 1 x 224 x 224: RuntimeError: "),
        ({"input": {"mean": [0.5]}}, "input: mean has 1 numbers and std 3; give both, as many"),
    ],
)
def test_what_cannot_be_built(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_network(entry("squeezenet1_1", **more), "cpu")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_reach_the_builder() -> None:
    asked = entry("squeezenet1_1", arguments={"num_classes": 3}, input={"size": 64})
    assert load_network(asked, "cpu").labels == ["class 0", "class 1", "class 2"]


def test_the_entry_wins_over_the_metadata() -> None:
    given = {
        "size": [64, 96],
        "resize": 70,
        "interpolation": "nearest",
        "mean": [0.25] * 3,
        "std": [0.5] * 3,
    }
    made = load_network(entry("squeezenet1_1", input=given), "cpu").facts.input
    assert (made.height, made.width, made.resize, made.channels) == (64, 96, 70, 3)
    assert (made.interpolation, list(made.mean), list(made.std)) == (3, [0.25] * 3, [0.5] * 3)
