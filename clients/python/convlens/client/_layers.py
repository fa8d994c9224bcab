"""The layers of a network by the names that users give."""

from collections.abc import Sequence
from difflib import get_close_matches

from convlens.client._anatomy import Layer
from convlens.client._errors import InvalidRequest, NotFound
from convlens.client._results import Network
from convlens.client._text import printable

# What the server calls the code of a network, and its scores, whichever layers give them.
ALIASES = ("cnn-code", "logits")


def layer_named(served: Network, name: str, others: Sequence[str] = ()) -> Layer:
    """The layer of that name.

    Raises NotFound with the names that come near, `others` among them, and InvalidRequest for a
    name that stands for no certain layer.
    """
    known = {layer.name: layer for layer in served.anatomy.layers}
    if name in known:
        return known[name]
    if name in ALIASES:
        raise InvalidRequest(f"{name} is no layer; name the one that gives it.")
    near = get_close_matches(name, [*known, *others], 3, 0.6)
    advice = f"did you mean {' or '.join(near)}?" if near else "'convlens anatomy' lists them."
    raise NotFound(
        f"Network {served.name}@{served.version} has no layer {printable(name)!r}; {advice}"
    )
