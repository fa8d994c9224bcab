"""Comments as they are read from the protos, against those that protoc finds."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from convlens.contract.comments import comment_of

ROOT = Path(__file__).parents[2]


def named(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Every message, enum and entry of a file, with protoc's comment."""
    places = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for number, message in enumerate(file.message_type):
        yield message.name, places.get((4, number), "")
        for index, field in enumerate(message.field):
            yield f"{message.name}.{field.name}", places.get((4, number, 2, index), "")
        for index, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):
                yield f"{message.name}.{oneof.name}", places.get((4, number, 8, index), "")
    for number, enum in enumerate(file.enum_type):
        yield enum.name, places.get((5, number), "")
        for index, value in enumerate(enum.value):
            yield f"{enum.name}.{value.name}", places.get((5, number, 2, index), "")


def test_comments_are_those_that_protoc_finds(tmp_path: Path) -> None:
    target = tmp_path / "set.binpb"
    command = [sys.executable, ROOT / "proto/generate.py", "--descriptors", target]
    subprocess.run(command, check=True)
    files = FileDescriptorSet.FromString(target.read_bytes()).file
    expected = dict(pair for file in files if file.package == "convlens.v1" for pair in named(file))
    assert len(expected) > 400
    read = {name: comment_of(name) for name in expected}
    assert read == {name: " ".join(text.split()) for name, text in expected.items()}
    assert all(read.values())


def test_what_there_is_not_has_no_comment() -> None:
    assert comment_of("Occlusion.door") == ""
    assert comment_of("Occlusion.window") == "Side of the square window."
