"""What --set says of a method of synthesis, and what --help-methods says of what can be set."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.shell_completion import CompletionItem
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from convlens.client import methods
from convlens.client.cli._method_help import described, write_entry
from convlens.client.cli._specs import Place, assign, short
from convlens.contract.rules import kind_of, rule_of, title_of
from convlens.v1 import synthesis_pb2 as pb

if TYPE_CHECKING:
    TextType: TypeAlias = click.ParamType[str]
else:
    # They have no type parameters before click 8.4.
    TextType = click.ParamType

# Parts of a method whose parameters are named as its own are.
PARTS = frozenset({"Priors", "FoolingGradient", "FoolingDirect", "FoolingCppn"})
# What --by names.
ENCODINGS: Mapping[str, Any] = {
    "gradient": methods.Fooling(gradient=methods.FoolingGradient()),
    "direct": methods.Fooling(direct=methods.FoolingDirect()),
    "cppn": methods.Fooling(cppn=methods.FoolingCppn()),
}
WIDTH = 76
PREVIEW = rule_of(pb.SynthesizeRequest.DESCRIPTOR.fields_by_name["preview_every"])


class Setting(TextType):
    """PARAM=VALUE,... of one of several methods."""

    name = "setting"

    def __init__(self, *several: Message) -> None:
        self._several = several

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so, behind the settings that are there already."""
        before, comma, begun = incomplete.rpartition(",")
        names = dict.fromkeys(name for method in self._several for name in settings_of(method))
        return [CompletionItem(f"{before}{comma}{n}=") for n in names if n.startswith(begun)]


def settings_of(method: Message) -> dict[str, Place]:
    """The parameters that --set takes, by their short names."""
    found: dict[str, Place] = {}
    for field in kind_of(method).fields:
        if field.message_type is None:
            if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
                found[short(field.name)] = method, field
        elif field.message_type.name in PARTS and _is_chosen(method, field):
            found.update(settings_of(getattr(method, field.name)))
    return found


def _is_chosen(method: Message, field: FieldDescriptor) -> bool:
    return field.containing_oneof is None or method.HasField(field.name)


def set_parameters(method: Message, texts: Sequence[str]) -> None:
    """Gives the method the values of PARAM=VALUE,...; ValueError says what is wrong."""
    assign(",".join(texts), settings_of(method), f"parameter of {title_of(method).lower()}")


def settings_help(several: Mapping[str, Message]) -> str:
    """The page of --help-methods: what can be set of each method, by its name."""
    page = click.HelpFormatter(width=WIDTH)
    page.write_heading("--set PARAM=VALUE,...")
    page.indent()
    for name, method in several.items():
        write_entry(page, name, _described(method))
        page.write_paragraph()
    page.dedent()
    return page.getvalue().rstrip("\n")


def settings_document(several: Mapping[str, Message]) -> str:
    """The same as JSON."""
    return json.dumps({name: _described(method) for name, method in several.items()})


def _described(method: Message) -> dict[str, Any]:
    """Title, paper and words of a method and of its encoding, and all that can be set."""
    own = described(kind_of(method))
    places = settings_of(method)
    parameters = {
        name: described(kind_of(holder))["parameters"][name] for name, (holder, _) in places.items()
    }
    words = [own["about"]]
    if isinstance(method, methods.Fooling):
        encoding: Message = getattr(method, method.WhichOneof("encoding") or "")
        words.append(described(kind_of(encoding))["about"])
    return {**own, "about": " ".join(words), "parameters": parameters}
