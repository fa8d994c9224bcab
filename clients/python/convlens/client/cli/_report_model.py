"""What a report says of one picture, as its template takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.client import ClassScore
from convlens.client.cli._report_drawings import Embedded, Legend


@dataclass(frozen=True, slots=True)
class Score:
    """What one measure says of a map; the curve is that of an SVG."""

    name: str
    reading: str
    value: float | None
    error: str
    curve: str


@dataclass(frozen=True, slots=True)
class Map:
    """One map with all that is said of it; `error` in place of it."""

    title: str
    target: ClassScore | None
    error: str = ""
    uri: str = ""
    legend: Legend | None = None
    quantity: str = ""
    scores: Sequence[Score] = ()
    notes: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit's projection, or one map of a layer, or one filter."""

    title: str
    uri: str
    facts: Sequence[tuple[str, str]]
    patch: str = ""
    #: Where its receptive field lies on the picture, in percent; None where that is not known.
    place: dict[str, float] | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Units:
    """The units of one layer; `error` in place of them."""

    title: str
    layer: str
    units: Sequence[Unit] = ()
    error: str = ""
    notes: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    greys: str = ""


@dataclass(frozen=True, slots=True)
class Attacked:
    """What an attack did; `error` in place of it."""

    title: str
    error: str = ""
    status: str = ""
    succeeded: bool = False
    #: What the status means, in a sentence or two.
    words: str = ""
    original: str = ""
    change: str = ""
    #: By how much the change is multiplied; 0 where there is none.
    factor: float = 0.0
    adversarial: str = ""
    before: Sequence[ClassScore] = ()
    after: Sequence[ClassScore] = ()
    #: Index of the class that the attack leads away from.
    own: int = 0
    flags: Sequence[str] = ()
    #: Name by name, that of the pixels as computed and that of the picture in 8 bits.
    distances: Sequence[tuple[str, str, str]] = ()
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One picture of a report."""

    anchor: str
    name: str
    #: Where its file lies; empty for here.
    folder: str
    error: str = ""
    picture: Embedded | None = None
    thumbnail: Embedded | None = None
    classes: Sequence[ClassScore] = ()
    #: Target by target, its maps.
    targets: Sequence[Sequence[Map]] = ()
    units: Sequence[Units] = ()
    attacks: Sequence[Attacked] = ()
