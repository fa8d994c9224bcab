"""Studies of what a served network has learned, made of the calls of a `Client`.

Each study is a function that goes through folders of pictures of any size and returns what it
found: sentences, tables and pictures, which `save` writes into a folder. With a `state` folder, a
study that was interrupted goes on where it was. They need `pip install "convlens-client[studies]"`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy, Mistake, accuracy
    from convlens.client.studies._factors import Factor
    from convlens.client.studies._layers import Layers, Probe, layers
    from convlens.client.studies._shares import Bin, Share
    from convlens.client.studies._study import Facts, Skipped, Study
    from convlens.client.studies._told import Told
    from convlens.client.studies._top_patches import Patch, TopPatches, top_patches

__all__ = [
    "Accuracy",
    "Bin",
    "Factor",
    "Facts",
    "Layers",
    "Mistake",
    "Patch",
    "Probe",
    "Share",
    "Skipped",
    "Study",
    "Told",
    "TopPatches",
    "accuracy",
    "layers",
    "top_patches",
]

HOMES = ("_accuracy", "_factors", "_layers", "_shares", "_study", "_told", "_top_patches")


def __getattr__(name: str) -> object:
    """Imports a public name when it is first asked for; the libraries take seconds."""
    if name in __all__:
        for home in HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
