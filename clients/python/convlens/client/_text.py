"""Text that terminals and readers of JSON take, whatever the names of files are."""

import json
import re
from pathlib import Path

# Python's stand-ins for bytes that are no text, which are no text either.
_LONE = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """With U+FFFD for what of a file's name is no text."""
    return _LONE.sub("\N{REPLACEMENT CHARACTER}", text)


def json_text(document: object, *, indent: int | None = None) -> str:
    """The document as JSON, in ASCII, with all texts readable."""
    text = readable(json.dumps(document, ensure_ascii=False))
    return json.dumps(json.loads(text), indent=indent)


def printable(text: str) -> str:
    """Without what would move the cursor or change the colours of a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shown(path: Path) -> str:
    """A path in one line of text."""
    return printable(str(path))


def percent(share: float, digits: int = 0) -> str:
    """A share of 1 as people read it: "75 %", with so many digits behind the point."""
    return f"{100 * share:.{digits}f} %"
