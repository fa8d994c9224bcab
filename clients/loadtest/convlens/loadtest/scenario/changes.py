"""Changes a scenario by what the command line says: `phases.overload.duration=10s`."""

from collections.abc import Sequence
from typing import Any, cast

import yaml

from convlens.loadtest.scenario.reading import BadScenario, Source, document_of


def changed(source: Source, changes: Sequence[str]) -> str:
    """The scenario as YAML with other values; BadScenario where there is no such place."""
    document = document_of(source)
    for change in changes:
        path, mark, value = change.partition("=")
        if not mark or not path:
            raise BadScenario(f"{change!r} is no change; write KEY=VALUE, as deadline=5s.")
        _set(document, path.strip().split("."), _value(change, value), change)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _value(change: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadScenario(f"{change!r}: {text!r} is no value of YAML.") from error


def _set(document: object, path: Sequence[str], value: object, change: str) -> None:
    *above, last = path
    place = document
    for key in above:
        place = _within(place, key, change)
    if isinstance(place, dict):
        cast(dict[str, Any], place)[last] = value
    else:
        items = _items(place, change)
        items[_index(items, last, change)] = value


def _within(place: object, key: str, change: str) -> object:
    if isinstance(place, dict):
        # What was left out in the scenario may be said here.
        return cast(dict[str, Any], place).setdefault(key, {})
    items = _items(place, change)
    return items[_index(items, key, change)]


def _items(place: object, change: str) -> list[Any]:
    if not isinstance(place, list):
        raise BadScenario(f"{change!r}: there is nothing within a single value.")
    return cast(list[Any], place)


def _index(items: Sequence[Any], key: str, change: str) -> int:
    """The place of an item by its number, or by its name."""
    names = [_name(item) for item in items]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    known = ", ".join(str(name) for name in names if name) or f"0 to {len(items) - 1}"
    raise BadScenario(f"{change!r}: there is no {key!r}; there are {known}.")


def _name(item: object) -> str | None:
    name = cast(dict[str, object], item).get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None
