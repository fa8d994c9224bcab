"""Writes down the calls of a forward pass while it runs."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from torch import Tensor
from torch.overrides import TorchFunctionMode

from convlens.workers.anatomy.names import SETITEM, gives_tensors, plain_name
from convlens.workers.anatomy.values import INPUT, Value

T = TypeVar("T")

# They may give a view of what they take or a copy, as the layout in memory has it.
_MAYBE_VIEWS = frozenset(
    {
        *("contiguous", "flatten", "ravel", "reshape", "reshape_as", "unflatten", "clone"),
        *("to", "type", "float", "double", "half", "bfloat16", "cpu", "cuda"),
    }
)
# Modules of torch that compute fake tensors.
_KERNELS = ("torch._meta_registrations", "torch._refs", "torch._decomp", "torch._prims")


@dataclass(slots=True)
class Record:
    """A call as it was made; the Values in it have the shapes of the batch that ran.

    `taken` are the identities of the operands.
    """

    index: int
    function: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    operands: tuple[Value, ...]
    taken: tuple[int, ...] = ()
    outputs: tuple[Value, ...] = ()
    plural: bool = False
    overwritten: int | None = None
    fresh: bool = False


@dataclass(slots=True)
class _Memory:
    """Memory that tensors share: which calls' outputs lie in it, and who wrote to it last."""

    givers: list[Record] = field(default_factory=list[Record])
    written: int = INPUT


class Recorder(TorchFunctionMode):
    """Records every call that gives tensors while the mode is entered, as Reading counts them.

    Tensors are told apart by identity, so everything that was made is kept until the end.
    """

    def __init__(self, pixels: Tensor, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._made: dict[int, tuple[Tensor, int]] = {id(pixels): (pixels, INPUT)}
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        self._memories = {_storage(tensor): _Memory() for tensor in (pixels, *tensors.values())}

    @property
    def count(self) -> int:
        """How many calls there were so far."""
        return len(self.records)

    def source(self, tensor: Tensor) -> int | None:
        """The call that made a tensor what it is now, INPUT, or None for what no call made."""
        _, made = self._made.get(id(tensor), (tensor, None))
        memory = self._memories.get(_storage(tensor))
        if memory is None or memory.written == INPUT:
            return made
        return max(memory.written, INPUT if made is None else made)

    def gave(self, tensor: Tensor) -> int | None:
        """The last call that gave this very tensor, and not another one of the same memory."""
        return self._made.get(id(tensor), (tensor, None))[1]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        caller = inspect.currentframe()
        if caller and caller.f_back and caller.f_back.f_globals["__name__"].startswith(_KERNELS):
            # Fake tensors are computed in Python. Where that comes up by itself, a scripted
            # function made the call; with real tensors there would be nothing to see.
            raise RuntimeError("a scripted function is called")
        kwargs = dict(kwargs or {})
        taken = list(leaves(Tensor, (args, kwargs)))
        record = self._record(func, args, kwargs)
        versions = [_version(tensor) for tensor in taken]
        out = func(*args, **kwargs)
        changed = [
            tensor
            for tensor, version in zip(taken, versions, strict=True)
            if _version(tensor) != version
        ]
        for tensor in changed:
            self._overwrite(tensor, record.index)
        if gives_tensors(func, out):
            given = args[0] if record.function == SETITEM else out
            self._add(record, given, taken, written=bool(changed))
        return out

    def _record(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Record:
        taken, named = mapped(self._described, (args, kwargs))
        operands = tuple(leaves(Value, (taken, named)))
        identities = tuple(map(id, leaves(Tensor, (args, kwargs))))
        return Record(self.count, plain_name(func), taken, named, operands, identities)

    def _add(self, record: Record, given: object, taken: list[Tensor], *, written: bool) -> None:
        self.records.append(record)
        record.plural = not isinstance(given, Tensor)
        outputs = list(leaves(Tensor, given))
        record.fresh = all(_storage(tensor) not in self._memories for tensor in outputs)
        for tensor in outputs:
            self._made[id(tensor)] = tensor, record.index
            memory = self._memory(tensor, record, taken)
            memory.givers.append(record)
            if written:
                memory.written = record.index
        record.outputs = tuple(self._value(tensor) for tensor in outputs)

    def _memory(self, tensor: Tensor, record: Record, taken: list[Tensor]) -> _Memory:
        key = _storage(tensor)
        if key not in self._memories and record.function in _MAYBE_VIEWS and taken:
            self._memories[key] = self._memories.setdefault(_storage(taken[0]), _Memory())
        return self._memories.setdefault(key, _Memory())

    def _overwrite(self, tensor: Tensor, index: int) -> None:
        """What was given before in this memory is lost from the call `index` on."""
        memory = self._memories.setdefault(_storage(tensor), _Memory())
        for giver in memory.givers:
            giver.overwritten = index
        memory.givers.clear()

    def _described(self, given: object) -> object:
        return self._value(given) if isinstance(given, Tensor) else given

    def _value(self, tensor: Tensor) -> Value:
        name = self._names.get(id(tensor))
        source = self.source(tensor) if name is None else None
        return Value(tuple(tensor.shape), None, tensor.dtype, source, name)


def mapped(change: Callable[..., Any], *trees: Any) -> Any:
    """A tree of tuples, lists and dicts with each leaf changed; several alike trees together."""
    first = trees[0]
    if isinstance(first, (tuple, list)):
        items = [mapped(change, *leaves) for leaves in zip(*trees, strict=True)]
        return tuple(items) if isinstance(first, tuple) else items
    if isinstance(first, dict):
        keys = cast("Iterable[Any]", first)
        return {key: mapped(change, *(tree[key] for tree in trees)) for key in keys}
    return change(*trees)


def leaves(kind: type[T], tree: Any) -> Iterator[T]:
    """Those of a kind in a tree of tuples, lists and dicts."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, (tuple, list, dict)):
        branches = cast("Any", tree)
        for item in branches.values() if isinstance(tree, dict) else branches:
            yield from leaves(kind, item)


def _version(tensor: Tensor) -> int:
    # Inference tensors among the weights have no version; nobody writes to weights here.
    return 0 if tensor.is_inference() else tensor._version


def _storage(tensor: Tensor) -> int:
    """The identity of a tensor's memory."""
    try:
        return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
    except (NotImplementedError, RuntimeError):
        # Sparse tensors and some subclasses have no memory of one piece: each shares with nobody.
        return id(tensor)
