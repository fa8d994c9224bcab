"""Networks of one's own: modules beside the file, and what can go wrong in them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convlens.workers.catalog import load_network
from convlens.workers.config import ConfigError, NetworkEntry, load_config
from convlens.workers.network import ServedNetwork
from convlens.workers.probe import company_fault

MODULE = """\
import torch
from torch import nn

def build(classes=4):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, classes))

class Grey(nn.Module):
    def forward(self, x):
        return x.mean(dim=1).flatten(1)[:, :2]

class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(x).view(len(x), -1)[:, :5]

class Two(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x

class Named(nn.Module):
    def forward(self, x):
        return {"logits": x.mean((2, 3))}

class Map(nn.Module):
    def forward(self, x):
        return x

class Choice(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).argmax(1, keepdim=True)

class Breaks(nn.Module):
    def forward(self, x):
        raise KeyError("weights of layer 3")

def double():
    return build().double()

def fails():
    return open("/no/such/file")

def nothing():
    pass

answer = 42

class Mates(nn.Module):
    def forward(self, x):
        v = x.mean((2, 3))
        return v - v.mean(0)

class Crowd(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) / len(x)

class Dice(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x.mean(3).flatten(1), 0.5, training=True)

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

def meta():
    with torch.device("meta"):
        return build()

class Sum(nn.Module):
    def forward(self, x):
        return x.mean((0, 2, 3)).unsqueeze(0)
"""
INPUT = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ServedNetwork]:
    """Loads "NAME" of a module beside networks.yaml."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    # A name that no other test has imported.
    module = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    (tmp_path / "broken_own.py").write_text("def build(:\n")
    (tmp_path / "needy_own.py").write_text("import not_installed_anywhere\n")

    def load(builder: str, **keys: Any) -> ServedNetwork:
        kind = builder if ":" in builder else f"{module}:{builder}"
        given = {"name": "own", "builder": kind, "path": tmp_path, "input": INPUT, **keys}
        return load_network(NetworkEntry.model_validate(given), "cpu")

    return load


def test_a_function_of_ones_own(own: Any) -> None:
    network = own("build", arguments={"classes": 3}, labels=["a", "b", "c"])
    assert network.labels == ["a", "b", "c"]
    assert network.logits(torch.rand(2, 3, 16, 16)).shape == (2, 3)
    assert network.facts.input.resize == 16, "left out, nothing is cut off"
    assert own("build").labels == [f"class {index}" for index in range(4)]
    assert own("double").module.state_dict()["body.0.weight"].dtype == torch.float32


def test_its_weights_from_a_file(own: Any, tmp_path: Path) -> None:
    trained = own("build", weights="random").module.body
    for parameter in trained.parameters():
        parameter.fill_(0.125)
    torch.save(trained.state_dict(), tmp_path / "mine.pt")
    network = own("build", weights=tmp_path / "mine.pt")
    assert all((value == 0.125).all() for value in network.module.body.parameters())
    with pytest.raises(ConfigError, match=r"4\.weight is \[4, 8\] in the file, \[9, 8\]"):
        own("build", weights=tmp_path / "mine.pt", arguments={"classes": 9})


def test_grey_pictures(own: Any) -> None:
    network = own("Grey", input={"size": [8, 12], "mean": [0.5], "std": [0.25]})
    assert network.facts.input.channels == 1
    assert network.logits(torch.rand(2, 1, 8, 12)).shape == (2, 2)


def test_the_folder_of_the_file_is_where_modules_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_own.py").write_text(MODULE)
    (tmp_path / "networks.yaml").write_text(
        "networks:\n  - name: own\n    builder: beside_own:build\n    input: {size: 16}\n"
    )
    config = load_config(tmp_path / "networks.yaml")
    with pytest.raises(ConfigError) as caught:
        load_network(config.networks[0], "cpu")
    assert str(caught.value) == (
        f"{tmp_path}/networks.yaml:4: own@1: input: mean, std must be given, since the builder "
        "does not say how pictures are prepared, for example {size: 224, resize: 256, mean: "
        "[0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
    )


WRONG = {
    "absent_own:build": "there is no module absent_own in ",
    "needy_own:build": "needy_own raised ModuleNotFoundError: No module named 'not_installed_any",
    "broken_own:build": "broken_own raised SyntaxError: ",
    "xml.absent:build": "there is no module xml.absent in ",
    "biuld": "has no function biuld",
    "answer": "has a int called answer",
    "fails": "fails raised FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'",
    "nothing": "nothing returned None; must return a torch.nn.Module",
    "lazy": "returned a network whose 1.weight has no values: it is lazy",
    "meta": "whose 0.weight has no values",
    "Two": "the network returns a tuple; must be one tensor of scores [images, classes]",
    "Named": "the network returns a dict; must be one tensor of scores",
    "Map": "the network returns float32 [1, 3, 16, 16] for one image; must be its scores",
    "Choice": "the network returns int64 [1, 1] for one image; must be its scores",
    "Breaks": "cannot compute an input of 3 x 16 x 16: KeyError: 'weights of layer 3'",
    "Mates": "builder: the scores of an image depend on the other images of its batch; it must tr",
    "Crowd": "builder: the scores of an image depend on how many images its batch has; it must tr",
    "Dice": "builder: the network scores the same image otherwise each time; it must treat",
    "Sum": "builder: the network returns 1 rows of scores for 2 images; it must treat",
    "Views": "channels_last: the network cannot compute an input of 3 x 16 x 16: RuntimeError: vi",
}


@pytest.mark.parametrize("builder", WRONG)
def test_what_can_go_wrong_is_one_line(own: Any, builder: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own(builder)
    line = str(caught.value)
    assert line.startswith("own@1: ") and "\n" not in line
    assert WRONG[builder] in line


def test_the_line_of_ones_own_code_is_told(own: Any) -> None:
    with pytest.raises(ConfigError, match=r"own_\d+\.py:38\)$"):
        own("Breaks")
    with pytest.raises(ConfigError, match=r"own_\d+\.py:44\)$"):
        own("fails")
    with pytest.raises(ConfigError, match=r"broken_own\.py:1\)$"):
        own("broken_own:build")


@pytest.mark.parametrize(("rounding", "fine"), [(1e-3, True), (0.5, False)])
def test_sums_in_another_order_each_time_are_rounding(
    own: Any, rounding: float, fine: bool
) -> None:
    network, random = own("build"), torch.Generator().manual_seed(1)

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        scores = network.logits(pixels)
        return scores * (1 + rounding * torch.rand(scores.shape, generator=random))

    assert (company_fault(compute, network, 2) is None) == fine


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rounding_is_no_dependence_on_other_images(own: Any, precision: str) -> None:
    network = own("build", precision=precision)
    for count in (2, 8):
        assert company_fault(network.logits, network, count) is None


def test_a_network_that_calls_view_works_in_the_other_layout(own: Any) -> None:
    with pytest.raises(ConfigError, match=r"Or set channels_last: false\.$"):
        own("Views")
    assert len(own("Views", channels_last=False).labels) == 5


def test_wrong_arguments(own: Any) -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'clases'"):
        own("build", arguments={"clases": 3})
