"""What the SDK sends for codes, and the arrays and tables that it makes of the answer."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from convlens.client import (
    Features,
    Internal,
    InvalidImage,
    InvalidRequest,
    LayerSelection,
    NotFound,
    features_table,
)
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2, tensor_pb2

STREAM = "extract_features_stream"


def test_arrays(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    found = client.call("extract_features", b"x", ["a.b", LayerSelection("cnn-code", "max")])
    assert isinstance(found, Features)
    assert found.selected == ("a.b", "cnn-code")
    assert [code.layer for code in found.codes] == ["a.b", "avgpool"]
    assert found["a.b"].tolist() == [0, 1, 2, 3]
    assert found["a.b"].dtype == np.float32
    assert found["cnn-code"] is found["avgpool"] is found[1]
    assert found.codes[0].positions is None
    positions = found.codes[1].positions
    assert positions is not None and positions.shape == (4, 2) and positions.dtype == np.int64
    assert not found["a.b"].flags.writeable
    assert len(found) == 2
    assert found.receipt.network == "pets"
    with pytest.raises(KeyError, match=r"'b' was not selected; there are: a\.b, cnn-code"):
        found["b"]


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    layers = ["a", LayerSelection("b", pooling="flatten", dtype="float32", l2_normalize=False)]
    options: dict[str, Any] = {"pooling": "avg", "dtype": "float16", "l2_normalize": True}
    client.call("extract_features", b"x", layers, network="pets", geometry="as_is", **options)
    [sent] = server.requests
    half, full = tensor_pb2.DATA_TYPE_FLOAT16, tensor_pb2.DATA_TYPE_FLOAT32
    selection = feature_pb2.LayerSelection
    assert list(sent.message.layers) == [
        selection(layer="a", pooling=feature_pb2.POOLING_AVG, dtype=half, l2_normalize=True),
        selection(layer="b", pooling=feature_pb2.POOLING_FLATTEN, dtype=full),
    ]
    assert sent.message.network == "pets"
    assert sent.message.images[0].encoded == b"x"


def test_layers_to_remove(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    assert client.call("extract_features", b"x", "a").removed == {}
    found = client.call("extract_features", b"x", "a", removed_layers=["b", "c"])
    assert found.removed == {"b": "identity", "c": "identity"}
    [one] = client.call("extract_features", [b"x"], "a", removed_layers="b")
    assert one.removed == {"b": "identity"}
    sent = [list(request.message.removed_layers) for request in server.requests]
    assert sent == [[], ["b", "c"], ["b"]]


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        (5, "removed_layers is a int; it must be a name, or a list of names"),
        (["a", 5], "A layer is a int"),
        (["\ud800"], "which is no text"),
    ],
)
def test_what_is_no_layer_to_remove(
    connect: Any, server: FakeServer, removed: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        connect(server.address).call("extract_features", b"x", "a", removed_layers=removed)


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ([], r"removed 0 of 1 layers; it may be an old one"),
        ([feature_pb2.RemovedLayer(layer="b")], "in a way that has the number 0"),
    ],
)
def test_a_server_that_does_not_remove_layers(
    connect: Any, server: FakeServer, removed: Any, words: str
) -> None:
    code = feature_pb2.LayerCode(
        layer="a", values=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[0])
    )
    result = feature_pb2.ExtractFeaturesResult(features=feature_pb2.Features(codes=[code]))
    server.answers["ExtractFeatures"] = feature_pb2.ExtractFeaturesResponse(
        results=[result], removed_layers=removed
    )
    with pytest.raises(Internal, match=words):
        connect(server.address).call("extract_features", b"x", "a", removed_layers=["b"])


def test_half_precision(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("extract_features", b"x", "a", dtype="float16")
    assert found[0].dtype == np.float16 and found[0].tolist() == [0, 1, 2, 3]


def test_a_list_and_its_errors(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    good, bad = client.call("extract_features", [b"x", 5], "a", on_error="return")
    assert good[0].shape == (4,)
    assert isinstance(bad, InvalidImage) and bad.index == 1
    with pytest.raises(InvalidImage):
        client.call("extract_features", [b"x", b""], "a")


def test_the_stream(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    pictures = [b"x", b"", b"x"]
    found = list(client.stream(pictures, "a", method=STREAM, on_error="return"))
    assert [type(entry) for entry in found] == [Features, InvalidImage, Features]
    assert found[1].index == 1
    assert [request.rpc for request in server.requests] == ["ExtractFeaturesStream"] * 3
    with pytest.raises(InvalidImage, match="item 1"):
        list(client.stream(pictures, "a", method=STREAM))


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ([5], {}, "A layer is a int; it must be a name or a LayerSelection"),
        ("a", {"pooling": "mean"}, "pooling is 'mean'; it must be one of none, avg, max, flatten"),
        ("a", {"dtype": "double"}, "dtype is 'double'; it must be one of float32, float16"),
        ([], {}, "layers"),
        ([LayerSelection("a", "sum")], {}, "pooling is 'sum'"),  # pyright: ignore[reportArgumentType]
        ([LayerSelection(5)], {}, "A layer is a int"),  # pyright: ignore[reportArgumentType]
        (3, {}, "layers is a int; it must be a name, a LayerSelection, or a list of those"),
        (None, {}, "layers is a NoneType; it must be a name"),
        (b"x", {}, "layers is a bytes; it must be a name"),
        ({"layer": "a"}, {}, "layers is a dict; it must be a name"),
        ("\ud800", {}, "which is no text"),
        ("a", {"pooling": ["avg"]}, r"pooling is \['avg'\]; it must be one of none, avg"),
        ("a", {"pooling": ""}, "pooling is ''; it must be one of none, avg"),
        ("a", {"dtype": np.float16}, "it must be one of float32, float16"),
        ("a", {"l2_normalize": "yes"}, "l2_normalize is 'yes'; it must be True or False"),
    ],
)
def test_wrong_selections(connect: Any, server: FakeServer, layers, options, words) -> None:
    with pytest.raises(InvalidRequest, match=words):
        connect(server.address).call("extract_features", b"x", layers, **options)


def test_an_unknown_layer(connect: Any) -> None:
    failure = Failure(
        ErrorReason.ERROR_REASON_LAYER_NOT_FOUND, network="pets@1", layer="'b'", nearest="did you"
    )
    with FakeServer({"ExtractFeatures": failure}) as server, pytest.raises(NotFound, match="'b'"):
        connect(server.address).call("extract_features", b"x", "b")


def response(values: tensor_pb2.Tensor) -> feature_pb2.ExtractFeaturesResponse:
    code = feature_pb2.LayerCode(layer="a", values=values)
    result = feature_pb2.ExtractFeaturesResult(features=feature_pb2.Features(codes=[code]))
    return feature_pb2.ExtractFeaturesResponse(results=[result])


@pytest.mark.parametrize(
    ("layers", "values"),
    [
        ("a", tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[2], data=b"ab")),
        ("a", tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[3], data=b"abcd")),
        ("a", tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1], data=b"abc")),
        (["a", "b"], tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, data=b"abcd")),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, layers: Any, values: Any) -> None:
    with FakeServer({"ExtractFeatures": response(values)}) as server, pytest.raises(Internal):
        connect(server.address).call("extract_features", b"x", layers)


def test_a_table(connect: Any) -> None:
    def answer(request: feature_pb2.ExtractFeaturesRequest) -> Any:
        if not request.images[0].encoded:
            raise Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats="PNG")
        numbers = np.frombuffer(request.images[0].encoded, np.uint8).astype("<f4")
        values = tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1, 2, 2], data=numbers.tobytes()
        )
        best = np.array([[1, 0]], "<i8")
        positions = tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_INT64, shape=[1, 2], data=best.tobytes()
        )
        top = tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1], data=numbers[2:3].tobytes()
        )
        codes = [
            feature_pb2.LayerCode(layer="conv", values=values),
            feature_pb2.LayerCode(layer="pool", values=top, positions=positions),
        ]
        result = feature_pb2.ExtractFeaturesResult(features=feature_pb2.Features(codes=codes))
        return feature_pb2.ExtractFeaturesResponse(results=[result])

    layers = ["conv", LayerSelection("pool", "max")]
    with FakeServer({"ExtractFeatures": answer}) as server:
        pictures = [bytes([1, 2, 3, 4]), 7, bytes([5, 6, 7, 8])]
        client = connect(server.address)
        found = list(client.stream(pictures, layers, method=STREAM, on_error="return"))
    frame = pd.DataFrame(features_table(found, ["a.png", "b.png", "c.png"]))
    assert list(frame.columns) == [
        *("image", "conv[0,0,0]", "conv[0,0,1]", "conv[0,1,0]", "conv[0,1,1]"),
        *("pool[0]", "pool[0].row", "pool[0].column"),
    ]
    assert frame["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert frame["conv[0,1,0]"].dropna().tolist() == [3, 7]
    assert frame["pool[0]"].isna().tolist() == [False, True, False]
    assert frame["pool[0].row"].tolist() == [1, -1, 1]
    assert frame["pool[0].column"].tolist() == [0, -1, 0]
    assert frame.dtypes["conv[0,0,0]"] == np.float32
    assert features_table(found)["image"].tolist() == [0, 1, 2]
    assert list(features_table(found[1:2])) == ["image"]
    with pytest.raises(ValueError, match="There are 1 names for 3 images"):
        features_table(found, ["a"])


def test_tables_that_cannot_be(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    one = client.call("extract_features", b"x", "a")
    other = client.call("extract_features", b"x", "b")
    twice = client.call("extract_features", b"x", ["a", LayerSelection("a", "max")])
    with pytest.raises(ValueError, match="different layers or shapes"):
        features_table([one, other])
    with pytest.raises(ValueError, match="selected twice"):
        features_table([twice])
    with pytest.raises(KeyError, match="was selected 2 times"):
        twice["a"]
    assert twice[1].shape == (4,)


def test_codes_by_name_and_number(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("extract_features", b"x", ["a", "cnn-code"])
    assert "a" in found and "cnn-code" in found and "avgpool" in found
    assert "b" not in found and 0 not in found
    assert found[np.int64(1)] is found[-1] is found[1]
    assert [code.tolist() for code in found] == [[0, 1, 2, 3]] * 2
    with pytest.raises(IndexError, match="There is no code 5; there are 2, counted from 0"):
        found[5]
    for key in (slice(0, 1), None, 1.0):
        with pytest.raises(TypeError, match="asked for by name or number, not by a"):
            found[key]


def test_a_layer_beside_an_alias_of_it(connect: Any, server: FakeServer) -> None:
    layers = ["avgpool", LayerSelection("cnn-code", "max")]
    found = connect(server.address).call("extract_features", b"x", layers)
    assert found["avgpool"] is found[0] and found["cnn-code"] is found[1]


def test_a_table_of_one(connect: Any, server: FakeServer) -> None:
    one = connect(server.address).call("extract_features", b"x", "a")
    table = features_table(one)
    assert list(table) == ["image", "a[0]", "a[1]", "a[2]", "a[3]"]
    assert [column.tolist() for column in table.values()] == [[0], [0], [1], [2], [3]]
    assert list(features_table(InvalidImage("none"))) == ["image"]
    wrong: Any
    for wrong in ([one, one[0]], list(one), [None]):
        with pytest.raises(TypeError, match="it must be Features or a ConvLensError"):
            features_table(wrong)


def test_names_in_a_table_are_one_cell_each(connect: Any, server: FakeServer) -> None:
    one = connect(server.address).call("extract_features", b"x", "a")
    for names in ([("a", 1), ("b", 2)], [np.zeros(2), np.ones(3)], list(np.zeros((2, 4)))):
        column = features_table([one, one], names)["image"]
        assert column.shape == (2,) and column[1] is names[1]


@pytest.mark.parametrize("dtype", [tensor_pb2.DATA_TYPE_INT64, tensor_pb2.DATA_TYPE_UINT8])
def test_the_fake_server_refuses_other_numbers(server: FakeServer, dtype: Any) -> None:
    selection = feature_pb2.LayerSelection(layer="a", dtype=dtype)
    request = feature_pb2.ExtractFeaturesRequest(layers=[selection])
    request.images.add(encoded=b"x")
    with pytest.raises(Failure, match=r"layers\[0\]\.dtype"):
        server.answer("ExtractFeatures", request)
