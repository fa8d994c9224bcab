"""What v1 has promised holds: nobody's client breaks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "proto/v1.binpb"


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract as it is now."""
    image = tmp_path_factory.mktemp("proto") / "now.binpb"
    command = [sys.executable, ROOT / "proto/generate.py", "--descriptors", image]
    subprocess.run(command, check=True)
    return image


def breaks(image: Path) -> str:
    """What `buf breaking` says of it."""
    buf = Path(sys.executable).parent / "buf"
    command = [buf, "breaking", image, "--against", FROZEN, "--path", "convlens/v1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (result.stdout == ""), result.stderr
    return result.stdout


def test_nothing_of_v1_is_broken(now: Path) -> None:
    assert breaks(now) == "", "see CONTRIBUTING.md: what v1 has stays"


def remove_field(contract: FileDescriptorSet) -> None:
    [file] = [each for each in contract.file if each.name.endswith("/classification.proto")]
    del file.message_type[0].field[0]


def remove_rpc(contract: FileDescriptorSet) -> None:
    [file] = [each for each in contract.file if each.name.endswith("/classification.proto")]
    del file.service[0].method[0]


def renumber_value(contract: FileDescriptorSet) -> None:
    [file] = [each for each in contract.file if each.name.endswith("/error.proto")]
    file.enum_type[0].value[1].number = 999


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove_field, "was deleted"),
        (remove_rpc, "was deleted"),
        (renumber_value, "was deleted"),
    ],
)
def test_what_would_break_clients_is_found(
    now: Path, tmp_path: Path, spoil: Callable[[FileDescriptorSet], None], words: str
) -> None:
    contract = FileDescriptorSet.FromString(now.read_bytes())
    spoil(contract)
    spoiled = tmp_path / "spoiled.binpb"
    spoiled.write_bytes(contract.SerializeToString())
    assert words in breaks(spoiled)
