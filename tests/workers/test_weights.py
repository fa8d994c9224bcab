"""Files of weights: what is read, what is refused, and how a misfit is told."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from convlens.workers.builders import BuildError
from convlens.workers.builders.weights import load_into, read_weights


def network() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


WRAPPINGS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "arch": "x"},
    "model": lambda state: {"model": state},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "DataParallel": lambda state: {"state_dict": prefixed(state, "module.")},
    "compiled DataParallel": lambda state: prefixed(state, "module._orig_mod."),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_files_of_torch(tmp_path: Path, wrapping: str, suffix: str) -> None:
    trained, fresh = network(), network()
    file = tmp_path / f"weights{suffix}"
    torch.save(WRAPPINGS[wrapping](trained.state_dict()), file)
    assert not same(trained, fresh)
    load_into(fresh, file)
    assert same(trained, fresh)


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    trained, fresh = network(), network()
    file = tmp_path / "old.pth"
    torch.save(trained.state_dict(), file, _use_new_zipfile_serialization=False)
    load_into(fresh, file)
    assert same(trained, fresh)


def test_safetensors_and_halves(tmp_path: Path) -> None:
    trained, fresh = network(), network()
    halves = {name: value.half() for name, value in trained.state_dict().items()}
    halves["norm.num_batches_tracked"] = trained.state_dict()["norm.num_batches_tracked"]
    save_file(halves, tmp_path / "half.safetensors")
    load_into(fresh, tmp_path / "half.safetensors")
    weight = fresh.state_dict()["conv.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, trained.state_dict()["conv.weight"].half().float())


def test_files_from_before_batches_were_counted(tmp_path: Path) -> None:
    trained, fresh = network(), network()
    state = trained.state_dict()
    del state["norm.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pth")
    load_into(fresh, tmp_path / "old.pth")
    assert same(trained, fresh)


def test_modules_that_look_at_the_version_of_their_format(tmp_path: Path) -> None:
    # MNASNet refuses a state without one, and safetensors have none.
    trained, fresh = models.mnasnet0_5(), models.mnasnet0_5()
    save_file(trained.state_dict(), tmp_path / "mnasnet.safetensors")
    load_into(fresh, tmp_path / "mnasnet.safetensors")
    assert same(trained, fresh)


def refusal(file: Path, body: nn.Module | None = None) -> str:
    with pytest.raises(BuildError) as caught:
        load_into(body or network(), file)
    assert caught.value.key == "weights"
    assert str(file) in str(caught.value)
    return str(caught.value).replace(str(file), "FILE")


def test_every_misfit_is_listed(tmp_path: Path) -> None:
    state: dict[str, Any] = dict(network().state_dict())
    state["head.weight"] = torch.zeros(1000, 4)
    state["extra.weight"] = torch.zeros(1)
    del state["conv.bias"], state["norm.running_mean"]
    torch.save(state, tmp_path / "other.pth")
    assert refusal(tmp_path / "other.pth") == (
        "FILE does not fit the network: 2 missing: conv.bias, norm.running_mean; "
        "1 unexpected: extra.weight; "
        "1 of another shape: head.weight is [1000, 4] in the file, [2, 4] in the network"
    )


@pytest.mark.parametrize(
    ("made", "kind"),
    [(torch.complex64, "complex64"), (torch.int64, "int64"), (torch.bool, "bool")],
)
def test_numbers_of_another_kind_are_a_misfit(tmp_path: Path, made: torch.dtype, kind: str) -> None:
    state = dict(network().state_dict())
    state["head.weight"] = state["head.weight"].to(made)
    torch.save(state, tmp_path / "other.pth")
    assert refusal(tmp_path / "other.pth") == (
        "FILE does not fit the network: 1 of another type: "
        f"head.weight is {kind} in the file, float32 in the network"
    )


@pytest.mark.parametrize("made", [torch.float16, torch.bfloat16, torch.float64])
def test_a_file_that_was_cast_whole_fits(tmp_path: Path, made: torch.dtype) -> None:
    state = {name: value.to(made) for name, value in network().state_dict().items()}
    torch.save(state, tmp_path / "cast.pth")
    fresh = network()
    load_into(fresh, tmp_path / "cast.pth")
    assert torch.equal(fresh.state_dict()["conv.weight"], state["conv.weight"].float())
    state["norm.num_batches_tracked"] += 0.5
    torch.save(state, tmp_path / "cast.pth")
    assert "num_batches_tracked is " in refusal(tmp_path / "cast.pth")


def test_a_network_that_refuses_in_words_of_its_own(tmp_path: Path) -> None:
    class Picky(nn.Linear):
        def _load_from_state_dict(self, *args: Any, **keys: Any) -> None:
            raise KeyError("\n  no such layer")

    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "x.pth")
    words = refusal(tmp_path / "x.pth", Picky(2, 2))
    assert words.startswith("FILE cannot be laid into the network: ")
    assert words.endswith("no such layer'") and "\n" not in words


def test_layers_that_take_their_shapes_from_the_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "x.pth")
    lazy = nn.LazyLinear(2)
    load_into(lazy, tmp_path / "x.pth")
    assert lazy.weight.shape == (2, 4)


def test_prefixes_in_safetensors(tmp_path: Path) -> None:
    trained, fresh = network(), network()
    save_file(prefixed(trained.state_dict(), "module."), tmp_path / "x.safetensors")
    load_into(fresh, tmp_path / "x.safetensors")
    assert same(trained, fresh)
    save_file({}, tmp_path / "x.safetensors")
    assert refusal(tmp_path / "x.safetensors").startswith("FILE holds no weights: it is empty")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    words = refusal(tmp_path / "other.safetensors", models.resnet18())
    assert "102 missing: conv1.weight, bn1.weight, " in words
    assert " and 94 more; 1 unexpected: a" in words
    assert len(words) < 400


class Bomb:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("maker", ["torch", "old torch", "pickle"])
def test_a_pickle_that_is_not_weights_is_refused_and_not_opened(tmp_path: Path, maker: str) -> None:
    file, trace = tmp_path / "bomb.pth", tmp_path / "trace"
    if maker == "pickle":
        file.write_bytes(pickle.dumps({"state_dict": Bomb(trace)}))
    else:
        new = maker == "torch"
        torch.save({"state_dict": Bomb(trace)}, file, _use_new_zipfile_serialization=new)
    words = refusal(file)
    assert words.startswith(
        "FILE holds a pickle that is not weights alone and calls for posix.mkdir; it was not opened"
    )
    assert words.endswith(": torch.save(network.state_dict(), FILE)")
    assert "weights_only" not in words, "torch advises to unpickle it"
    assert not trace.exists()
    # The bomb is one: a careless reader would have set it off.
    torch.load(file, weights_only=False) if maker != "pickle" else pickle.loads(file.read_bytes())
    assert trace.exists()


def test_a_whole_network_is_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(), tmp_path / "whole.pth")
    words = refusal(tmp_path / "whole.pth")
    assert "torchvision.models.squeezenet.SqueezeNet" in words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "FILE holds no weights: it is empty; must be tensors by name"),
        ([torch.zeros(1)], "FILE holds no weights: it is a list"),
        (torch.zeros(1), "FILE holds no weights: it is a Tensor"),
        ({"epoch": 3}, "FILE holds no weights: epoch is a int"),
        ({"state_dict": {"a": 1.5}}, "FILE holds no weights: a is a float"),
        ({1: torch.zeros(1), "a": torch.zeros(1)}, "FILE holds no weights: 1 is a int and no name"),
        ({"a": torch.eye(2).to_sparse()}, "FILE holds no weights: a is a sparse or nested tensor"),
        ({"a": torch.eye(2, device="meta")}, "FILE holds no weights: a is a tensor without values"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, value: object, words: str) -> None:
    torch.save(value, tmp_path / "x.pth")
    assert refusal(tmp_path / "x.pth").startswith(words)


def test_a_dictionary_that_holds_itself(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "x.pth")
    assert refusal(tmp_path / "x.pth").startswith("FILE holds no weights: model is a dict")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_pickles_are_named_and_never_advised(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "x.pth"
    # Names that stand in a pickle once, and are referred to later.
    file.write_bytes(pickle.dumps([Path("a"), os.mkdir, os.rmdir, "mkdir"], protocol))
    words = refusal(file)
    assert "calls for pathlib.PosixPath, posix.mkdir, posix.rmdir; it was not opened" in words
    file.write_bytes(pickle.dumps({"lr": 0.1}, protocol))
    words = refusal(file)
    assert words.startswith("FILE holds a pickle that is not weights alone; it was not opened")


def test_a_program_of_torchscript_is_called_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"x/{name}", pickle.dumps(()))
        archive.writestr("x/version", "3")
    words = refusal(tmp_path / "x.pt")
    assert words.startswith("FILE is a program of TorchScript; it was not opened")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}", b"PK\x03\x04 and nothing"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    words = refusal(tmp_path / name)
    assert words.startswith("FILE is damaged or no ")
    assert "\n" not in words


def test_a_file_cut_off(tmp_path: Path) -> None:
    for name, save in (("x.pth", torch.save), ("x.safetensors", save_file)):
        file = tmp_path / name
        save(network().state_dict(), file)
        file.write_bytes(file.read_bytes()[:-100])
        assert refusal(file).startswith("FILE is damaged or no ")
    file = tmp_path / "old.pth"
    torch.save(network().state_dict(), file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:-100])
    assert refusal(file) == "FILE is damaged or no file of torch.save"


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.pth").mkdir()
    assert refusal(tmp_path / "x.pth") == "FILE: Is a directory"
    with pytest.raises(BuildError):
        read_weights(tmp_path / "gone.safetensors")
