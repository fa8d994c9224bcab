"""The method reference: all ways to explain, judge, localise, draw, attack and synthesize."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from convlens.contract.attack_cost import attack_cost
from convlens.contract.comments import comment_of
from convlens.contract.cost import method_passes
from convlens.contract.measures import WITHOUT_TARGET, misfit
from convlens.contract.rules import rule_of, with_defaults
from convlens.contract.synthesis_cost import synthesis_cost
from convlens.contract.validation import range_text
from convlens.v1 import adversarial_pb2, image_pb2, network_pb2, options_pb2, synthesis_pb2
from convlens.v1.attack_methods_pb2 import AttackMethod
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.explanation_pb2 import Rendering
from convlens.v1.quality_pb2 import Localization, QualityMeasure
from convlens.v1.synthesis_methods_pb2 import SynthesisMethod

#: Where the picture of a method is, beside the page.
PICTURE = "pictures/methods/{name}.png"
# Of the network's input for which passes are counted.
SIDE = 224
# Of the network for which those of attacks are.
CLASSES = 1000
# What a parameter without a range may be.
KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a name",
    FieldDescriptor.CPPTYPE_UINT32: "a number from 0",
}
ARXIV = re.compile(r"arXiv:([\d.]*\d)")

HEAD = f"""# Methods

Every method of Explain, every measure of quality, how maps are searched and drawn, every
attack, and every way to make a picture: with all parameters, their defaults, what they may be, and
the papers that defaults and ranges come from. How to ask for them and how to read what comes back
is told in [explanations](explanations.md), [attacks](attacks.md) and [synthesis](synthesis.md).

The SDK takes the messages by their names, `Occlusion(window=32, fill=Fill.FILL_BLUR)`; the
command takes them short, `--method occlusion:window=32,fill=blur`. What is left out has its
default. Passes are those of one image through the network, at most, with all defaults and an
input of {SIDE} x {SIDE} pixels. The pictures show the bundled network, whose input has 128 x 128.

This page is written from the contract in `convlens/v1/*.proto` by
`python -m convlens.contract.pages docs`, and its pictures by `docs/make_pictures.py`."""


def methods_page() -> str:
    """The page."""
    methods, measures = choices_of(ExplanationMethod), choices_of(QualityMeasure)
    attacks, makers = choices_of(AttackMethod), choices_of(SynthesisMethod)
    others = [kind.DESCRIPTOR for kind in (Localization, Rendering)]
    blocks = [
        HEAD,
        "## Explanations",
        _overview(ExplanationMethod, _passes, "method", "what it shows"),
        *(block for field in methods for block in _method(field)),
        "## Measures of quality",
        *(block for field in measures for block in _measure(field)),
        *(block for kind in others for block in ("## " + _title(kind), *_described(kind))),
        "## Attacks",
        f"Passes are those on a network of {CLASSES} classes; most attacks end earlier.",
        _overview(AttackMethod, _attack_passes, "attack", "what it does"),
        *(block for field in attacks for block in _attack(field)),
        "## Synthesis",
        f"Passes are those of one picture, or of all {CLASSES} classes together where evolution "
        "makes them at once.",
        _overview(SynthesisMethod, _maker_passes, "method", "what it makes"),
        *(block for field in makers for block in _maker(field)),
        *(
            block
            for kind in _own_parts(map(_kind, makers))
            for block in (f"### {kind.name}", *_described(kind))
        ),
        "## Values",
        "What parameters may be that are chosen by name: the SDK takes the value, the command the "
        "short form.",
        *(
            block
            for enum in _enums(_all_kinds([*methods, *measures], others, [*attacks, *makers]))
            for block in _values(enum)
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def choices_of(kind: type[Message]) -> Sequence[FieldDescriptor]:
    """The choices of a message that is one of several, in their order."""
    return cast(Descriptor, kind.DESCRIPTOR).fields


def _kind(field: FieldDescriptor) -> Descriptor:
    return cast(Descriptor, field.message_type)


def _title(kind: Descriptor) -> str:
    return kind.GetOptions().Extensions[options_pb2.method].title or kind.name


def _filled(kind: type[Message], field: FieldDescriptor) -> Any:
    """A choice with all of its defaults."""
    return with_defaults(kind(**{field.name: GetMessageClass(_kind(field))()}))


def _overview(
    kind: type[Message], passes: Callable[[Any], tuple[str, str]], what: str, does: str
) -> str:
    """The choices of a message with their passes, as links to what is told of them below."""
    rows = [
        (
            f"[{_title(_kind(field))}](#{_anchor(_title(_kind(field)))})",
            _about(field),
            *passes(_filled(kind, field)),
        )
        for field in choices_of(kind)
    ]
    return _table([what, does, "forward passes", "backward passes"], rows)


def _passes(method: ExplanationMethod) -> tuple[str, str]:
    size = network_pb2.InputGeometry(height=SIDE, width=SIDE)
    passes = method_passes(method, network_pb2.Network(input=size))
    return f"{passes.forward}", f"{passes.backward}"


def _attack_passes(method: AttackMethod) -> tuple[str, str]:
    request = adversarial_pb2.AttackRequest(images=[image_pb2.Image()], method=method)
    cost = attack_cost(request, CLASSES)
    return f"{cost.forward_passes}", f"{cost.backward_passes}"


def _attack(field: FieldDescriptor) -> Iterator[str]:
    title = _title(_kind(field))
    yield f"### {title}"
    picture = f"![{title} on pictures of the bundled network]({PICTURE.format(name=field.name)})"
    yield from _described(_kind(field), _about(field), _spelt(field, "--method"), picture)


def _maker_passes(method: SynthesisMethod) -> tuple[str, str]:
    if method.HasField("fooling"):
        method.fooling.gradient.SetInParent()
        method.fooling.targets.add()
    request = with_defaults(synthesis_pb2.SynthesizeRequest(method=method))
    cost = synthesis_cost(request, CLASSES)
    return f"{cost.forward_passes}", f"{cost.backward_passes}"


def _maker(field: FieldDescriptor) -> Iterator[str]:
    title = _title(_kind(field))
    yield f"### {title}"
    picture = f"![{title} for the bundled network]({PICTURE.format(name=field.name)})"
    yield from _described(
        _kind(field), _about(field), f"`{_kind(field).name}()` in the SDK.", picture
    )


def _own_parts(kinds: Iterable[Descriptor]) -> list[Descriptor]:
    """The messages that only syntheses have within their own, each once."""
    return list({part.full_name: part for kind in kinds for part in _parts(kind)}.values())


def _parts(kind: Descriptor) -> Iterator[Descriptor]:
    inside = (field.message_type for field in kind.fields if field.message_type)
    return (each for each in inside if each.file is kind.file)


def _all_kinds(
    first: Sequence[FieldDescriptor],
    others: Sequence[Descriptor],
    last: Sequence[FieldDescriptor],
) -> list[Descriptor]:
    """The messages whose parameters are on the page."""
    ends = [_kind(field) for field in last]
    return [*map(_kind, first), *others, *ends, *_own_parts(ends)]


def _method(field: FieldDescriptor) -> Iterator[str]:
    title = _title(_kind(field))
    yield f"### {title}"
    picture = f"![{title} on pictures of the bundled network]({PICTURE.format(name=field.name)})"
    free = " It knows no targets." if field.name in WITHOUT_TARGET else ""
    yield from _described(_kind(field), _about(field), _spelt(field, "--method") + free, picture)


def _measure(field: FieldDescriptor) -> Iterator[str]:
    yield f"### {_title(_kind(field))}"
    words = f"{_spelt(field, '--measure')} It judges {_judged(field)}."
    yield from _described(_kind(field), _about(field), words)


def _judged(field: FieldDescriptor) -> str:
    """The methods that a measure has something to say about."""
    measure = _filled(QualityMeasure, field)
    fits = {
        _title(_kind(other)): not misfit(measure, _filled(ExplanationMethod, other))
        for other in choices_of(ExplanationMethod)
    }
    good = [title for title, fit in fits.items() if fit]
    bad = [title for title, fit in fits.items() if not fit]
    return _listed(good) if len(good) < len(bad) else f"all methods but {_listed(bad)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _about(field: FieldDescriptor) -> str:
    """What stands over one of several choices."""
    return comment_of(f"{cast(Descriptor, field.containing_type).name}.{field.name}")


def _spelt(field: FieldDescriptor, option: str) -> str:
    """How the SDK and the command call a choice."""
    return f"`{_kind(field).name}()` in the SDK, `{option} {_short(field.name)}` in the command."


def _short(name: str) -> str:
    return name.lower().replace("_", "-")


def _described(kind: Descriptor, first: str = "", *blocks: str) -> Iterator[str]:
    """What a message is, its paper, more to say, and its parameters."""
    paper = kind.GetOptions().Extensions[options_pb2.method].paper
    words = (f"**{first}**" if first else "", comment_of(kind.name), f"{paper}." if paper else "")
    yield _linked(" ".join(filter(None, words)))
    yield from blocks
    if kind.fields:
        yield _parameters(kind)


def _linked(text: str) -> str:
    """The text, with what is on arXiv as a link."""
    return ARXIV.sub(r"[\g<0>](https://arxiv.org/abs/\1)", text)


def _parameters(kind: Descriptor) -> str:
    rows = [
        (
            f"`{field.name}`",
            _default(field),
            _allowed(field),
            rule_of(field).unit,
            comment_of(f"{kind.name}.{field.name}"),
            _linked(rule_of(field).paper),
        )
        for field in kind.fields
    ]
    return _table(["parameter", "default", "may be", "unit", "what it is", "paper"], rows)


def _default(field: FieldDescriptor) -> str:
    rule = rule_of(field)
    if rule.required:
        return "none: must be given"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return f"`{rule.default or 'false'}`"
    return f"`{rule.default}`" if rule.default else "–"


def _allowed(field: FieldDescriptor) -> str:
    """The range, or the kind of value."""
    if field.enum_type is not None:
        return f"[{field.enum_type.name}](#{_anchor(field.enum_type.name)})"
    if field.message_type is not None:
        return f"{field.message_type.name}"
    rule = options_pb2.FieldRule()
    rule.CopyFrom(rule_of(field))
    rule.ClearField("unit")
    return range_text(rule) or KINDS[field.cpp_type]


def _enums(kinds: Iterable[Descriptor]) -> Iterable[EnumDescriptor]:
    """The enums of all parameters, each once, in the order in which they come."""
    fields = (field for kind in kinds for field in kind.fields)
    found = {field.enum_type.name: field.enum_type for field in fields if field.enum_type}
    return found.values()


def _values(enum: EnumDescriptor) -> Iterator[str]:
    yield f"### {enum.name}"
    yield comment_of(enum.name)
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    rows = [
        (
            f"`{value.name}`",
            f"`{_short(value.name.removeprefix(prefix))}`",
            comment_of(f"{enum.name}.{value.name}"),
        )
        for value in enum.values
        if value.number
    ]
    yield _table(["value", "short", "what it is"], rows)


def _anchor(title: str) -> str:
    """The name that a heading has as the target of a link."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that are empty throughout."""
    kept = [n for n in range(len(titles)) if any(row[n] for row in rows)]
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line[n] for n in kept) + " |" for line in lines)
