"""Where networks come from: the bundled ones, torchvision, timm, weights alone, one's own code.

Nothing here imports torch before something is built, so that a configuration is judged at once.
"""

from convlens.workers.builders.builder import Builder, BuildError, Built, Order
from convlens.workers.builders.bundled import Bundled
from convlens.workers.builders.linear import Linear
from convlens.workers.builders.own import Own
from convlens.workers.builders.timm import Timm
from convlens.workers.builders.torchvision import Torchvision

__all__ = ["LINEAR", "BuildError", "Builder", "Built", "Order", "builder_of"]

KINDS: dict[str, Builder] = {"bundled": Bundled(), "torchvision": Torchvision(), "timm": Timm()}
OWN = Own()
# A builder without a name: there is nothing to choose but weights.
LINEAR = "linear"


def builder_of(text: str) -> tuple[Builder, str]:
    """The builder of "kind:name" and the name; any kind that is no word of ours is a module.

    Raises ValueError where the text is nothing of the sort.
    """
    if text == LINEAR:
        return Linear(), text
    kind, _, name = text.partition(":")
    if not kind or not name:
        words = "bundled:NAME, torchvision:NAME, timm:NAME, linear or MODULE:FUNCTION"
        raise ValueError(f"is {text!r}; must be {words}")
    return (KINDS[kind], name) if kind in KINDS else (OWN, text)
