"""Makes pages that are looked at by themselves: one file with its style, script and data."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

FOLDER = files("convlens.client.studies") / "pages"


def page(name: str, **values: object) -> str:
    """The page of a template, with base.css, NAME.css and NAME.js in it; values are escaped.

    What may run there is this script alone, by its hash: names of files and classes cannot.
    """
    script = text_of(f"{name}.js")
    return (
        _environment()
        .get_template(f"{name}.html.j2")
        .render(
            style=text_of("base.css") + text_of(f"{name}.css"),
            script=script,
            script_hash=hash_of(script),
            **values,
        )
    )


def hash_of(script: str) -> str:
    """What a content security policy calls a script that stands in the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def text_of(name: str) -> str:
    """A file that stands beside the templates."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    return Environment(
        loader=FunctionLoader(text_of),
        # Labels and names of files are whatever somebody wrote there.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
