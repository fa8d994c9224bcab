"""Reads scenarios, and says what is wrong in them, and where."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from convlens.loadtest.scenario.model import Scenario

SHIPPED = files("convlens.loadtest.scenario") / "shipped"
# Problems that one error tells of.
MOST = 8
ENDLESS = "is no scenario: it is nested too deeply, or holds itself by an alias."
# What pydantic calls the branches of a union, in the path of an error.
BRANCHES = frozenset({"a rate", "a ramp", "dict[str,any]", "list[dict[str,any]]"})


class BadScenario(Exception):
    """A scenario that cannot be run; its text says why, in lines."""


@dataclass(frozen=True, slots=True)
class Source:
    """A scenario's text, what it is called, and the folder that its paths begin at."""

    name: str
    text: str
    folder: Path


def shipped() -> list[str]:
    """The names of the scenarios that come with the command."""
    names = (each.name for each in SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def text_of(name: str) -> Source:
    """The text of a file, or of a scenario that comes with the command."""
    if name in shipped() and not Path(name).is_file():
        return Source(name, (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), Path())
    path = Path(name)
    try:
        return Source(name, path.read_text(encoding="utf-8"), path.parent)
    except UnicodeDecodeError:
        raise BadScenario(f"{name} is no text in UTF-8.") from None
    except OSError as error:
        raise BadScenario(_missing(name, error)) from error


def document_of(source: Source) -> dict[str, Any]:
    """The YAML of a text; BadScenario where it is none, or has no keys."""
    try:
        document: object = yaml.safe_load(source.text)
    except yaml.YAMLError as error:
        raise BadScenario(f"{source.name} is no YAML: {_yaml_words(error)}.") from error
    except RecursionError as error:
        raise BadScenario(f"{source.name} {ENDLESS}") from error
    if not isinstance(document, dict):
        raise BadScenario(
            f"{source.name} is no scenario: it must have keys, at least calls and phases; "
            "'convlens-loadtest show smoke' prints one."
        )
    return cast(dict[str, Any], document)


def read_scenario(source: Source) -> Scenario:
    """The scenario of a text; BadScenario says what is wrong, and where."""
    document = document_of(source)
    try:
        return _checked(source, document)
    except RecursionError as error:
        raise BadScenario(f"{source.name} {ENDLESS}") from error


def _checked(source: Source, document: dict[str, Any]) -> Scenario:
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        problems = list(_problems(error, source.text))
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        raise BadScenario(
            "\n  ".join([f"{source.name} is not a valid scenario:", *problems[:MOST], *more])
        ) from error


def _missing(name: str, error: OSError) -> str:
    if name and not isinstance(error, FileNotFoundError):
        return f"{name} cannot be read: {error.strerror}."
    near = difflib.get_close_matches(name, shipped(), 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return (
        f"There is no scenario {name!r}: no such file, and those that come with the command are "
        f"{', '.join(shipped())}.{meant}"
    )


def _yaml_words(error: yaml.YAMLError) -> str:
    mark: Any = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or ' '.join(str(error).split())}"


def _problems(error: ValidationError, text: str) -> Iterator[str]:
    lines = _lines(text)
    for each in error.errors(include_url=False):
        path = [part for part in each["loc"] if part not in BRANCHES]
        # The nearest place that is written down: what is missing has no line.
        line = next(
            (lines[key] for n in range(len(path), -1, -1) if (key := _key(path[:n])) in lines), 1
        )
        where = _key(path) or "scenario"
        yield f"line {line}, {where}: {_words(each)}"


def _words(each: ErrorDetails) -> str:
    kind = each["type"]
    message = each["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _keys_at(each["loc"][:-1])
        near = difflib.get_close_matches(str(each["loc"][-1]), known, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"there is no such key; keys are {', '.join(known)}{meant}"
    if kind == "missing":
        return "it is missing"
    if kind == "string_pattern_mismatch":
        return "names begin with a letter, and have letters, digits, '-' and '_'"
    given: Any = each.get("input")
    plain = isinstance(given, str | int | float | bool) and kind != "value_error"
    return f"{message}, and is {given!r}" if plain else message


def _keys_at(path: Sequence[str | int]) -> list[str]:
    """The keys that a part of a scenario may have."""
    from convlens.loadtest.scenario.reference import model_at

    model = model_at([part for part in path if part not in BRANCHES])
    return [field.alias or name for name, field in model.model_fields.items()]


def _lines(text: str) -> dict[str, int]:
    """The line of every key, by its path."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, path: list[str | int]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value)
                found.setdefault(_key([*path, name]), key.start_mark.line + 1)
                walk(value, [*path, name])
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                found.setdefault(_key([*path, number]), value.start_mark.line + 1)
                walk(value, [*path, number])

    compose: Any = yaml.compose
    walk(compose(text, Loader=yaml.SafeLoader), [])
    return found


def _key(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)
