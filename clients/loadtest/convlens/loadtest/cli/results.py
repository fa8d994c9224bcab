"""Reads results that runs have written."""

import json
from pathlib import Path
from typing import Any, cast

import click
from pydantic import ValidationError

from convlens.client._text import shown
from convlens.loadtest.results.model import FORMAT, Result


def read_result(path: Path) -> Result:
    """The result in a file; ClickException where it has none."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.ClickException(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.ClickException(f"{shown(path)} is no JSON: {error}.") from error
    form = cast(dict[str, Any], document).get("format") if isinstance(document, dict) else None
    if form != FORMAT:
        raise click.ClickException(
            f"{shown(path)} has no result of this command: its format is {form!r}, and not "
            f"{FORMAT!r}. 'convlens-loadtest SCENARIO --output FILE' writes one."
        )
    try:
        return Result.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        words = problem["msg"].removeprefix("Value error, ")
        raise click.ClickException(f"{shown(path)} is damaged: {where}: {words}.") from error
