"""The codes of an image, as the SDK returns them, and the selection of layers that it takes."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import ConvLensError, Internal, InvalidRequest
from convlens.client._results import Receipt, receipt_of
from convlens.client._tensors import ARRAYS, array_of
from convlens.v1 import feature_pb2, tensor_pb2

Pooling: TypeAlias = Literal["none", "avg", "max", "flatten"]
CodeType: TypeAlias = Literal["float32", "float16"]
Removal: TypeAlias = Literal["identity", "zeros"]
POOLINGS = {
    "none": feature_pb2.POOLING_NONE,
    "avg": feature_pb2.POOLING_AVG,
    "max": feature_pb2.POOLING_MAX,
    "flatten": feature_pb2.POOLING_FLATTEN,
}
CODE_TYPES = {
    "float32": tensor_pb2.DATA_TYPE_FLOAT32,
    "float16": tensor_pb2.DATA_TYPE_FLOAT16,
}
REMOVALS: dict[feature_pb2.Removal.ValueType, Removal] = {
    feature_pb2.REMOVAL_IDENTITY: "identity",
    feature_pb2.REMOVAL_ZEROS: "zeros",
}
CODES = {kind: array for kind, array in ARRAYS.items() if kind != tensor_pb2.DATA_TYPE_UINT8}


@dataclass(frozen=True, slots=True)
class LayerSelection:
    """One layer to read, and what is done to its output.

    `layer` is a name that `Client.network` lists, or "cnn-code" or "logits". `pooling` is what
    becomes of the places of a map: "none" [channels, height, width], "avg" and "max" [channels],
    "flatten" [channels * height * width]. `dtype` is "float32" or "float16"; `l2_normalize` scales
    the code to Euclidean length 1. None takes what the call says for all layers, and that the
    server's defaults.
    """

    layer: str
    pooling: Pooling | None = None
    dtype: CodeType | None = None
    l2_normalize: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerCode:
    """The code of one image at one layer; `layer` is its name with aliases resolved.

    With max pooling, `positions` [channels, 2] has the (row, column) of each maximum. The arrays
    cannot be written to.
    """

    layer: str
    values: NDArray[Any] = field(repr=False)
    positions: NDArray[np.int64] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The codes of one image, in the order of the selected layers.

    `features["layer4"]` is the array of the layer that was selected under this name, and
    `features[0]` that of the first one. A name that was not selected is looked for among those
    that aliases stand for.

    `removed` are the layers that the network ran without, and what went on in the place of each:
    what it takes ("identity"), or "zeros" where that has another shape.
    """

    codes: tuple[LayerCode, ...]
    selected: tuple[str, ...]
    receipt: Receipt = field(repr=False)
    removed: Mapping[str, Removal] = field(default_factory=dict[str, Removal])

    def __getitem__(self, key: str | SupportsIndex) -> NDArray[Any]:
        if not isinstance(key, str):
            return self.codes[self._number(key)].values
        found = self._named(key)
        if len(found) == 1:
            return found[0].values
        if found:
            raise KeyError(f"{key!r} was selected {len(found)} times; ask for it by its number")
        raise KeyError(f"{key!r} was not selected; there are: {', '.join(self.selected)}")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._named(name))

    def __len__(self) -> int:
        return len(self.codes)

    def _named(self, name: str) -> list[LayerCode]:
        pairs = zip(self.codes, self.selected, strict=True)
        return [code for code, selected in pairs if selected == name] or [
            code for code in self.codes if code.layer == name
        ]

    def _number(self, key: SupportsIndex) -> int:
        try:
            number = operator.index(key)
        except TypeError:
            kind = type(key).__name__
            raise TypeError(f"A code is asked for by name or number, not by a {kind}") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"There is no code {number}; there are {len(self)}, counted from 0")
        return number


def selections_of(
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    pooling: Pooling | None,
    dtype: CodeType | None,
    l2_normalize: bool,
) -> list[feature_pb2.LayerSelection]:
    """The contract's selections; raises InvalidRequest where one is none."""
    return [_selection(layer, pooling, dtype, l2_normalize) for layer in _listed(layers)]


def removed_of(layers: str | Sequence[str]) -> list[str]:
    """The names of the layers to remove; raises InvalidRequest where one is none."""
    names = _listed(layers, "removed_layers", "a name, or a list of names")
    return [_name(name) for name in names]


def _listed(
    layers: object,
    what: str = "layers",
    kinds: str = "a name, a LayerSelection, or a list of those",
) -> Iterable[object]:
    if isinstance(layers, str | LayerSelection):
        return [layers]
    # Both can be gone through, and give what nobody meant.
    if isinstance(layers, bytes | Mapping) or not isinstance(layers, Iterable):
        kind = type(cast(object, layers)).__name__
        raise InvalidRequest(f"{what} is a {kind}; it must be {kinds}.")
    return cast(Iterable[object], layers)


def _selection(
    layer: object, pooling: Pooling | None, dtype: CodeType | None, l2_normalize: bool
) -> feature_pb2.LayerSelection:
    chosen = layer if isinstance(layer, LayerSelection) else LayerSelection(cast(Any, layer))
    own = chosen.l2_normalize
    return feature_pb2.LayerSelection(
        layer=_name(chosen.layer),
        pooling=_one_of("pooling", POOLINGS, pooling if chosen.pooling is None else chosen.pooling),
        dtype=_one_of("dtype", CODE_TYPES, dtype if chosen.dtype is None else chosen.dtype),
        l2_normalize=_truth("l2_normalize", l2_normalize if own is None else own),
    )


def _name(layer: object) -> str:
    if not isinstance(layer, str):
        kind = type(layer).__name__
        raise InvalidRequest(f"A layer is a {kind}; it must be a name or a LayerSelection.")
    try:
        layer.encode()
    except UnicodeEncodeError:
        words = f"A layer is {layer!r}, which is no text; Client.network lists the names of layers."
        raise InvalidRequest(words) from None
    return layer


def _one_of(name: str, known: dict[str, Any], value: object) -> Any:
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise InvalidRequest(f"{name} is {value!r}; it must be one of {', '.join(known)}.")
    return known[value]


def _truth(name: str, value: object) -> bool:
    if value is not None and not isinstance(value, bool | np.bool_):
        raise InvalidRequest(f"{name} is {value!r}; it must be True or False.")
    return bool(cast(object, value))


def features(
    message: feature_pb2.Features,
    response: feature_pb2.ExtractFeaturesResponse,
    selected: tuple[str, ...],
    removed: int,
) -> Features:
    """One image's codes, from the response that brought them; it is without `removed` layers."""
    codes = tuple(
        LayerCode(
            code.layer,
            array_of(code.values, CODES),
            array_of(code.positions, CODES) if code.HasField("positions") else None,
        )
        for code in message.codes
    )
    if len(codes) != len(selected):
        raise Internal(f"The server answered {len(codes)} of {len(selected)} layers.")
    gone: dict[str, Removal] = {
        each.layer: _removal(each.removal) for each in response.removed_layers
    }
    if len(gone) != removed:
        # A server that is older than the field does not see it, and removes nothing.
        raise Internal(f"The server removed {len(gone)} of {removed} layers; it may be an old one.")
    return Features(codes, selected, receipt_of(response.receipt), gone)


def _removal(number: feature_pb2.Removal.ValueType) -> Removal:
    if number not in REMOVALS:
        raise Internal(f"The server removed a layer in a way that has the number {number}.")
    return REMOVALS[number]


def features_table(
    features: Features | ConvLensError | Sequence[Features | ConvLensError],
    images: Sequence[object] | None = None,
) -> dict[str, NDArray[Any]]:
    """The codes of images as columns, for `pandas.DataFrame` and its like; one is a list of one.

    The first column, "image", has `images`, or numbers from 0. Then comes a column for each number
    of a code: "layer4[0]" for vectors, "conv1[0,5,5]" for maps (channel, row, column), and with max
    pooling "layer4[0].row" and "layer4[0].column". An image that failed has NaN, and -1 for
    positions. Raises ValueError where the images have codes of different layers or shapes, or as
    many names as images are not given, and TypeError for what are no codes.
    """
    entries = _entries(features)
    names = list(range(len(entries)) if images is None else images)
    if len(names) != len(entries):
        raise ValueError(f"There are {len(names)} names for {len(entries)} images.")
    table = {"image": _column(names)}
    answered = [entry for entry in entries if isinstance(entry, Features)]
    if not answered:
        return table
    first = answered[0]
    if any(_form(entry) != _form(first) for entry in answered):
        raise ValueError("The images have codes of different layers or shapes.")
    if len(set(first.selected)) < len(first.selected):
        raise ValueError("A layer was selected twice; make a table of each selection.")
    for number, name in enumerate(first.selected):
        code = first.codes[number]
        cells = [f"{name}[{','.join(map(str, place))}]" for place in np.ndindex(code.values.shape)]
        missing = np.full(code.values.size, np.nan, code.values.dtype)
        rows = [
            entry.codes[number].values.ravel() if isinstance(entry, Features) else missing
            for entry in entries
        ]
        table.update(zip(cells, np.stack(rows, axis=1), strict=True))
        if code.positions is not None:
            nowhere = np.full_like(code.positions, -1)
            found = [_positions(entry, number, nowhere) for entry in entries]
            for axis, word in enumerate(("row", "column")):
                columns = np.stack([places[:, axis] for places in found], axis=1)
                table.update(zip((f"{cell}.{word}" for cell in cells), columns, strict=True))
    return table


def _entries(features: object) -> list[Features | ConvLensError]:
    if isinstance(features, Features | ConvLensError):
        return [features]
    entries = list(cast(Iterable[object], features))
    for number, entry in enumerate(entries):
        if not isinstance(entry, Features | ConvLensError):
            kind = type(entry).__name__
            raise TypeError(f"Entry {number} is a {kind}; it must be Features or a ConvLensError.")
    return cast(list[Features | ConvLensError], entries)


def _column(names: Sequence[object]) -> NDArray[Any]:
    """One cell for each name, where numpy would make several of a tuple or an array."""
    if all(isinstance(name, str | int | float | np.generic) for name in names):
        return np.asarray(names)
    column = np.empty(len(names), object)
    for number, name in enumerate(names):
        column[number] = name
    return column


def _positions(
    entry: Features | ConvLensError, number: int, nowhere: NDArray[np.int64]
) -> NDArray[np.int64]:
    found = entry.codes[number].positions if isinstance(entry, Features) else None
    return nowhere if found is None else found


def _form(features: Features) -> list[object]:
    return [
        (name, code.layer, code.values.shape, code.values.dtype, code.positions is None)
        for name, code in zip(features.selected, features.codes, strict=True)
    ]
