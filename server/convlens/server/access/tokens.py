"""The file of tokens: who may call, and what; it has hashes and never the tokens themselves."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from convlens.server.access.files import Unusable
from convlens.server.access.scopes import SCOPES, Scope

# What is allowed: pydantic's words would be the pattern itself, or of Python's types.
ALLOWED = {
    "": "must be an entry with name, sha256 and scopes, as convlens-server token writes",
    "name": "must be 1 to 64 letters, digits, '.', '-' or '_'; a number in quotes",
    "sha256": "must be a SHA-256 in 64 small hexadecimal digits, as convlens-server token writes, "
    "or a list of them",
    "scopes": f"must be a list of one or more of {', '.join(SCOPES)}",
}
OF_PYTHON = re.compile(
    r"string_(type|pattern_mismatch)|(tuple|frozen_set|model|dict)_type|too_short"
)
# In PyYAML's words: what of the file they repeat.
QUOTED = re.compile(r" '[^'<]{2,}'")


def hash_of(token: str) -> str:
    """What the file has of a token: its SHA-256, in hexadecimal digits.

    Nothing slower is needed: tokens are long and random, not words that could be guessed.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Hash = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Rate = Annotated[float, Field(ge=1e-6, le=1e12, allow_inf_nan=False)]
Burst = Annotated[float, Field(ge=1, le=1e15, allow_inf_nan=False)]


class Token(BaseModel):
    """One entry: a name for the log, the hashes of its tokens, and what they may do and use.

    Two hashes are for the time in which callers go over from one token to the next.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"\A[A-Za-z0-9_.\-]{1,64}\z")
    sha256: Annotated[tuple[Hash, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    requests_per_second: Rate | None = None
    requests_burst: Burst | None = None
    passes_per_second: Rate | None = None
    passes_burst: Burst | None = None
    batch_only: bool = False

    @model_validator(mode="after")
    def _bursts_have_rates(self) -> "Token":
        for kind in ("requests", "passes"):
            burst, rate = f"{kind}_burst", f"{kind}_per_second"
            if getattr(self, burst) is not None and getattr(self, rate) is None:
                raise ValueError(f"{burst}: says nothing without {rate}")
        return self


ENTRIES = TypeAdapter(list[Token])


def read_tokens(path: Path) -> list[Token]:
    """The entries of a file, a YAML list; raises Unusable, with a line for each mistake."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        root = loader.get_single_node()
        values = loader.construct_document(root) if root else None
    except OSError as error:
        raise Unusable(f"tokens: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unusable(f"tokens: {path}: no text in UTF-8") from None
    except RecursionError:
        raise Unusable(f"tokens: {path}: nested too deeply") from None
    except yaml.YAMLError as error:
        raise Unusable(f"tokens: {path}{_problem(error)}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        # Whatever YAML's own types stumble over, such as a day that there is not.
        raise Unusable(f"tokens: {path}: has a value that is none of its type in YAML") from None
    if root is None or not isinstance(values, list) or not values:
        raise Unusable(f"tokens: {path}: must be a list of one token or more")
    try:
        entries = ENTRIES.validate_python(values)
    except ValidationError as error:
        raise Unusable("\n".join(_mistakes(path, root, error))) from None
    if repeated := list(_repeated(path, root, entries)):
        raise Unusable("\n".join(repeated))
    return entries


class _Loader(yaml.SafeLoader):
    """Lets no key be given twice: the last one would win, and nobody would see it."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in cast("list[tuple[Node, Node]]", node.value):
            name = key.value if isinstance(key, ScalarNode) else None
            if name in seen:
                known = f"the key {name}" if name in Token.model_fields else "a key"
                words = f"{known} is given twice"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _problem(error: yaml.YAMLError) -> str:
    """Where and what; not the text around it, in which a token may stand by mistake."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return ": no YAML"
    return f":{mark.line + 1}: {QUOTED.sub('', error.problem or 'no YAML')}"


def _mistakes(path: Path, root: Node, error: ValidationError) -> Iterator[str]:
    """What is wrong in which line; never what stands there, which may be a token by mistake."""
    for mistake in error.errors():
        place = mistake["loc"]
        yield f"tokens: {path}:{_line(root, place)}: {in_words(mistake, place[1:2])}"


def in_words(mistake: ErrorDetails, place: Sequence[str | int]) -> str:
    """The key that a mistake is in, where there is one, and what is wrong."""
    if mistake["type"] == "extra_forbidden":
        # The key itself may be a token that was put in the wrong place.
        return f"has a key that is none; they are {', '.join(Token.model_fields)}"
    text = mistake["msg"].removeprefix("Value error, ")
    if OF_PYTHON.fullmatch(mistake["type"]):
        text = ALLOWED["".join(map(str, place))]
    return ": ".join([*map(str, place), text])


def _repeated(path: Path, root: Node, entries: Sequence[Token]) -> Iterator[str]:
    """Names and hashes that are there twice: nobody could tell who calls."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        for key, value in (("name", entry.name), *(("sha256", each) for each in entry.sha256)):
            if f"{key} {value}" in seen:
                yield f"tokens: {path}:{_line(root, (index, key))}: {key}: is there twice"
            seen.add(f"{key} {value}")


def _line(root: Node, place: Sequence[str | int]) -> int:
    """The line of a value, or of the nearest one around it; from 1."""
    node, line = root, root.start_mark.line
    for step in place:
        found: Node | None = None
        if isinstance(node, SequenceNode) and isinstance(step, int):
            found = cast("list[Node]", node.value)[step]
            line = found.start_mark.line
        elif isinstance(node, MappingNode):
            pairs = cast("list[tuple[Node, Node]]", node.value)
            for key, value in pairs:
                if isinstance(key, ScalarNode) and key.value == step:
                    found, line = value, key.start_mark.line
        if found is None:
            break
        node = found
    return line + 1
