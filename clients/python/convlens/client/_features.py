"""The codes of an image, as the SDK returns them, and the selection of layers that it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import ConvLensError, Internal, InvalidRequest
from convlens.client._results import Receipt, receipt_of
from convlens.v1 import feature_pb2, receipt_pb2, tensor_pb2

Pooling: TypeAlias = Literal["none", "avg", "max", "flatten"]
CodeType: TypeAlias = Literal["float32", "float16"]
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
ARRAYS: dict[int, Any] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}


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
    `features[0]` that of the first one.
    """

    codes: tuple[LayerCode, ...]
    selected: tuple[str, ...]
    receipt: Receipt = field(repr=False)

    def __getitem__(self, key: str | int) -> NDArray[Any]:
        if isinstance(key, int):
            return self.codes[key].values
        found = [
            code
            for code, name in zip(self.codes, self.selected, strict=True)
            if key in (name, code.layer)
        ]
        if len(found) == 1:
            return found[0].values
        if found:
            raise KeyError(f"{key!r} was selected {len(found)} times; ask for it by its number")
        raise KeyError(f"{key!r} was not selected; there are: {', '.join(self.selected)}")

    def __len__(self) -> int:
        return len(self.codes)


def selections_of(
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    pooling: Pooling | None,
    dtype: CodeType | None,
    l2_normalize: bool,
) -> list[feature_pb2.LayerSelection]:
    """The contract's selections; raises InvalidRequest where one is none."""
    wanted = [layers] if isinstance(layers, str | LayerSelection) else list(layers)
    return [_selection(layer, pooling, dtype, l2_normalize) for layer in wanted]


def _selection(
    layer: object, pooling: Pooling | None, dtype: CodeType | None, l2_normalize: bool
) -> feature_pb2.LayerSelection:
    chosen = layer if isinstance(layer, LayerSelection) else LayerSelection(cast(Any, layer))
    if not isinstance(cast(object, chosen.layer), str):
        kind = type(chosen.layer).__name__
        raise InvalidRequest(f"A layer is a {kind}; it must be a name or a LayerSelection.")
    scaled = l2_normalize if chosen.l2_normalize is None else chosen.l2_normalize
    return feature_pb2.LayerSelection(
        layer=chosen.layer,
        pooling=_one_of("pooling", POOLINGS, chosen.pooling or pooling),
        dtype=_one_of("dtype", CODE_TYPES, chosen.dtype or dtype),
        l2_normalize=scaled,
    )


def _one_of(name: str, known: dict[str, Any], value: str | None) -> Any:
    if value is None:
        return None
    if value not in known:
        raise InvalidRequest(f"{name} is {value!r}; it must be one of {', '.join(known)}.")
    return known[value]


def features(
    message: feature_pb2.Features, receipt: receipt_pb2.Receipt, selected: tuple[str, ...]
) -> Features:
    """One image's codes, with the receipt of the call that brought them."""
    codes = tuple(
        LayerCode(
            code.layer,
            _array(code.values),
            _array(code.positions) if code.HasField("positions") else None,
        )
        for code in message.codes
    )
    if len(codes) != len(selected):
        raise Internal(f"The server answered {len(codes)} of {len(selected)} layers.")
    return Features(codes, selected, receipt_of(receipt))


def _array(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """The numbers where they lie in the message, without a copy."""
    try:
        return np.frombuffer(tensor.data, ARRAYS[tensor.dtype]).reshape(tensor.shape)
    except (KeyError, ValueError) as error:
        raise Internal(f"The server's answer holds a tensor that is none: {error}.") from error


def features_table(
    features: Sequence[Features | ConvLensError], images: Sequence[object] | None = None
) -> dict[str, NDArray[Any]]:
    """The codes of many images as columns, for `pandas.DataFrame` and its like.

    The first column, "image", has `images`, or numbers from 0. Then comes a column for each number
    of a code: "layer4[0]" for vectors, "conv1[0,5,5]" for maps (channel, row, column), and with max
    pooling "layer4[0].row" and "layer4[0].column". An image that failed has NaN, and -1 for
    positions. Raises ValueError where the images have codes of different layers or shapes, or as
    many names as images are not given.
    """
    names = list(range(len(features)) if images is None else images)
    if len(names) != len(features):
        raise ValueError(f"There are {len(names)} names for {len(features)} images.")
    table: dict[str, NDArray[Any]] = {"image": np.asarray(names)}
    answered = [entry for entry in features if isinstance(entry, Features)]
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
            for entry in features
        ]
        table.update(zip(cells, np.stack(rows, axis=1), strict=True))
        if code.positions is not None:
            nowhere = np.full_like(code.positions, -1)
            found = [_positions(entry, number, nowhere) for entry in features]
            for axis, word in enumerate(("row", "column")):
                columns = np.stack([places[:, axis] for places in found], axis=1)
                table.update(zip((f"{cell}.{word}" for cell in cells), columns, strict=True))
    return table


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
