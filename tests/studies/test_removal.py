"""The accuracy without layers against copies of the network, and how a study ends in bad cases."""

import copy
import csv
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convlens.client import (
    Client,
    InvalidRequest,
    Layer,
    NotFound,
    studies,
)
from convlens.client._picture_files import found
from convlens.client.studies._removable import lecture_groups, likely_layers
from convlens.workers.shapes.draw import CLASSES
from convlens.workers.shapes.network import load, standardised

LAYERS = ("features.8", "features.11", "classifier.3")
GROUPS = (("features.8", "features.13"), ("features.13", "classifier.1"))


class Stand(nn.Module):
    """Gives what it takes, or zeros of the shape [..., *shape]."""

    def __init__(self, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone() if self.shape is None else torch.zeros(len(x), *self.shape)


# Maps of 64 channels and 16 x 16 places, and a code of 128.
ZEROED = {"features.11": (64, 16, 16), "classifier.1": (128,)}


def right_by_hand(paths: list[Path], removed: tuple[str, ...]) -> int:
    """Picture by picture through a copy of the network with other modules in it."""
    body = copy.deepcopy(load())
    for name in removed:
        body.set_submodule(name, Stand(ZEROED.get(name)))
    right = 0
    for path in paths:
        pixels = torch.tensor(np.asarray(Image.open(path))) / 255
        with torch.inference_mode():
            scores = body(standardised(pixels.permute(2, 0, 1)[None]))[0].tolist()
        right += CLASSES[scores.index(max(scores))] == path.parent.name
    return right


def test_the_accuracies_are_those_of_copies_of_the_network(client: Client, drawn: Path) -> None:
    study = studies.removal(client, drawn, layers=LAYERS, groups=GROUPS)
    paths = found(drawn)
    for each in (study.whole, *study.single, *study.groups):
        assert (each.right, each.pictures) == (right_by_hand(paths, tuple(each.how)), 40)
        for name, how in each.how.items():
            assert how == ("zeros" if name in ZEROED else "identity")
    assert [tuple(each.how) for each in study.single] == [(name,) for name in LAYERS]
    assert [tuple(each.how) for each in study.groups] == list(GROUPS)
    assert [each.kind for each in study.single] == ["Conv2d", "Conv2d", "Linear"]
    assert study.lost(study.single[0]) > 0.3


def test_intervals_are_wilsons() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I.
    for right, pictures, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        interval = studies.Without({}, "", right, pictures).interval
        assert interval == pytest.approx((low, high), abs=5e-5)
    assert studies.Without({}, "", 0, 20).interval[0] == 0


def test_the_stream_and_the_call_remove_alike_and_a_layer_stays_for_others(
    client: Client, drawn: Path
) -> None:
    paths = found(drawn)[:6]
    before = client.extract_features(paths, "logits")
    gone = client.extract_features(paths, "logits", removed_layers="features.8")
    streamed = client.extract_features_stream(paths, "logits", removed_layers=["features.8"])
    after = client.extract_features(paths, "logits")
    for one, two, three, four in zip(before, gone, streamed, after, strict=True):
        np.testing.assert_array_equal(one["logits"], four["logits"])
        np.testing.assert_allclose(two["logits"], three["logits"], atol=1e-4)
        assert not np.allclose(one["logits"], two["logits"], atol=1e-2)
        assert two.removed == three.removed == {"features.8": "identity"}
        assert two.receipt.to_dict()["parameters"]["removed_layers"] == ["features.8"]
        assert one.receipt.request_digest != two.receipt.request_digest


def layers_of(*named: tuple[str, str]) -> list[Layer]:
    """Layers of these names and kinds."""
    return [Layer(name, kind, (), 0, 0, 0, 0, None, True, True, True) for name, kind in named]


def test_blocks_are_those_that_end_with_a_sum() -> None:
    layers = layers_of(
        ("conv1", "Conv2d"),
        ("maxpool", "MaxPool2d"),
        ("layer1.0.conv1", "Conv2d"),
        ("layer1.0.add", "add"),
        ("block.add", "add"),
        ("block.linear", "linear"),
        ("block.add_1", "add"),
        ("mean", "mean"),
        ("fc", "Linear"),
    )
    assert likely_layers(layers) == [
        *("conv1", "maxpool", "layer1.0.conv1", "layer1.0", "block.linear", "block", "fc")
    ]


def test_groups_are_those_of_the_lectures() -> None:
    names = [f"conv{n}" for n in range(1, 6)], [f"fc{n}" for n in (6, 7, 8)]
    layers = layers_of(
        *((name, "Conv2d") for name in names[0]), *((name, "Linear") for name in names[1])
    )
    alex: dict[str, Any] = dict.fromkeys([*names[0], *names[1]], "zeros")
    four = ("conv3", "conv4", "fc6", "fc7")
    assert lecture_groups(layers, alex) == [four[:2], four[2:], four]
    alex.update(conv2="identity", conv4="identity", fc7="identity")
    assert lecture_groups(layers, alex) == [
        *(("conv2", "conv4"), ("fc6", "fc7")),
        *(("conv2", "conv4", "fc6", "fc7"), ("conv2", "conv4", "fc7")),
    ]
    alex.update(block="identity", other="zeros", last="identity")
    assert lecture_groups(layers, alex)[-1] == ("block", "last")
    assert lecture_groups(layers_of(("fc", "Linear")), {"fc": "zeros"}) == []


def test_all_that_can_be_removed_is_by_default(client: Client, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    for path in found(drawn)[:1] + found(drawn)[-1:]:
        (folder / path.parent.name).mkdir(parents=True)
        shutil.copy(path, folder / path.parent.name)
    study = studies.removal(client, folder)
    kinds = {each.title: each.kind for each in study.single}
    assert len(kinds) == 15
    assert {kind: list(kinds.values()).count(kind) for kind in kinds.values()} == {
        "Conv2d": 7,
        "MaxPool2d": 5,
        "Linear": 3,
    }
    assert [each.title for each in study.groups] == [
        "features.8 + features.13",
        "classifier.1 + classifier.3",
        "features.8 + features.13 + classifier.1 + classifier.3",
        "features.8 + features.13 + classifier.3",
    ]
    assert study.findings[0].startswith("The shape of Zeiler & Fergus 2013, table 3, does not")


def of_counts(whole: int, single: dict[str, int], group: int) -> studies.RemovalStudy:
    """A study of 100 pictures that were right so often."""

    def without(names: list[str], right: int) -> studies.Without:
        return studies.Without({name: "identity" for name in names}, "Conv2d", right, 100)

    return studies.RemovalStudy(
        studies.Facts("n@1", "", 100, 1.0),
        without([], whole),
        [without([name], right) for name, right in single.items()],
        [without(list(single), group)],
        {},
        {"a": 0.6, "b": 0.4},
    )


@pytest.mark.parametrize(
    ("single", "group", "words"),
    [
        ({"a": 88, "b": 85}, 30, "The shape of Zeiler & Fergus 2013, table 3, shows"),
        ({"a": 40, "b": 45}, 30, "table 3, does not show"),
        ({"a": 88, "b": 85}, 84, "only the first half shows"),
        ({"a": 75, "b": 75}, 10, "only the second half shows"),
    ],
)
def test_whether_the_lectures_shape_shows(single: dict[str, int], group: int, words: str) -> None:
    assert words in of_counts(90, single, group).findings[0]


def test_an_interrupted_run_goes_on_where_it_was(
    client: Client, drawn: Path, tmp_path: Path
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "removing" and done == 9:
            raise KeyboardInterrupt

    asked: dict[str, Any] = {"layers": ["features.8"], "state": tmp_path / "state" / "rows"}
    with pytest.raises(KeyboardInterrupt):
        studies.removal(client, drawn, progress=interrupt, **asked)
    counts: list[int] = []
    resumed = studies.removal(
        client,
        drawn,
        progress=lambda what, done, total: counts.append(done) if what == "removing" else None,
        **asked,
    )
    assert counts[0] == 9
    whole = studies.removal(client, drawn, layers=["features.8"])
    assert [each.right for each in resumed.single] == [each.right for each in whole.single]
    with pytest.raises(InvalidRequest, match="is of a run with removed"):
        studies.removal(client, drawn, layers=["features.13"], state=asked["state"])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layers": ["features.99"]}, NotFound, "has no layer 'features.99'"),
        ({"groups": [["features.8", "conv"]]}, NotFound, "has no layer 'conv'"),
        ({"layers": []}, InvalidRequest, "No layer is named"),
        ({"layers": ["features.8", "features.8"]}, InvalidRequest, "is named twice"),
        ({"groups": [["features.8"]]}, InvalidRequest, "must have two layers or more, each once"),
        ({"groups": [["a", "a"]]}, InvalidRequest, "must have two layers or more, each once"),
        (
            {"layers": [], "groups": [["classifier.5", "logits"]]},
            InvalidRequest,
            "name each layer once",
        ),
    ],
)
def test_what_cannot_be_removed_is_refused(
    client: Client, drawn: Path, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        studies.removal(client, drawn, **cast(Any, {"layers": LAYERS, **given}))


def test_pictures_of_one_class_are_told_of(client: Client, drawn: Path) -> None:
    labels = drawn.parent / "one.csv"
    lines = [f"{path.relative_to(drawn)},star" for path in found(drawn)]
    labels.write_text("\n".join(["file,label", *lines]))
    study = studies.removal(client, drawn, layers=["features.8"], labels=labels)
    assert any("All pictures are of star" in said for said in study.findings)


def test_labels_that_are_no_classes_are_refused(client: Client, drawn: Path) -> None:
    labels = drawn.parent / "wrong.csv"
    labels.write_text(
        "\n".join(["file,label", *(f"{p.relative_to(drawn)},x" for p in found(drawn))])
    )
    with pytest.raises(InvalidRequest, match="has no class 'x'"):
        studies.removal(client, drawn, layers=["features.8"], labels=labels)


def test_the_command_skips_what_cannot_be_read(run: Any, drawn: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn / "star", folder / "star")
    shutil.copytree(drawn / "ring", folder / "ring")
    (folder / "star" / "broken.png").write_bytes(b"no picture")
    asked = (folder, "--layers", "features.8, classifier.1", "--group", "features.8 + classifier.1")
    result = run("removal", *asked, "--out", out)
    assert result.exit_code == 1
    assert "broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["broken.png"]
    with (out / "accuracy-without-layers.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["removed"], row["in its place"]) for row in rows] == [
        ("none", ""),
        ("features.8", "identity"),
        ("classifier.1", "zeros"),
        ("features.8 + classifier.1", "identity + zeros"),
    ]
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "accuracy-without-layers.csv"),
        "accuracy-lost-without-layers.png",
    }
