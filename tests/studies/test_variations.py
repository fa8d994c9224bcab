"""Variations against plain NumPy on whole codes, exact shares of made-up codes, and bad tables."""

import csv
import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client.studies._factor_variance import dimension, parts, products
from convlens.client.studies._grid import Factor
from convlens.workers.shapes.variations import values, write

LAYERS = ["features.12", "logits"]
FACTORS = ["class", "position", "scale", "rotation", "colour"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes, 4 positions, 2 scales, 3 rotations, 2 colours of one style; read only."""
    folder = tmp_path_factory.mktemp("variations") / "rendered"
    write(folder, values(["arrow", "heart"], 2, 2, 3, 2, 1))
    return folder


@pytest.fixture(scope="module")
def study(client: Client, rendered: Path) -> studies.Variations:
    return studies.variations(client, rendered / "factors.csv", LAYERS)


def lines(table: Path) -> list[list[str]]:
    with table.open(newline="") as file:
        return list(csv.reader(file))


def written(folder: Path, rows: list[list[str]]) -> Path:
    table = folder / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return table


def needed(variances: np.ndarray) -> int:
    return 1 + int((np.cumsum(variances) >= 0.9 * (1 - 1e-9) * variances.sum()).argmax())


def test_shares_are_those_of_plain_numpy(client: Client, rendered: Path, study) -> None:
    heads, *rows = lines(rendered / "factors.csv")
    files = [rendered / row[0] for row in rows]
    for layer in LAYERS:
        codes = np.stack([client.extract_features(file, layer)[layer].ravel() for file in files])
        centred = codes.astype(float) - codes.astype(float).mean(0)
        total = (centred**2).sum(1).mean()
        left = centred.copy()
        for name, part in zip(FACTORS, study.parts[layer].factors, strict=True):
            column = np.array([row[heads.index(name)] for row in rows])
            marginal = np.zeros_like(centred)
            for value in set(column):
                marginal[column == value] = centred[column == value].mean(0)
            left -= marginal
            assert part.name == name
            assert part.share == pytest.approx((marginal**2).sum(1).mean() / total, rel=1e-6)
            variances = np.linalg.svd(marginal, compute_uv=False) ** 2
            assert part.dimension == needed(variances)
        rest = study.parts[layer].rest
        assert rest.share == pytest.approx((left**2).sum(1).mean() / total, rel=1e-6)
        assert study.parts[layer].total == pytest.approx(1, abs=1e-9)
        for given, part in ((left, rest), (centred, study.parts[layer])):
            variances = np.linalg.svd(given, compute_uv=False) ** 2
            assert part.dimension == needed(variances)


def grid_of(*sizes: int) -> tuple[np.ndarray, list[Factor]]:
    levels = np.array(list(product(*map(range, sizes))))
    factors = [
        Factor(f"f{n}", tuple(map(str, range(size))), levels[:, n]) for n, size in enumerate(sizes)
    ]
    return levels, factors


def test_made_up_codes_have_exact_shares() -> None:
    levels, factors = grid_of(2, 3, 5)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(size, 40)) * (n + 1) for n, size in enumerate((2, 3, 5))]
    codes = np.sum([vector[levels[:, n]] for n, vector in enumerate(vectors)], 0) + 7
    found = parts(products(codes), factors)
    spreads = [((vector - vector.mean(0)) ** 2).sum(1).mean() for vector in vectors]
    shares = [part.share for part in found.factors]
    np.testing.assert_allclose(shares, np.array(spreads) / sum(spreads), rtol=1e-12)
    assert found.variance == pytest.approx(sum(spreads), rel=1e-12)
    assert found.rest.share == pytest.approx(0, abs=1e-12) and found.rest.dimension == 0
    assert found.total == pytest.approx(1, abs=1e-12)


def test_what_factors_do_together_is_the_rest() -> None:
    levels, factors = grid_of(2, 2)
    codes = (levels[:, :1] ^ levels[:, 1:]).astype(float)
    found = parts(products(codes), factors)
    assert [part.share for part in found.factors] == pytest.approx([0, 0], abs=1e-12)
    assert [part.dimension for part in found.factors] == [0, 0]
    assert found.rest.share == pytest.approx(1) and found.rest.dimension == 1


def test_a_factor_on_a_circle_is_drawn_on_one() -> None:
    _, factors = grid_of(8, 3)
    angles = 2 * np.pi * factors[0].levels / 8
    codes = np.stack([np.cos(angles), 0 * angles, np.sin(angles), factors[1].levels * 2.0], 1)
    found = parts(products(codes), factors)
    circle, line = (part.places for part in found.factors)
    assert circle is not None and line is not None
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1, atol=1e-9)
    steps = np.linalg.norm(circle - np.roll(circle, 1, 0), axis=1)
    np.testing.assert_allclose(steps, 2 * np.sin(np.pi / 8), atol=1e-9)
    np.testing.assert_allclose(line, [[-2, 0], [0, 0], [2, 0]], atol=1e-6)
    assert [part.dimension for part in found.factors] == [2, 1]


def test_long_codes_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(3).normal(size=(6, 5, 7)).astype(np.float32) + 100
    monkeypatch.setattr("convlens.client.studies._factor_variance.BLOCK", 24)
    centred = codes.reshape(6, -1).astype(float)
    centred -= centred.mean(0)
    np.testing.assert_allclose(products(codes), centred @ centred.T, atol=1e-9)


def test_dimensions_are_counted_to_nine_tenths() -> None:
    assert dimension(np.array([1.0, 9.0])) == 1
    assert dimension(np.array([5.0, 1.0, 4.0])) == 2
    assert dimension(np.array([1.0] * 10)) == 9


def test_pictures_stand_for_values(rendered: Path, study) -> None:
    from PIL import Image

    heads, *rows = lines(rendered / "factors.csv")
    by_turn = {float(row[heads.index("rotation")]): row for row in reversed(rows)}
    for value, tile in zip(("0", "120", "240"), study.shown["rotation"], strict=True):
        expected = np.asarray(Image.open(rendered / by_turn[float(value)][0]))
        np.testing.assert_array_equal(tile, expected)
    [rotation] = [factor for factor in study.factors if factor.name == "rotation"]
    assert rotation.values == ("0", "120", "240") and rotation.is_ordered


def test_findings_and_tables_have_every_layer(study) -> None:
    first, *_, note = study.findings
    assert first.startswith("From features.12 to logits, the share of class grows most, from ")
    assert note == "Left out, since only one value is there: style."
    shares = study.tables()["Shares of the variance"]
    assert len(shares) == 2 * (len(FACTORS) + 2)
    assert (shares.query("part == 'all'")["share"].round(9) == 1).all()
    assert len(study.tables()["Embeddings"]) == 2 * (2 + 4 + 2 + 3 + 2)


def test_a_small_hole_is_said(client: Client, rendered: Path, tmp_path: Path) -> None:
    heads, *rows = lines(rendered / "factors.csv")
    table = written(tmp_path, [heads, *rows[1:]])
    heard: list[str] = []
    found = studies.variations(
        client,
        table,
        ["logits"],
        folder=rendered,
        progress=lambda what, done, total: heard.append(what),
    )
    note = found.findings[-1]
    assert note.startswith(
        "1 of 96 combinations of values has no picture: class=arrow position=0.34/0.34"
    )
    assert "shares add up to" in note and found.parts["logits"].total == pytest.approx(1, abs=0.05)
    assert any("are left out: " in text and "00000.png" in text for text in heard)


def test_an_interrupted_study_goes_on(
    client: Client, rendered: Path, tmp_path: Path, study
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "looking" and done == 40:
            raise KeyboardInterrupt

    table, state, counts = rendered / "factors.csv", tmp_path / "state", list[int]()
    with pytest.raises(KeyboardInterrupt):
        studies.variations(client, table, LAYERS, state=state, progress=interrupt)
    resumed = studies.variations(
        client,
        table,
        LAYERS,
        state=state,
        progress=lambda what, done, _: counts.append(done) if what == "looking" else None,
    )
    assert counts[0] == 40
    for layer, found in study.parts.items():
        assert resumed.parts[layer].rest.share == pytest.approx(found.rest.share, rel=1e-5)


def bad_tables(heads: list[str], rows: list[list[str]]):
    place = heads.index("rotation")
    half = [row for row in rows if row[place] != "0" or row[1] == "arrow"]
    return {
        "The grid is not complete: of 96 combinations": [heads, *half],
        "class=heart position=0.34/0.34": [heads, *half],
        "line 3: there is no file 'gone.png', and 1 more are missing": [
            heads,
            rows[0],
            ["gone.png", *rows[1][1:]],
            ["too.png", *rows[2][1:]],
        ],
        "is in .* already": [heads, *rows, rows[0]],
        "Each factor has one value only: class, position": [heads, rows[0]],
        "the header is 'name,x'": [["name", "x"], ["a.png", "1"]],
        "one for each factor": [["file"], [rows[0][0]]],
        "two columns 'class'": [["file", "class", "class"], rows[0][:3]],
        "line 2: there is no scale": [heads, [*rows[0][:3], "", *rows[0][4:]]],
        "has no pictures, only a header": [heads],
    }


@pytest.mark.parametrize("number", range(10))
def test_bad_tables_are_refused(client, rendered: Path, tmp_path: Path, number: int) -> None:
    heads, *rows = lines(rendered / "factors.csv")
    words, table = list(bad_tables(heads, rows).items())[number]
    with pytest.raises(InvalidRequest, match=words):
        studies.variations(client, written(tmp_path, table), LAYERS, folder=rendered)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b'file,"', "no CSV"),
    ],
)
def test_what_is_no_table_is_refused(client, tmp_path: Path, content, words: str) -> None:
    table = tmp_path / "factors.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(InvalidRequest, match=words):
        studies.variations(client, table, LAYERS)


def test_layers_that_say_nothing_are_refused(client, rendered: Path, tmp_path: Path) -> None:
    table = rendered / "factors.csv"
    with pytest.raises(NotFound, match=r"features\.99"):
        studies.variations(client, table, ["features.99"])
    with pytest.raises(InvalidRequest, match="named twice"):
        studies.variations(client, table, ["logits", "logits"])
    _, *rows = lines(table)
    for name in ("one.png", "other.png"):
        shutil.copy(rendered / rows[0][0], tmp_path / name)
    same = written(tmp_path, [["file", "x"], ["one.png", "1"], ["other.png", "2"]])
    with pytest.raises(InvalidRequest, match="All pictures have the same code at logits"):
        studies.variations(client, same, ["logits"])


def test_too_many_pictures_are_refused(client, rendered: Path, monkeypatch) -> None:
    monkeypatch.setattr("convlens.client.studies._variations.MOST", 95)
    with pytest.raises(InvalidRequest, match="has 96 pictures; at most 95"):
        studies.variations(client, rendered / "factors.csv", LAYERS)


def test_the_command_skips_what_cannot_be_read(run, rendered: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "rendered", tmp_path / "out"
    shutil.copytree(rendered, folder)
    (folder / "00003.png").write_bytes(b"no picture")
    result = run("variations", folder, "--layers", "features.12,logits", "--out", out)
    assert result.exit_code == 1
    assert "00003.png: The image cannot be read" in result.stderr
    assert "1 of 96 combinations of values has no picture" in result.stdout
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["00003.png"]
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "shares-of-the-variance.csv", "embeddings.csv"),
        "shares-of-the-variance-by-layer.png",
        *(f"factors-in-the-codes-of-{layer}.png" for layer in ("features-12", "logits")),
    }


def test_a_folder_without_a_table_is_refused(run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("variations", tmp_path, "--layers", "logits", "--out", out)
    assert result.exit_code == 1
    assert "factors.csv cannot be read" in result.stderr and not out.exists()
