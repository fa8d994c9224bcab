"""How pictures become a network's input: what its maker says, and what the entry says instead."""

from convlens.v1 import image_pb2, network_pb2
from convlens.workers.builders import BuildError
from convlens.workers.builders.torchvision import INTERPOLATIONS
from convlens.workers.entries import InputConfig

EXAMPLE = "{size: 224, resize: 256, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"


def input_of(
    given: InputConfig, preset: network_pb2.InputGeometry | None
) -> network_pb2.InputGeometry:
    """The preset with what is given instead; raises BuildError where something is missing."""
    made = network_pb2.InputGeometry(interpolation=image_pb2.INTERPOLATION_BILINEAR)
    if preset is not None:
        made.CopyFrom(preset)
    if given.size:
        made.resize = _resize(min(given.size), made)
        made.height, made.width = given.size
    if given.resize:
        made.resize = given.resize
    if given.interpolation:
        made.interpolation = INTERPOLATIONS[given.interpolation]
    if given.mean:
        made.mean[:] = given.mean
    if given.std:
        made.std[:] = given.std
    _check(made)
    made.channels = len(made.mean)
    return made


def _resize(side: int, preset: network_pb2.InputGeometry) -> int:
    """In the preset's proportion, so that an input of another size shows as much of a picture."""
    before = min(preset.height, preset.width)
    return round(preset.resize * side / before) if before else side


def _check(made: network_pb2.InputGeometry) -> None:
    parts = {"size": made.height, "mean": made.mean, "std": made.std}
    if missing := [key for key, value in parts.items() if not value]:
        raise BuildError(
            "input",
            f"{', '.join(missing)} must be given, since the builder does not say how pictures are "
            f"prepared, for example {EXAMPLE}",
        )
    if len(made.mean) != len(made.std):
        raise BuildError(
            "input",
            f"mean has {len(made.mean)} numbers and std {len(made.std)}; give both, as many",
        )
