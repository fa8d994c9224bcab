"""A plain chain of layers as lectures write it: INPUT -> [CONV -> RELU -> POOL]*2 -> FC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, DROPOUTS, POOLS, RECTIFIERS
from convlens.workers.anatomy.values import Call, Trace


@dataclass(frozen=True, slots=True)
class Run:
    """The same group of words several times."""

    group: tuple["Word", ...]
    times: int


Word: TypeAlias = str | Run

_WORDS: Mapping[str, str] = {
    "conv2d": "CONV",
    "linear": "FC",
    "batch_norm": "BN",
    "local_response_norm": "NORM",
    "softmax": "SOFTMAX",
    **dict.fromkeys(RECTIFIERS, "RELU"),
    **dict.fromkeys((*POOLS, *ADAPTIVE_POOLS, "mean"), "POOL"),
}
# They leave the numbers as they are.
_SILENT = DROPOUTS | {"flatten", "view", "reshape", "contiguous"}


def grammar(trace: Trace) -> str:
    """The network in the lectures' grammar, runs of equal groups folded; empty if it has none.

    It has one where each call takes what the one before it gave and nothing else of the picture,
    and where the lectures have a word for it.
    """
    words: list[Word] = []
    last: int | None = None
    for call in _named(trace):
        pictures = [operand.source for operand in call.operands if operand.axis is not None]
        if len(pictures) != 1 or last not in (None, pictures[0]):
            return ""
        last = call.index
        if call.function in _SILENT or _is_idle(call):
            continue
        if call.function not in _WORDS:
            return ""
        words.append(_WORDS[call.function])
    if "CONV" not in words and "FC" not in words:
        return ""
    return " -> ".join(["INPUT", *map(_text, folded(words))])


def _named(trace: Trace) -> list[Call]:
    """The calls of the network itself, without its normalisation."""
    spans = (node.calls for node in trace.nodes.values() if node.leaf)
    return [trace.calls[index] for index in sorted({index for span in spans for index in span})]


def _is_idle(call: Call) -> bool:
    """An adaptive pooling that finds its maps of the right size already."""
    return call.function in ADAPTIVE_POOLS and call.outputs[0].shape == call.operands[0].shape


def folded(words: Sequence[Word]) -> list[Word]:
    """The words with runs of equal groups made one, the shortest groups first."""
    done = list(words)
    size = 1
    while 2 * size <= len(done):
        shorter = _folded(done, size)
        size = 1 if len(shorter) < len(done) else size + 1
        done = shorter
    return done


def _folded(words: Sequence[Word], size: int) -> list[Word]:
    """The words with runs of groups of this size folded; a pooling ends groups, as in lectures."""
    done: list[Word] = []
    at = 0
    while at + size <= len(words):
        group, times = tuple(words[at : at + size]), 1
        while tuple(words[at + times * size : at + (times + 1) * size]) == group:
            times += 1
        if times > 1 and group[0] != "POOL":
            done.append(Run(group, times))
            at += times * size
        else:
            done.append(words[at])
            at += 1
    return [*done, *words[at:]]


def _text(word: Word) -> str:
    if isinstance(word, str):
        return word
    return f"[{' -> '.join(map(_text, word.group))}]*{word.times}"
