"""The templates of pages, and the styles that become a part of them."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from convlens.client.cli._report_words import number, percent

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = files("convlens.client.cli") / "page"


def rendered(template: str, **values: object) -> str:
    """What a template makes of the values; texts are escaped."""
    return _environment().get_template(template).render(**values)


def text_of(name: str) -> str:
    """A file that stands beside the templates."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    # Takes some 30 ms to import, which only who makes a page shall wait for.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment: Any = Environment(
        loader=FunctionLoader(text_of),
        # Labels and names of files are whatever somebody wrote there.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment
