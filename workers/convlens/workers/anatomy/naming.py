"""Names the calls of a traced pass by the modules in which they run.

The names are those of torchvision's `create_feature_extractor`: a module's qualified name, or the
path of the module in whose code a function is called with the function's name, and _1, _2 … where a
name comes again. Two differences: modules that contain others have names too, and a module called
`ln_2` keeps its name, where torchvision takes the number for one of its own and says `ln_1`.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from convlens.workers.anatomy.names import SETITEM
from convlens.workers.anatomy.recorder import Recorder, leaves
from convlens.workers.anatomy.values import Node

# The obstacle of a scripted module.
SCRIPTED = "is scripted, and what runs in it cannot be seen"


@dataclass(slots=True)
class Span:
    """A module that runs, or a functional call; `path` is None for what is hidden in a leaf."""

    path: str | None
    kind: str
    leaf: bool
    start: int
    stop: int = 0
    call: int | None = None
    obstacle: str = ""
    entry: tuple[int, int] | None = None
    bound: str = ""


class Naming:
    """Hooks on every module in `root` while entered, to see which calls run in which of them.

    `spans` are in the order in which they ended; `result` is what `root` itself did. Scripted
    modules take no hooks and show nothing: they come last, and cannot be read.
    """

    def __init__(self, module: nn.Module, root: str, recorder: Recorder) -> None:
        self.spans: list[Span] = []
        self.result: Span | None = None
        self._root = module.get_submodule(root)
        self._recorder = recorder
        self._open: list[Span] = []
        self._scripted: list[Span] = []
        self._seen = 0
        self._hooks = ExitStack()

    def __enter__(self) -> None:
        hooked: set[nn.Module] = set()
        for path, module in _looked_into(self._root):
            # One that is held under two names has the first.
            if module in hooked:
                continue
            hooked.add(module)
            if isinstance(module, torch.jit.ScriptModule):
                self._scripted.append(_scripted(path, module))
            else:
                self._hook(path, module)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.close()
        self.spans += self._scripted

    def nodes(self, trained: frozenset[str]) -> dict[str, Node]:
        """The nodes by name, in the order of `spans`; `trained` are the names of parameters."""
        names = _names(self.spans)
        return {
            name: Node(
                name,
                span.kind,
                span.leaf,
                range(span.start, span.stop),
                span.call,
                span.obstacle,
                self._parameters(span, trained),
                span.entry,
                span.bound,
            )
            for name, span in zip(names, self.spans, strict=True)
        }

    def _hook(self, path: str, module: nn.Module) -> None:
        def enter(module: nn.Module, _: object) -> None:
            self._name_calls()
            hidden = bool(self._open) and (self._open[-1].leaf or self._open[-1].path is None)
            start = self._recorder.count
            kind = type(module).__name__
            self._open.append(Span(None if hidden else path, kind, is_leaf(module), start))

        def leave(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._name_calls()
            span = self._open.pop()
            span.stop = self._recorder.count
            span.call, span.obstacle = self._found(output)
            span.entry, span.bound = self._bounds(span, (args, kwargs), output)
            if span.path == "":
                self.result = span
            elif span.path is not None:
                self.spans.append(span)

        before = module.register_forward_pre_hook(enter)
        after = module.register_forward_hook(leave, with_kwargs=True)
        self._hooks.callback(before.remove)
        self._hooks.callback(after.remove)

    def _name_calls(self) -> None:
        """Names the calls since the last look by the innermost module that is open."""
        inside = self._open[-1] if self._open else None
        for record in self._recorder.records[self._seen :]:
            if inside is None or inside.leaf or inside.path is None or record.function == SETITEM:
                continue
            path = f"{inside.path}.{record.function}".lstrip(".")
            index = record.index
            obstacle = "returns a tuple" if record.plural else ""
            call = None if record.plural else index
            self.spans.append(Span(path, record.function, True, index, index + 1, call, obstacle))
        self._seen = self._recorder.count

    def _found(self, output: Any) -> tuple[int | None, str]:
        """The call that made a module's output, or None and why it cannot be read."""
        if not isinstance(output, Tensor):
            several = next(leaves(Tensor, output), None) is not None
            return None, "returns a tuple" if several else "returns no tensor"
        source = self._recorder.source(output)
        if source is None or source < 0:
            return None, "computes nothing that can be seen from outside"
        record = self._recorder.records[source]
        if record.plural:
            return None, f"returns a part of what {record.function} gives"
        if record.function == SETITEM:
            return None, "returns a tensor that was assigned to"
        return source, ""

    def _bounds(self, span: Span, given: Any, output: Any) -> tuple[tuple[int, int] | None, str]:
        """Where a module begins to use what it takes, or why nothing can stand in for it."""
        if span.call is None:
            return None, span.obstacle
        if span.call < span.start:
            return None, "computes nothing"
        if self._recorder.gave(output) != span.call:
            return None, "returns a tensor of which another view was written to"
        taken = {id(tensor) for tensor in leaves(Tensor, given)}
        if len(taken) != 1:
            return None, "takes several tensors" if taken else "takes no tensor"
        for record in self._recorder.records[span.start : span.stop]:
            for place, tensor in enumerate(record.taken):
                if tensor in taken:
                    return (record.index, place), ""
        return None, "does not use what it takes"

    def _parameters(self, span: Span, trained: frozenset[str]) -> tuple[str, ...]:
        records = self._recorder.records[span.start : span.stop]
        used = (value.parameter for record in records for value in record.operands)
        return tuple(dict.fromkeys(name for name in used if name in trained))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one operation, as torch.fx has it: one of torch's own."""
    ours = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    return type(module).__module__.startswith(("torch.nn", "torch.ao.nn")) and not ours


def _scripted(path: str, module: torch.jit.ScriptModule) -> Span:
    return Span(path, str(module.original_name), True, 0, 0, None, SCRIPTED)


def _looked_into(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module and those in it, without what is in scripted ones: they run out of sight."""
    yield path, module
    if not isinstance(module, torch.jit.ScriptModule):
        for name, child in module.named_children():
            yield from _looked_into(child, f"{path}.{name}".lstrip("."))


def _names(spans: list[Span]) -> list[str]:
    """A name for each: first what torch.fx would name too, in its order, then containers."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    again: dict[str, int] = {}
    for leaf in (True, False):
        for number, span in enumerate(spans):
            if span.leaf != leaf:
                continue
            path = name = span.path or span.kind
            while name in taken:
                again[path] = again.get(path, 0) + 1
                name = f"{path}_{again[path]}"
            taken.add(name)
            names[number] = name
    return [names[number] for number in range(len(spans))]
