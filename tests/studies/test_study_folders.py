"""What all studies share: names of files as they come, and folders and pages of what was found."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from PIL import Image

from convlens.client import Client, InvalidRequest, studies
from convlens.client._picture_files import found
from convlens.client.cli._study_page import study_page
from convlens.client.studies import Facts, Study
from convlens.client.studies._accuracy_charts import shares_chart
from convlens.client.studies._attributes import Attribute, attributes_of
from convlens.client.studies._shares import Share
from convlens.client.studies._told import Told

# The third is no text in UTF-8.
ODD = (
    b"a b.png",
    b"-dash.png",
    b"\xff\xfe.png",
    "ünï☃.png".encode(),
    b"new\nline.png",
    b'a,b".png',
)


class Made(Study):
    """A study of made-up tables and figures."""

    name, heading = "made", "What was made up"
    facts = Facts("shapes@1", "0", 1, 1.0)

    def __init__(self, *titles: str, rows: int = 1) -> None:
        self.titles, self.rows = titles, rows

    @property
    def findings(self) -> list[str]:
        return ["It is 12.5 ± 1.0 %."]

    def tables(self) -> Mapping[str, DataFrame]:
        return {title: DataFrame({"title": [title] * self.rows}) for title in self.titles}

    def figures(self) -> Mapping[str, Image.Image]:
        return {title: Image.new("RGB", (4, 4)) for title in self.titles}


@pytest.fixture(scope="module")
def odd(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose files have odd names."""
    folder = tmp_path_factory.mktemp("odd") / "pictures"
    folder.mkdir()
    for path, name in zip(found(drawn)[::7], ODD, strict=True):
        shutil.copy(path, folder / os.fsdecode(name))
    return folder


@pytest.mark.parametrize(
    "given",
    [
        ("map", "--way", "pca"),
        ("top-patches", "--layer", "features.15", "--maps", "1"),
        ("invariance", "--layers", "cnn-code", "--translations", "8", "--scales", "1.2"),
        ("neighbours",),
    ],
    ids=lambda given: given[0],
)
def test_files_may_have_any_names(run, odd: Path, tmp_path: Path, given: tuple[str, ...]) -> None:
    more = ("--query", odd) if given[0] == "neighbours" else ()
    result = run(*given, *more, odd, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    names = {
        Path(row["picture"]).name
        for rows in document["tables"].values()
        for row in rows
        if "picture" in row
    }
    assert {"ünï☃.png", "\N{REPLACEMENT CHARACTER}" * 2 + ".png", "new\nline.png"} <= names
    assert (tmp_path / "out" / "page.html").read_text("utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("content", ["empty", "broken"])
@pytest.mark.parametrize(
    "given",
    [
        ("accuracy",),
        ("health",),
        ("human",),
        ("invariance", "--layers", "logits"),
        ("layers", "--layers", "logits"),
        ("map",),
        ("neighbours", "--query", "pictures"),
        ("removal", "--layers", "features.8"),
        ("top-patches", "--layer", "features.15"),
    ],
    ids=lambda given: given[0],
)
def test_a_folder_without_any_picture_is_refused(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("star", "ring", "heart"):
        folder = Path("pictures", name)
        folder.mkdir(parents=True)
        for number in range(2 if content == "broken" else 0):
            (folder / f"{number}.png").write_bytes(b"no picture")
    result = run(*given, "pictures", "--out", "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("convlens: No picture")
    assert not Path("out").exists()


def test_a_picture_that_is_named_twice_counts_once(client: Client, drawn: Path) -> None:
    star = drawn / "star"
    names = [star, f"{star}/../star", *found(star)]
    patches = studies.top_patches(client, names, "features.15", maps=[1])
    assert patches.facts.pictures == len(found(star))


def test_paths_may_be_texts(client: Client, drawn: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    report = studies.accuracy(client, str(drawn), factors=str(drawn / "factors.csv"), state=state)
    assert report.facts.pictures == 40 and (tmp_path / "state" / "network-0").is_dir()
    with pytest.raises(InvalidRequest, match="would leave none to judge by"):
        studies.layers(client, str(drawn), ["logits"], splits=1)


def test_titles_that_differ_in_signs_alone_have_files_of_their_own(tmp_path: Path) -> None:
    Made("By 色", "By 形", "by").save(tmp_path)
    document = json.loads((tmp_path / "study.json").read_text())
    for title, name in document["tables"].items():
        assert (tmp_path / name).read_text("utf-8") == f"title\n{title}\n"
    assert sorted(document["figures"].values()) == ["by-2.png", "by-3.png", "by.png"]


def test_what_another_study_left_there_is_gone(tmp_path: Path) -> None:
    Made("One", "Two").save(tmp_path)
    (tmp_path / "mine.csv").write_text("mine")
    Made("Two", "Three").save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("study.json", "mine.csv", "two.csv", "two.png", "three.csv", "three.png")
    }


def test_a_document_that_names_other_files_removes_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Made("One").save(out)
    (tmp_path / "precious.csv").write_text("mine")
    document = json.loads((out / "study.json").read_text())
    document["tables"]["One"] = "../precious.csv"
    (out / "study.json").write_text(json.dumps(document))
    Made("Two").save(out)
    assert (tmp_path / "precious.csv").exists()


def test_a_page_says_what_it_is_once_and_what_is_empty(tmp_path: Path) -> None:
    Made("Lines", rows=0).save(tmp_path)
    page = study_page(tmp_path, "convlens study made --out out")
    assert page.count("What was made up</h") == 1 and "1 picture · shapes@1" in page
    assert '<td class="none" colspan="1">none</td>' in page
    # No line ends within a number, or within an option.
    assert "12.5\u00a0±\u00a01.0\u00a0%" in page and "<span>--out</span>" in page


def test_a_cell_that_is_no_number_says_nothing(drawn: Path, tmp_path: Path) -> None:
    pictures = found(drawn)
    cells = ["NaN", "", "nan", *map(str, range(len(pictures) - 3))]
    rows = [f"{path.relative_to(drawn)},{cell}" for path, cell in zip(pictures, cells, strict=True)]
    (tmp_path / "factors.csv").write_text("\n".join(["file,size", *rows]))
    [size] = attributes_of(tmp_path / "factors.csv", drawn, pictures)
    assert size.is_ordered and len(size.values) == 4
    assert list(size.of[:4]) == ["", "", "", size.values[0]]


def test_a_factor_called_class_has_a_title_of_its_own(
    client: Client, drawn: Path, tmp_path
) -> None:
    rows = [f"{path.relative_to(drawn)},{path.parent.name[0]}" for path in found(drawn)]
    (tmp_path / "factors.csv").write_text("\n".join(["file,class", *rows]))
    report = studies.accuracy(client, drawn, factors=tmp_path / "factors.csv")
    assert "Accuracy by the factor class" in report.figures()
    assert len(report.tables()["Accuracy by the factor class"]) < len(report.classes)


def test_the_label_below_long_names_is_whole() -> None:
    chart = np.asarray(shares_chart([Share("2 networks together, 2 scales, 10 crops", 9, 10)]))
    assert (chart[:, :3] > 250).all() and (chart[:, -3:] > 250).all()


@pytest.mark.parametrize("out", ["/proc/out", "/dev/null"])
def test_a_folder_that_cannot_be_made_is_told(run, drawn: Path, out: str) -> None:
    result = run("top-patches", drawn, "--layer", "features.15", "--maps", "1", "--out", out)
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr and "defect" not in result.stderr


def test_a_folder_of_another_study_is_not_gone_on_from(run, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    (out / "state" / "notes.txt").write_text("mine")
    result = run("top-patches", drawn, "--layer", "features.15", "--maps", "1", "--out", out)
    assert (
        result.exit_code == 1
        and "is not of this command; name another state (--out)" in result.stderr
    )
    assert "goes on from it" not in result.stderr
    assert (out / "state" / "notes.txt").read_text() == "mine"


def test_factors_that_make_no_difference_are_told_together() -> None:
    told = Told(np.zeros(4, int), np.full(4, 0.9), np.full(4, 0.9), np.zeros(4, int))
    factors = [Attribute(name, ["1", "2"], ["1", "2"] * 2, True) for name in ("x", "y", "marks")]
    pictures = [Path("gone.png")] * 4
    shown = studies.Accuracy(
        Facts("x@1", "", 4, 1.0), ["p", "q"], pictures, np.zeros(4, int), {"x@1": told}, factors
    )
    assert "By x, y and marks: no difference." in shown.findings
