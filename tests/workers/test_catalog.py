"""Networks as they are loaded: labels, precision, layout, rows, devices, compiled code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from convlens.v1 import receipt_pb2
from convlens.workers.catalog import load_network
from convlens.workers.config import ConfigError, NetworkEntry
from convlens.workers.network import ServedNetwork
from convlens.workers.shapes.network import CHECKPOINTS, LABELS


def load(**keys: Any) -> ServedNetwork:
    return load_network(NetworkEntry.model_validate({"name": "shapes", **keys}), "cpu")


def refusal(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 128, 128, generator=generator)


@pytest.fixture(scope="module")
def plain() -> ServedNetwork:
    return load()


TEN = [f"thing {index}" for index in range(10)]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n \n"])
def test_labels_of_a_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / "labels.txt").write_text("\ufeff" + "\n".join(TEN) + ending)
    network = load(labels=tmp_path / "labels.txt")
    assert network.labels == list(network.facts.labels) == TEN


def test_labels_of_a_list(plain: ServedNetwork) -> None:
    assert load(labels=TEN).labels == TEN
    assert plain.labels == list(LABELS)


def test_a_wrong_count_of_labels(tmp_path: Path) -> None:
    words = "shapes@1: labels: there are 2 labels and the network scores 10 classes"
    assert refusal(labels=["a", "b"]) == words
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert refusal(labels=tmp_path / "labels.txt") == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\n\nb\n", "line 2 is empty; must be one name in each line"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"\n\n", "there are 0 labels and the network scores 10 classes"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert words in refusal(labels=tmp_path / "labels.txt")


def test_bfloat16_computes_in_it_and_keeps_float32_outside(
    plain: ServedNetwork, pixels: torch.Tensor
) -> None:
    network = load(precision="bf16")
    seen: list[torch.dtype] = []
    convolution = network.module.get_submodule("body.features.0")
    handle = convolution.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    logits, gradient = network.logits(pixels), network.gradient(pixels)
    handle.remove()
    assert seen == [torch.bfloat16] * 2
    assert logits.dtype == gradient.dtype == torch.float32
    exact = plain.logits(pixels)
    error = (logits - exact).abs().max() / exact.abs().max()
    # Eight bits of mantissa over a handful of layers.
    assert 1e-6 < error < 0.03
    assert all(value.dtype != torch.bfloat16 for value in network.module.state_dict().values())
    for said in (network.facts, network.receipt()):
        assert said.precision == receipt_pb2.PRECISION_BFLOAT16
    assert network.facts.digest == plain.facts.digest, "the weights are the same"


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_in_memory(
    plain: ServedNetwork, pixels: torch.Tensor, channels_last: bool
) -> None:
    network = load(channels_last=channels_last)
    seen: list[bool] = []
    convolution = network.module.get_submodule("body.features.3")
    handle = convolution.register_forward_hook(
        lambda *given: seen.append(given[2].is_contiguous(memory_format=torch.channels_last))
    )
    assert torch.allclose(network.logits(pixels), plain.logits(pixels), atol=1e-4)
    assert torch.allclose(network.gradient(pixels), plain.gradient(pixels), atol=1e-4)
    handle.remove()
    assert seen == [channels_last] * 2
    assert network.facts.channels_last == network.receipt().channels_last == channels_last


def test_rows(plain: ServedNetwork) -> None:
    assert load(rows=3).facts.rows == 3
    assert plain.facts.rows == 8


def test_a_device_that_is_not_there() -> None:
    entry = NetworkEntry(name="shapes", device="cuda:99")
    with pytest.raises(ConfigError) as caught:
        load_network(entry)
    words = "shapes@1: device: there is no cuda:99 on this machine; there are: cpu"
    assert str(caught.value).startswith(words)
    assert load_network(entry, "cpu").device.type == "cpu", "whoever calls knows better"
    assert load_network(NetworkEntry(name="shapes", device="cpu")).device.type == "cpu"


@pytest.mark.slow
def test_compiled_code_gives_the_same(plain: ServedNetwork, pixels: torch.Tensor) -> None:
    network = load(compile=True)
    network.warm_up(3)
    network.warm_up_gradients()
    for rows in (1, 2, 4):
        got, expected = network.logits(pixels[:rows]), plain.logits(pixels[:rows])
        assert torch.allclose(got, expected, atol=1e-4)
    assert torch.allclose(network.gradient(pixels), plain.gradient(pixels), atol=1e-4)
    assert network.facts.compiled and network.receipt().compiled
    # Who looks inside while it computes still can.
    seen: list[torch.Size] = []
    convolution = network.module.get_submodule("body.features.0")
    with convolution.register_forward_hook(lambda *given: seen.append(given[2].shape)):
        network.outputs(pixels)
    assert seen == [torch.Size([4, 24, 128, 128])]


@pytest.mark.slow
def test_without_a_compiler_the_error_says_what_to_do(tmp_path: Path) -> None:
    # In a process of its own, where nothing was compiled before.
    script = (
        "from convlens.workers.catalog import load_network;"
        "from convlens.workers.config import NetworkEntry;"
        "load_network(NetworkEntry(name='shapes', compile=True), 'cpu')"
    )
    nowhere = {"CXX": "/nonexistent/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    environment = {**os.environ, **nowhere}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    words = result.stderr.strip().splitlines()[-1]
    assert "ConfigError: shapes@1: compile: torch.compile fails: InductorError: " in words
    assert "compiler" in words and words.endswith("; set compile: false")


def test_bundled_networks_take_weights_but_no_arguments(
    tmp_path: Path, plain: ServedNetwork, pixels: torch.Tensor
) -> None:
    state = plain.module.state_dict()
    weights = {name.removeprefix("body."): value for name, value in state.items()}
    torch.save(weights, tmp_path / "shapes.pth")
    again = load(weights=tmp_path / "shapes.pth")
    assert torch.equal(again.logits(pixels), plain.logits(pixels))
    assert plain.facts.accuracies and not again.facts.accuracies
    random = load(weights="random")
    assert random.facts.digest == load(weights="random").facts.digest != plain.facts.digest
    assert "shapes@1: arguments: a bundled network takes none" in refusal(arguments={"a": 1})


@pytest.mark.parametrize("visits", [704, 2176, 7168, 21632])
def test_the_checkpoints_of_shapes_have_names(visits: int, pixels: torch.Tensor) -> None:
    named = load(weights=f"visits-{visits}")
    from_file = load(weights=CHECKPOINTS / f"visits-{visits:06}.safetensors")
    assert torch.equal(named.logits(pixels), from_file.logits(pixels))
    assert named.facts.digest == from_file.facts.digest
    assert not named.facts.accuracies


def test_nobody_elses_randomness_is_touched() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load(weights="random")
    assert torch.equal(torch.rand(3), expected)
