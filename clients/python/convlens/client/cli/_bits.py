"""The numbers of an answer, by name, and what tells them from others."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convlens.client import AttackVerdict, Attribution, SynthesizedPicture
from convlens.contract import digest


def arrays_of(answer: Attribution) -> dict[str, NDArray[Any]]:
    """Every array of an answer: "map", "occlusion.probability", "deconvnet.patches[0].…"."""
    found = {} if answer.values is None else {"map": answer.values}
    found.update(_inside(answer.name, answer.details))
    found.update(_inside("region", answer.region))
    return found


def digests_of(answer: Attribution) -> dict[str, str]:
    """BLAKE2b-256 of each array with its type and shape, in hexadecimal."""
    return {name: digest_of(array) for name, array in arrays_of(answer).items()}


def digests_of_picture(found: AttackVerdict | SynthesizedPicture) -> dict[str, str]:
    """BLAKE2b-256 of the PNG's bytes, and of the pixels where they came, in hexadecimal."""
    pixels = {} if found.pixels is None else {"pixels": digest_of(found.pixels)}
    return {"png": digest(found.png), **pixels}


def digest_of(array: NDArray[Any]) -> str:
    """BLAKE2b-256 of an array with its type and shape, in hexadecimal."""
    return digest(array.dtype.str.encode(), repr(array.shape).encode(), array.tobytes())


def difference(array: NDArray[Any], other: NDArray[Any]) -> float | None:
    """The largest difference, relative to the largest value of `array`; None between shapes."""
    if array.shape != other.shape:
        return None
    apart = float(np.abs(array.astype(np.float64) - other.astype(np.float64)).max(initial=0))
    return apart / (float(np.abs(array.astype(np.float64)).max(initial=0)) or 1.0)


def _inside(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, tuple):
        for number, entry in enumerate(cast(tuple[Any, ...], value)):
            yield from _inside(f"{name}[{number}]", entry)
    elif is_dataclass(value):
        for entry in fields(value):
            yield from _inside(f"{name}.{entry.name}", getattr(value, entry.name))
