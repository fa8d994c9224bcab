"""Finds what in a network a rule has nothing to say about."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from convlens.workers.anatomy import Reading, Tap, Trace
from convlens.workers.anatomy.naming import SCRIPTED
from convlens.workers.body import Body
from convlens.workers.rectifiers.rules import Rule, Ruled
from convlens.workers.rectifiers.watch import Place, Watch


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule holds on a network.

    It does where there are no `obstacles`: names of the layers that it has no answer for. `notes`
    are what a reader of its maps must know.
    """

    obstacles: tuple[str, ...]
    notes: tuple[str, ...]


def inspect(body: Body, rule: Rule, upto: int | None) -> Verdict:
    """Looks at every operation of one forward pass, to its end or to the end of the call `upto`.

    The rule holds where, besides rectifiers that it was applied to, there are only operations that
    are linear in what comes from the picture, maxima, gates and normalisations; whatever else takes
    part is an obstacle, a scripted rectifier among others. The parameters must be frozen. Raises
    Unsteady where the module makes other calls than when it was traced.
    """
    watch = _watched(body, rule, upto)
    names = (name for place in watch.obstacles() for name in _names(body.trace, place))
    return Verdict(tuple(dict.fromkeys(names)), watch.notes())


def reach(body: Body, rule: Rule) -> list[bool]:
    """For each call of a network whether the rule holds up to its end; raises as `inspect`."""
    watch = _watched(body, rule, None)
    return [not watch.obstacles(call) for call in range(len(body.trace.calls))]


def _watched(body: Body, rule: Rule, upto: int | None) -> Watch:
    trace = body.trace
    noise = torch.rand(1, *trace.image, generator=torch.Generator().manual_seed(0))
    end: dict[int, Tap] = {} if upto is None else {upto: lambda output: None}
    with torch.inference_mode(False), torch.enable_grad():
        pixels = body.place(noise).requires_grad_()
        ruled = Ruled(rule)
        watch = Watch(ruled, rule, trace, pixels)
        with ruled, watch:
            Reading(trace, end, stop=bool(end)).run(body.module, pixels)
    return watch


def _names(trace: Trace, place: Place) -> Iterator[str]:
    """What stands at a place, as GetNetwork names it; out of sight, all that is scripted."""
    if place.seen:
        yield _layer(trace, place.call)
        return
    scripted = [name for name, node in trace.nodes.items() if node.obstacle == SCRIPTED]
    yield from scripted
    if not scripted:
        yield f"scripted code before {_layer(trace, place.call)}"


def _layer(trace: Trace, call: int) -> str:
    """The smallest thing with a name in which a call runs."""
    around = [node for node in trace.nodes.values() if call in node.calls]
    if around:
        return min(around, key=lambda node: (len(node.calls), not node.leaf)).name
    return trace.calls[call].function if call < len(trace.calls) else "the end"
