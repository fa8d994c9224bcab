"""Layers that a network does not have."""

from difflib import get_close_matches

from convlens.client._errors import NotFound
from convlens.client._results import Network
from convlens.client._text import printable

# What the server calls the code of a network, and its scores.
ALIASES = ("cnn-code", "logits")


def no_layer(served: Network, name: str) -> NotFound:
    """The error for a name that is none of its layers', with those that come near."""
    names = [*(layer.name for layer in served.anatomy.layers), *ALIASES]
    near = get_close_matches(name, names, 3, 0.6)
    advice = f"did you mean {' or '.join(near)}?" if near else "'convlens anatomy' lists them."
    return NotFound(
        f"Network {served.name}@{served.version} has no layer {printable(name)!r}; {advice}"
    )
