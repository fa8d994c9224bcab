"""The comments of the protos, which the stubs do not carry: read from the files beside them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from convlens.v1 import options_pb2

SCOPE = re.compile(r"(?:message|enum|oneof|service|extend) ([\w.]+) \{")
ENTRY = re.compile(r"(?:(?:repeated|optional) )?(?:[\w.]+ )?(\w+) = \d+")


def comment_of(name: str) -> str:
    """What stands over a message, an enum, or an entry of one; empty where nothing does.

    `name` is the full name without the package: "Occlusion", "Occlusion.window", "Fill.FILL_GREY".
    """
    return _comments().get(name, "")


@cache
def _comments() -> dict[str, str]:
    folder = Path(options_pb2.__file__).parent
    found = (_read(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.proto")))
    return {name: text for file in found for name, text in file}


def _read(text: str) -> Iterator[tuple[str, str]]:
    """The name and the comment of everything in a file; our files have one of each in a line."""
    scopes: list[tuple[str, int]] = []
    words: list[str] = []
    depth = 0
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            words.append(line.removeprefix("//").strip())
            continue
        if match := SCOPE.match(line) or ENTRY.match(line):
            # What is in a oneof belongs to the message around it.
            outer = [name for name, _ in scopes if name]
            yield ".".join([*outer, match[1]]), " ".join(words)
        if match := SCOPE.match(line):
            scopes.append(("" if line.startswith("oneof") else match[1], depth))
        words = []
        depth += line.count("{") - line.count("}")
        while scopes and depth <= scopes[-1][1]:
            scopes.pop()
