"""Multiply-adds of a call for one image: those of convolutions, linear maps, matrix products.

Everything else (adding, rectifying, normalising, pooling) counts nothing, as is usual: it is a
small part, and bound by memory.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from math import prod

from convlens.workers.anatomy.arguments import operand
from convlens.workers.anatomy.functions import CONVOLUTIONS, TRANSPOSED
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.anatomy.values import Call, Value


def multiply_adds(call: Call) -> int:
    """Multiply-adds of one call in a forward pass of one image."""
    return COSTS[call.function](call) if call.function in COSTS else 0


def _convolution(call: Call) -> int:
    """Each output takes one product for each weight of its map."""
    _, *weights = operand(call, 1, "weight").batch_shape
    return call.outputs[0].size * prod(weights)


def _transposed(call: Call) -> int:
    """Each input goes once into each weight of its map."""
    _, *weights = operand(call, 1, "weight").batch_shape
    return operand(call, 0, "input").size * prod(weights)


def _product(call: Call) -> int:
    """Each output takes one product for each column of the first factor."""
    return call.outputs[0].size * operand(call, 0, "input").batch_shape[-1]


def _added_product(call: Call) -> int:
    return call.outputs[0].size * operand(call, 1, "batch1").batch_shape[-1]


def _einsum(call: Call) -> int:
    """Each combination of the indices is one product, for each factor after the first."""
    factors = list(leaves(Value, call.args[1:]))
    sizes: Counter[str] = Counter()
    terms = str(call.args[0]).replace(" ", "").split("->")[0].split(",")
    for term, factor in zip(terms, factors, strict=True):
        named = term.replace("...", "")
        start, shape = term.find("..."), factor.batch_shape
        if start >= 0:
            stop = start + len(shape) - len(named)
            sizes["..."] = max(sizes["..."], prod(shape[start:stop]))
            shape = shape[:start] + shape[stop:]
        sizes.update({i: n for i, n in zip(named, shape, strict=True) if i not in sizes})
    return prod(sizes.values()) * (len(factors) - 1)


def _attention(call: Call) -> int:
    """Scores and sums of scaled_dot_product_attention."""
    query, key, value = (operand(call, n, name) for n, name in enumerate(("query", "key", "value")))
    seen = key.batch_shape[-2] * (query.batch_shape[-1] + value.batch_shape[-1])
    return prod(query.batch_shape[:-1]) * seen


def _heads(call: Call) -> int:
    """Projections in and out, scores and sums of multi_head_attention_forward."""
    query, key, value = (operand(call, n, name) for n, name in enumerate(("query", "key", "value")))
    length, width = query.batch_shape[0], query.batch_shape[-1]
    projected = 2 * length * width * width + (key.size + value.size) * width
    return projected + 2 * length * key.batch_shape[0] * width


COSTS: Mapping[str, Callable[[Call], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed),
    **dict.fromkeys(("linear", "matmul", "bmm", "mm", "mv"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm"), _added_product),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _heads,
}
