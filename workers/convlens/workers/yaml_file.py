"""A YAML file that knows the line of every value in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

# Keys and indices from the root to a value: ("networks", 0, "name").
Place: TypeAlias = Sequence[str | int]


class ConfigError(Exception):
    """The configuration is wrong; the message has one line for each mistake."""


class YamlFile:
    """The values of a file of one YAML document, and where they stand.

    Keys that are given twice, which YAML itself would let the last one win, are in `repeated`:
    the line and the key. Raises ConfigError where the file cannot be read or is no YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root: Node | None = None
        self.repeated: list[tuple[int, str]] = []
        # An empty file has no keys.
        self.values: object = dict[str, object]()
        try:
            # With or without the mark that some editors put first.
            self._parse(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: no text in UTF-8: {error.reason}") from None
        except yaml.YAMLError as error:
            raise ConfigError(_no_yaml(path, error)) from None
        except RecursionError:
            raise ConfigError(f"{path}: nested too deeply") from None

    def _parse(self, text: str) -> None:
        loader = yaml.SafeLoader(text)
        try:
            self._root = loader.get_single_node()
            if self._root is not None:
                # Before the values are made: merging (<<) rewrites the nodes.
                self.repeated = sorted(_repeated(self._root, set()))
                self.values = cast(object, loader.construct_document(self._root))  # pyright: ignore[reportUnknownMemberType]
        finally:
            loader.dispose()

    def line(self, place: Place) -> int:
        """The line of the value at a place, or of the nearest one around it; from 1."""
        node, line = self._root, 1
        for step in place:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def at(self, place: Place) -> str:
        """A place as editors and people find it: "networks.yaml:3"."""
        return f"{self.path}:{self.line(place)}"


def _child(node: Node | None, step: str | int) -> tuple[int, Node] | None:
    """The line where a child begins, which for a value is that of its key, and the child."""
    if isinstance(node, MappingNode):
        # From the end: what is written out wins over what was merged.
        for key, value in reversed(cast("list[tuple[Node, Node]]", node.value)):
            if isinstance(key, ScalarNode) and key.value == str(step):
                return _line(key), value
    if isinstance(node, SequenceNode) and isinstance(step, int):
        children = cast("list[Node]", node.value)
        if step < len(children):
            return _line(children[step]), children[step]
    return None


def _repeated(node: Node, seen: set[int]) -> Iterator[tuple[int, str]]:
    """Keys that a mapping has twice; what an alias repeats is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        for child in cast("list[Node]", node.value):
            yield from _repeated(child, seen)
    if isinstance(node, MappingNode):
        keys: set[str] = set()
        for key, value in cast("list[tuple[Node, Node]]", node.value):
            if isinstance(key, ScalarNode):
                if key.value in keys:
                    yield _line(key), key.value
                keys.add(key.value)
            yield from _repeated(value, seen)


def _line(node: Node) -> int:
    return node.start_mark.line + 1


def _no_yaml(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f"{path}: no YAML: {' '.join(str(error).split())}"
    problem = error.problem or "it cannot be read"
    if r"'\t'" in problem:
        problem = "a tab where YAML takes spaces alone"
    context = f" {error.context}" if error.context else ""
    return f"{path}:{mark.line + 1}: no YAML: {problem}{context}"
