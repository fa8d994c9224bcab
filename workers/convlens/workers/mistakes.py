"""What is wrong with a configuration, in words that say what is allowed."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from convlens.workers.yaml_file import ConfigError, YamlFile

MAX_SHOWN = 60
MAX_NAMES = 10


def raise_mistakes(source: YamlFile, model: type[BaseModel], error: ValidationError | None) -> None:
    """Raises ConfigError with every mistake of the file, in the order of their lines."""
    found = [(line, f"the key {key} is given twice") for line, key in source.repeated]
    for mistake in error.errors() if error else ():
        place = mistake["loc"]
        name = ".".join(str(step) for step in place)
        words = _in_words(mistake, model)
        found.append((source.line(place), f"{name + ': ' if name else ''}{words}"))
    if found:
        lines = [f"{source.path}:{line}: {text}" for line, text in sorted(found)]
        raise ConfigError("\n".join(lines))


def nearest(wrong: str, known: Sequence[str], *, all_of: str = "") -> str:
    """The known names that are closest to a wrong one, in words; where none is, the first of all.

    `all_of` says instead what is known, where that is better told than listed.
    """
    if close := get_close_matches(wrong, known, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(close)}?"
    if all_of:
        return f"there are: {all_of}"
    more = len(known) - MAX_NAMES
    rest = f" … and {more} more" if more > 0 else ""
    return f"there are: {', '.join(known[:MAX_NAMES])}{rest}"


def _in_words(mistake: ErrorDetails, model: type[BaseModel]) -> str:
    make = WORDS.get(mistake["type"])
    if make is not None:
        return make(mistake, model)
    text = mistake["msg"].removeprefix("Value error, ")
    if text.startswith("Input should"):
        return f"must{text.removeprefix('Input should')} (given: {_shown(mistake['input'])})"
    return text


def _unknown_key(mistake: ErrorDetails, model: type[BaseModel]) -> str:
    *around, key = mistake["loc"]
    owner = _model_at(model, around)
    allowed = sorted(owner.model_fields) if owner else []
    close = get_close_matches(str(key), allowed, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"unknown key; {guess}Allowed: {', '.join(allowed)}"


def _mapping(mistake: ErrorDetails, model: type[BaseModel]) -> str:
    owner = _model_at(model, mistake["loc"]) or model
    keys = ", ".join(sorted(owner.model_fields))
    return f"must be a mapping with keys of: {keys} (given: {_shown(mistake['input'])})"


def _text(mistake: ErrorDetails, _: type[BaseModel]) -> str:
    return f"must be text; write it in quotes (given: {_shown(mistake['input'])})"


WORDS: Mapping[str, Callable[[ErrorDetails, type[BaseModel]], str]] = {
    "extra_forbidden": _unknown_key,
    "model_type": _mapping,
    "string_type": _text,
    "missing": lambda _, __: "must be given",
}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the mapping at a place, through lists."""
    for step in place:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
