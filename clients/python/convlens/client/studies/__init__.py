"""Studies of what a served network has learned, made of the calls of a `Client`.

Each study is a function that goes through folders of pictures of any size and returns what it
found: sentences, tables and pictures, which `save` writes into a folder. With a `state` folder, a
study that was interrupted goes on where it was. They need `pip install "convlens-client[studies]"`.
"""

from typing import TYPE_CHECKING

from convlens.client._lazy import lazily

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy, Mistake, accuracy
    from convlens.client.studies._activations import LayerHealth
    from convlens.client.studies._code_map import CodeMap, Kept, code_map
    from convlens.client.studies._evolution import Checkpoint, Evolution, evolution
    from convlens.client.studies._factor_variance import Part, Parts
    from convlens.client.studies._filters import FilterHealth
    from convlens.client.studies._gradients import GradientCheck
    from convlens.client.studies._grid import Factor
    from convlens.client.studies._health import HealthStudy, health
    from convlens.client.studies._human import Answered, HumanStudy, human
    from convlens.client.studies._indexing import CodesIndexed, index_pictures
    from convlens.client.studies._invariance import Curves, Invariance, invariance
    from convlens.client.studies._layers import Layers, Probe, layers
    from convlens.client.studies._neighbours import (
        Neighbour,
        NeighboursOf,
        NeighboursStudy,
        neighbours,
    )
    from convlens.client.studies._removal import RemovalStudy, Without, removal
    from convlens.client.studies._shares import Bin, Share
    from convlens.client.studies._study import Facts, Skipped, Study
    from convlens.client.studies._told import Told
    from convlens.client.studies._top_patches import Patch, TopPatches, top_patches
    from convlens.client.studies._transforms import Change
    from convlens.client.studies._variations import Variations, variations

__all__ = [
    "Accuracy",
    "Answered",
    "Bin",
    "Change",
    "Checkpoint",
    "CodeMap",
    "CodesIndexed",
    "Curves",
    "Evolution",
    "Factor",
    "Facts",
    "FilterHealth",
    "GradientCheck",
    "HealthStudy",
    "HumanStudy",
    "Invariance",
    "Kept",
    "LayerHealth",
    "Layers",
    "Mistake",
    "Neighbour",
    "NeighboursOf",
    "NeighboursStudy",
    "Part",
    "Parts",
    "Patch",
    "Probe",
    "RemovalStudy",
    "Share",
    "Skipped",
    "Study",
    "Told",
    "TopPatches",
    "Variations",
    "Without",
    "accuracy",
    "code_map",
    "evolution",
    "health",
    "human",
    "index_pictures",
    "invariance",
    "layers",
    "neighbours",
    "removal",
    "top_patches",
    "variations",
]

HOMES = {
    "_accuracy": ("Accuracy", "Mistake", "accuracy"),
    "_activations": ("LayerHealth",),
    "_code_map": ("CodeMap", "Kept", "code_map"),
    "_evolution": ("Checkpoint", "Evolution", "evolution"),
    "_factor_variance": ("Part", "Parts"),
    "_filters": ("FilterHealth",),
    "_gradients": ("GradientCheck",),
    "_grid": ("Factor",),
    "_health": ("HealthStudy", "health"),
    "_human": ("Answered", "HumanStudy", "human"),
    "_indexing": ("CodesIndexed", "index_pictures"),
    "_invariance": ("Curves", "Invariance", "invariance"),
    "_layers": ("Layers", "Probe", "layers"),
    "_neighbours": ("Neighbour", "NeighboursOf", "NeighboursStudy", "neighbours"),
    "_removal": ("RemovalStudy", "Without", "removal"),
    "_shares": ("Bin", "Share"),
    "_study": ("Facts", "Skipped", "Study"),
    "_told": ("Told",),
    "_top_patches": ("Patch", "TopPatches", "top_patches"),
    "_transforms": ("Change",),
    "_variations": ("Variations", "variations"),
}

_find = lazily(__name__, HOMES)


def __getattr__(name: str) -> object:
    """Imports a public name when it is first asked for, since the libraries take seconds."""
    return globals().setdefault(name, _find(name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
