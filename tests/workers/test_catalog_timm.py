"""timm's networks, through the real package; and what is said where it is missing."""

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import coffee

from convlens.v1 import image_pb2
from convlens.workers.builders import builder_of
from convlens.workers.builders.builder import Order
from convlens.workers.catalog import load_network
from convlens.workers.config import ConfigError, NetworkEntry
from convlens.workers.images import Pixels, prepare

# Typed in part alone.
DATA: Any = importlib.import_module("timm.data")
TINY = "test_convnext.r160_in1k"


def entry(name: str, weights: object = "random", **more: Any) -> NetworkEntry:
    given = {"name": "n", "builder": f"timm:{name}", "weights": weights, **more}
    return NetworkEntry.model_validate(given)


def test_a_file_gives_what_timm_gives(tmp_path: Path) -> None:
    theirs = timm.create_model(TINY, pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    asked = entry(TINY, tmp_path / "model.safetensors", channels_last=False)
    network = load_network(asked, "cpu")
    picture = Image.fromarray(coffee())
    config: dict[str, Any] = DATA.resolve_model_data_config(theirs)
    expected: torch.Tensor = DATA.create_transform(**config, is_training=False)(picture)[None]
    geometry = network.facts.input
    ours = prepare(Pixels(picture), geometry, image_pb2.GEOMETRY_NETWORK, "n").tensor
    mean, std = (torch.tensor(list(v)).view(3, 1, 1) for v in (geometry.mean, geometry.std))
    assert torch.equal(((ours - mean) / std)[None], expected)
    with torch.inference_mode():
        assert torch.equal(network.logits(ours[None]), theirs(expected))
    assert not network.facts.accuracies


def test_arguments_and_sizes() -> None:
    asked = entry("test_resnet", arguments={"num_classes": 3}, input={"size": 64})
    network = load_network(asked, "cpu")
    assert network.labels == ["class 0", "class 1", "class 2"]
    assert (network.facts.input.height, network.facts.input.resize) == (64, 67)


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("resnet18x", "random", "timm has no network resnet18x; did you mean resnet18"),
        ("zzzz", "random", "timm has no network zzzz; there are: https://huggingface.co/timm"),
        ("resnet18.a9_in1k", "random", "timm has no training a9_in1k of resnet18; did you mean a"),
        ("resnet18", None, "must be given; for timm:resnet18 it must be DEFAULT for timm's own, a"),
        ("resnet18", "IMAGENET1K_V1", "is 'IMAGENET1K_V1'; for timm:resnet18 it must be DEFAULT"),
        ("resnet10t_", "random", "did you mean resnet10t"),
    ],
)
def test_what_timm_does_not_have(name: str, weights: str | None, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        entry(name, weights)
    assert words in str(caught.value)


def test_without_a_network_the_error_says_which_file_to_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    # What HF_HUB_OFFLINE=1 sets; otherwise it tries for half a minute.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = entry(TINY, "DEFAULT")
    for use in (asked.fetch, lambda: load_network(asked, "cpu")):
        with pytest.raises(ConfigError) as caught:
            use()
        words = str(caught.value)
        assert words.startswith(f"n@1: weights: timm's weights of {TINY} are not here and cannot ")
        assert words.endswith(
            f"bring model.safetensors of https://huggingface.co/timm/{TINY} and name it with "
            "weights: FILE"
        )


def test_a_hub_out_of_reach_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    # Nobody listens there.
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked, begun = entry(TINY, "DEFAULT"), time.monotonic()
    with pytest.raises(ConfigError, match="cannot be downloaded"):
        asked.fetch()
    assert time.monotonic() - begun < 10


def test_weights_that_are_here_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    here = tmp_path / f"models--timm--{TINY}"
    (here / "refs").mkdir(parents=True)
    (here / "refs" / "main").write_text("a" * 40)
    file = here / "snapshots" / ("a" * 40) / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    entry(TINY, "DEFAULT").fetch()


def test_pictures_that_timm_squashes_need_an_input_of_their_own() -> None:
    configs = {name: timm.get_pretrained_cfg(name) for name in timm.list_pretrained("vit_*")}
    squashed = next(name for name, c in configs.items() if c and c.crop_mode == "squash")
    builder, _ = builder_of("timm:any")
    with torch.device("meta"):
        assert builder.build(Order(squashed, "random")).input is None
        assert builder.build(Order("test_vit", "random")).input is not None


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError) as caught:
        entry("resnet18")
    words = 'timm is not installed; install it beside the workers: pip install "convlens-workers'
    assert words in str(caught.value)
