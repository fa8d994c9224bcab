"""What --help-methods prints: every parameter, as the contract has it."""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import click
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from convlens.client.cli._specs import choices, form_of, short
from convlens.contract import rule_of
from convlens.contract.comments import comment_of
from convlens.contract.rules import FLOATS, INTEGERS
from convlens.contract.validation import range_text
from convlens.v1 import options_pb2

# Without the indent, which click does not count.
WIDTH = 76
# One where no line is broken.
HYPHEN = "\N{NON-BREAKING HYPHEN}"

Kinds: TypeAlias = Mapping[str, type[Message]]
NONE: Kinds = MappingProxyType({})


def method_help(several: Kinds, single: Kinds = NONE) -> str:
    """The page; options take one of `several` messages, or the parameters of a `single` one."""
    page = click.HelpFormatter(width=WIDTH)
    for option, kind in several.items():
        page.write_heading(f"{option} NAME[:PARAM=VALUE,...]")
        page.indent()
        for name, entry in described_choices(kind).items():
            write_entry(page, name, entry)
            page.write_paragraph()
        page.dedent()
    for option, kind in single.items():
        page.write_heading(f"{option} PARAM=VALUE,...")
        page.indent()
        _write_parameters(page, described(cast(Descriptor, kind.DESCRIPTOR))["parameters"])
        page.dedent()
        page.write_paragraph()
    return page.getvalue().rstrip("\n").replace(HYPHEN, "-")


def method_document(several: Kinds, single: Kinds = NONE) -> str:
    """The same as JSON."""
    choices_of = {option: described_choices(kind) for option, kind in several.items()}
    described_of = {
        option: described(cast(Descriptor, kind.DESCRIPTOR)) for option, kind in single.items()
    }
    return json.dumps({**choices_of, **described_of})


def described_choices(kind: type[Message]) -> dict[str, dict[str, Any]]:
    """What can be chosen, by the name that the command takes."""
    fields = cast(Descriptor, kind.DESCRIPTOR).fields
    return {short(field.name): described(cast(Descriptor, field.message_type)) for field in fields}


def described(kind: Descriptor) -> dict[str, Any]:
    """One kind of message: title, paper, what it is, and its parameters."""
    info = kind.GetOptions().Extensions[options_pb2.method]
    return {
        "title": info.title or kind.name,
        "paper": info.paper,
        "about": comment_of(kind.name),
        "parameters": {short(field.name): _parameter(kind, field) for field in kind.fields},
    }


def _parameter(kind: Descriptor, field: FieldDescriptor) -> dict[str, Any]:
    rule = rule_of(field)
    about: dict[str, Any] = {
        "about": _shortened(comment_of(f"{kind.name}.{field.name}"), kind),
        "default": _default(field),
        "form": _form(field),
        "unit": rule.unit,
        "range": range_text(rule),
        "paper": rule.paper,
        "required": rule.required,
    }
    if field.enum_type is not None:
        enum = field.enum_type
        about["choices"] = {
            name: comment_of(f"{enum.name}.{enum.values_by_number[number].name}")
            for name, number in choices(field).items()
        }
    return about


def _shortened(text: str, kind: Descriptor) -> str:
    """The text with the values of enums as the command takes them."""
    for field in kind.fields:
        if field.enum_type is not None:
            for name, number in choices(field).items():
                spelt = field.enum_type.values_by_number[number].name
                text = text.replace(spelt, f"{short(field.name)}={name}")
    return text


def _form(field: FieldDescriptor) -> str:
    """What stands for the value where there is no default."""
    if field.message_type is not None:
        return form_of(field.message_type)
    if field.cpp_type in INTEGERS:
        return "N"
    return "X" if field.cpp_type in FLOATS else "NAME"


def _default(field: FieldDescriptor) -> str | None:
    """The default as the command writes it; None where the contract names none."""
    text = rule_of(field).default
    if field.enum_type is not None and text:
        number = field.enum_type.values_by_name[text].number
        return next(name for name, value in choices(field).items() if value == number)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return text or "false"
    return text or None


def write_entry(page: click.HelpFormatter, name: str, entry: Mapping[str, Any]) -> None:
    """Writes what is `described` of one kind of message, under the name that it has."""
    page.write(f"{' ' * page.current_indent}{click.style(name, bold=True)}: {entry['title']}\n")
    page.indent()
    page.write_text(f"{entry['about']} {entry['paper']}.")
    _write_parameters(page, entry["parameters"], entry["paper"])
    page.dedent()


def _write_parameters(
    page: click.HelpFormatter, parameters: Mapping[str, Mapping[str, Any]], paper: str = ""
) -> None:
    rows = [
        (f"{name}={about['default'] or about['form']}", " ".join(_words(about, paper)))
        for name, about in parameters.items()
    ]
    if rows:
        page.write_dl(rows, col_max=26)


def _words(about: Mapping[str, Any], paper: str) -> Iterator[str]:
    yield about["about"]
    if about["required"]:
        yield "Must be given."
    if names := about.get("choices"):
        yield f"One of {', '.join(names).replace('-', HYPHEN)}."
    if about["range"]:
        yield f"{about['range'][0].upper()}{about['range'][1:]}."
    elif about["unit"]:
        yield f"In {about['unit']}."
    if about["paper"] not in ("", paper):
        yield f"{about['paper']}."
