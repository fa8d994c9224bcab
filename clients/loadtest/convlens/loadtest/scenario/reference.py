"""Writes docs/scenarios.md, the reference of scenarios, from their model.

python -m convlens.loadtest.scenario.reference docs
"""

import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from convlens.loadtest.scenario.model import (
    Call,
    Closed,
    Connections,
    Open,
    Phase,
    Pictures,
    Ramp,
    Retries,
    Scenario,
    Steps,
    Tenant,
)
from convlens.loadtest.scenario.values import Rate

TITLES: dict[type[BaseModel], str] = {
    Scenario: "Scenario",
    Call: "Calls",
    Pictures: "Pictures",
    Tenant: "Tenants",
    Phase: "Phases",
    Open: "Open loops",
    Closed: "Closed loops",
    Steps: "Steps",
    Ramp: "Ramps",
    Connections: "Connections",
    Retries: "Retries",
}
HEAD = """# Scenarios

What a scenario of [`convlens-loadtest`](loadtest.md) may say. This page is written from the code
by `python -m convlens.loadtest.scenario.reference docs`. A **time** is a number of seconds, or a
text with a unit: `250ms`, `2s`, `5m`, `1h`. A **rate** is requests a second, or a part of the peak
that steps have found: `0.5 * peak`. Limits are told of in [the load lab](loadtest.md#limits). An
unknown key is an error, which names those that there are.
"""


def scenarios_page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for model in TITLES for line in _section(model))])


def model_at(path: Sequence[str | int]) -> type[BaseModel]:
    """The part of a scenario that a path leads to; the nearest one above where it leads nowhere."""
    model: type[BaseModel] = Scenario
    for part in path:
        field = next(
            (f for n, f in model.model_fields.items() if part in (n, f.alias)),
            None,
        )
        below = _models(field.annotation) if field else []
        # What is no key of the model is a name or a number within a collection of them.
        model = below[-1] if below else model
    return model


def _section(model: type[BaseModel]) -> Iterator[str]:
    yield f"## {TITLES[model]}\n"
    yield f"{(model.__doc__ or '').strip()}\n"
    yield "| key | what it takes | default | what it says |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        cells = (f"`{field.alias or name}`", _taken(field), _default(field), field.description)
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _taken(field: FieldInfo) -> str:
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin = get_origin(annotation)
    parts: tuple[Any, ...] = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _kind(parts[0], annotation.__metadata__)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in parts if part is not type(None))
    if origin is dict:
        return f"{_kind(parts[1])} by name" if parts[1] is not Any else "keys of the message"
    if origin is list:
        return f"list of {_kind(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(_kind(part) for part in parts)}]"
    if origin is not None and parts and all(isinstance(part, str) for part in parts):
        return ", ".join(f"`{part}`" for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{TITLES[annotation].lower()}](#{TITLES[annotation].lower().replace(' ', '-')})"
    if annotation is Rate:
        return "rate"
    if annotation is float and any(getattr(m, "func", None) is not None for m in metadata):
        return "time"
    plain = {str: "text", bool: "`true` or `false`", int: "whole number", float: "number"}
    return plain[annotation] + _range(metadata)


def _range(metadata: Sequence[Any]) -> str:
    bounds = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    flat = [m for each in metadata for m in (getattr(each, "metadata", None) or [each])]
    words = [
        form.format(f"{getattr(each, key):,}")
        for key, form in bounds.items()
        for each in flat
        if getattr(each, key, None) is not None
    ]
    return f" {' '.join(words)}" if words else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value in ({}, [], ""):
        return "–"
    if isinstance(value, BaseModel):
        return "see there"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(cast(tuple[object, ...], value))}`"
    return f"`{value}`"


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts: list[Any] = list(get_args(annotation))
    return [model for part in parts for model in _models(part)]


if __name__ == "__main__":
    Path(sys.argv[1], "scenarios.md").write_text(scenarios_page(), encoding="utf-8")
