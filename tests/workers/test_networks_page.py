"""docs/networks.md says what is so: its files are read, its network is served."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from convlens.workers.catalog import load_network
from convlens.workers.config import Config, NetworkEntry, PoolConfig, load_config
from convlens.workers.entries import InputConfig

PAGE = (Path(__file__).parents[2] / "docs/networks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The example, with the files that it names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    for name in ("weights", "code"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights/ours.safetensors").touch()
    (tmp_path / "weights/labels.txt").write_text("cat\ndog\nbird\n")
    [code] = blocks("python")
    (tmp_path / "code/my_networks.py").write_text(code)
    [example, _] = blocks("yaml")
    (tmp_path / "networks.yaml").write_text(example)
    return load_config(tmp_path / "networks.yaml")


def test_the_example_is_read(config: Config) -> None:
    assert [entry.reference for entry in config.entries] == [
        "resnet50@1",
        "resnet50@ours",
        "mine@1",
    ]


def test_the_network_of_ones_own_is_served(config: Config) -> None:
    network = load_network(config.loadable[0], "cpu")
    assert network.labels == ["class 0", "class 1", "class 2"]


def test_the_linear_classifier_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saving = next(block for block in blocks("pycon") if "save_file" in block)
    exec(saving.replace(">>> ", ""), {})
    [_, example] = blocks("yaml")
    (tmp_path / "networks.yaml").write_text(example)
    [entry] = load_config(tmp_path / "networks.yaml").networks
    network = load_network(entry, "cpu")
    assert (network.labels, network.facts.input.width) == (["0", "1"], 10)


def test_every_key_is_in_the_example() -> None:
    [example, _] = blocks("yaml")
    document = yaml.safe_load(example)
    entries = [*document["networks"], *document["loadable"]]
    assert set().union(*entries) == set(NetworkEntry.model_fields)
    assert set(entries[1]["input"]) == set(InputConfig.model_fields)
    assert set().union(*document["pools"].values()) == set(PoolConfig.model_fields)
    assert set(document) == set(Config.model_fields)
