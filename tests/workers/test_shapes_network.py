"""The network `shapes`: its layers, its shipped weights, its training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from convlens.workers.shapes import train
from convlens.workers.shapes.dataset import HELD_OUT, Pictures, dataset
from convlens.workers.shapes.draw import CLASSES, SIZE
from convlens.workers.shapes.network import (
    CHECKPOINTS,
    CODE,
    INPUT_SIZE,
    LABELS,
    MEAN,
    STD,
    WEIGHTS,
    Shapes,
    build,
    fold_batchnorm,
    load,
    normalised,
)
from convlens.workers.shapes.samples import SAMPLES, sample


@pytest.fixture(scope="module")
def network() -> Shapes:
    return load()


@pytest.fixture(scope="module")
def held_out() -> Pictures:
    return dataset(HELD_OUT, processes=2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: two that wait for each other are slow on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def right(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    # Small batches with the maps innermost: several times faster.
    told: list[torch.Tensor] = []
    with torch.inference_mode():
        for part in images.split(16):
            inputs = normalised(part).to(memory_format=torch.channels_last)
            told.append(network(inputs).argmax(1))
    return (torch.cat(told) == labels).float().mean().item()


def test_only_plain_layers_named_as_in_vgg() -> None:
    network = build()
    assert [name for name, _ in network.named_children()] == ["features", "classifier"]
    plain = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Linear, nn.Flatten)
    layers = [*network.features, *network.classifier]
    assert all(isinstance(layer, plain) for layer in layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) for c in convolutions)
    assert all(c.bias is not None and c.groups == 1 for c in convolutions)
    assert all(layer.inplace for layer in layers if isinstance(layer, nn.ReLU))
    assert convolutions[0].out_channels >= 24


def test_codes_as_of_fc6_and_fc7_and_logits() -> None:
    network = build()
    inputs = torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE)
    assert network.features(inputs).shape == (2, 64, 4, 4)
    assert network.classifier[:2](network.features(inputs)).shape == (2, CODE)
    assert network.classifier[:4](network.features(inputs)).shape == (2, CODE)
    assert network(inputs).shape == (2, len(LABELS))
    assert LABELS == CLASSES and INPUT_SIZE == SIZE


def test_normalised_is_the_formula() -> None:
    images = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    inputs = normalised(images)
    assert inputs.shape == (2, 3, 5, 4)
    expected = (images[1, 3, 2, 1].item() / 255 - MEAN[1]) / STD[1]
    assert inputs[1, 1, 3, 2].item() == pytest.approx(expected, abs=1e-6)


def test_folding_batchnorm_changes_no_logit() -> None:
    torch.manual_seed(0)
    network = Shapes(batchnorm=True).double()
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            assert layer.running_var is not None
            nn.init.uniform_(layer.weight, -1.5, 1.5)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.1, 3.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = torch.randn(3, 3, INPUT_SIZE, INPUT_SIZE, dtype=torch.float64)
    folded = fold_batchnorm(network.eval())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(inputs), network(inputs), rtol=1e-11, atol=1e-11)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_folding_without_batchnorm_is_a_copy() -> None:
    network = build().train()
    folded = fold_batchnorm(network)
    assert folded.training
    assert all(torch.equal(network.state_dict()[k], v) for k, v in folded.state_dict().items())


def test_what_cannot_be_folded_is_refused() -> None:
    network = Shapes(batchnorm=True)
    network.features[1] = nn.BatchNorm2d(24, track_running_stats=False)
    with pytest.raises(TypeError, match="running statistics"):
        fold_batchnorm(network)
    network.features[0] = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    with pytest.raises(TypeError, match="has a bias"):
        fold_batchnorm(network)


def test_shipped_weights_are_small_and_say_where_they_come_from() -> None:
    assert WEIGHTS.stat().st_size < 2_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        facts = file.metadata()
    figures = json.loads(WEIGHTS.with_name("training.json").read_text())
    assert facts["classes"].split(",") == list(LABELS)
    assert int(facts["visits"]) == figures["visits"] == train.VISITS
    assert int(facts["seed"]) == figures["seed"]
    assert float(facts["accuracy"]) == figures["held_out"]["top1"] >= 0.97


def test_held_out_pictures_are_told_right(network: Shapes, held_out: Pictures) -> None:
    labels = torch.tensor(held_out.labels)
    assert len(labels) == 2_000
    assert not network.training
    assert right(network, torch.tensor(held_out.images), labels) >= 0.97


def test_a_little_noise_and_shade_changes_little(network: Shapes, held_out: Pictures) -> None:
    images, labels = torch.tensor(held_out.images[:200]), torch.tensor(held_out.labels[:200])
    noisy = images + 10.0 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert right(network, noisy.clamp(0, 255), labels) >= 0.95
    assert right(network, images * 0.85, labels) >= 0.95


def test_checkpoints_grow_better(held_out: Pictures) -> None:
    paths = sorted(CHECKPOINTS.glob("*.safetensors"))
    images, labels = torch.tensor(held_out.images[:160]), torch.tensor(held_out.labels[:160])
    rights = [right(load(path), images, labels) for path in paths]
    visits = [int(path.stem.removeprefix("visits-")) for path in paths]
    assert len(paths) == len(train.KEPT)
    assert visits == sorted(visits) and visits[-1] < train.VISITS
    assert rights[0] < 0.5 < rights[-1] < right(load(), images, labels)
    assert all(path.stat().st_size < 700_000 for path in paths)


def test_the_samples_are_told_right(network: Shapes) -> None:
    for name, seed in SAMPLES.items():
        picture = sample(seed)
        resized = Image.fromarray(picture.image).resize((INPUT_SIZE, INPUT_SIZE))
        with torch.no_grad():
            logits = network(normalised(torch.tensor(np.asarray(resized))[None]))
        chance = logits.softmax(1)[0, picture.label].item()
        assert chance > 0.5, f"{name}: {LABELS[int(logits.argmax())]}"


def test_a_short_training_lowers_the_loss() -> None:
    few = dataset(range(16))
    result = train.train(repeat(few), 15, every=3)
    losses = [interval.loss for interval in result.intervals]
    assert [interval.visits for interval in result.intervals] == [48, 96, 144, 192, 240]
    assert losses[-1] < 0.6 * losses[0]
    assert sorted(result.checkpoints) == [16, 32, 64]
    assert not result.network.training
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in result.network.modules())


def test_the_script_repeats_itself_and_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = range(HELD_OUT.start, HELD_OUT.start + 20)
    monkeypatch.setattr(train, "HELD_OUT", few)
    monkeypatch.setattr(train, "BATCH", 16)
    for out in ("one", "again"):
        given = ["--out", str(tmp_path / out), "--visits", "70", "--processes", "1"]
        train.main([*given, "--seed", "3"])
    assert "64 visits   loss " in capsys.readouterr().out
    one, again = (load(tmp_path / out / "shapes.safetensors") for out in ("one", "again"))
    pairs = zip(one.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    kept = {path.name for path in (tmp_path / "one" / "checkpoints").iterdir()}
    assert kept == {"visits-000016.safetensors"}
    figures = json.loads((tmp_path / "one" / "training.json").read_text())
    assert figures["visits"] == 64 and figures["seed"] == 3
    assert figures["held_out"]["pictures"] == 20
    assert figures["held_out"]["top1"] == train.accuracy(one, few)


def test_no_training_sees_what_is_held_out_or_what_another_sees() -> None:
    assert train.training_seeds(2, 5) == range(20_000_000, 20_000_005)
    assert train.training_seeds(399, 10_000_000).stop == HELD_OUT.start
    for seed, visits in ((400, 1), (-1, 1), (0, 10_000_001)):
        with pytest.raises(ValueError, match="stay off the pictures held out"):
            train.training_seeds(seed, visits)
