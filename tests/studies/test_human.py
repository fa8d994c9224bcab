"""The numbers of a person against the network, the answers on disk, and bad cases."""

import json
import shutil
from math import comb, sqrt
from pathlib import Path

import numpy as np
import pytest

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._spool import Spool
from convlens.client.studies._human_game import Answers, Game, Question, table_of
from convlens.client.studies._shares import Share, chance

QUESTIONS = [
    Question(Path(f"{number}.png"), truth, network, 0.9)
    for number, (truth, network) in enumerate([(0, [0, 1]), (1, [0, 1]), (2, [2, 0]), (3, [1, 0])])
]


@pytest.mark.parametrize(("right", "of"), [(0, 5), (5, 5), (7, 9), (1, 1), (80, 100)])
def test_intervals_are_wilsons(right: int, of: int) -> None:
    z, share = 1.959963984540054, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    found = Share("", right, of)
    assert found.share == share
    assert found.low == pytest.approx(middle - half, abs=1e-9)
    assert found.high == pytest.approx(middle + half, abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (2, 9), (11, 0), (40, 25)])
def test_mcnemars_p_is_a_sum_of_binomials(first: int, second: int) -> None:
    n, least = first + second, min(first, second)
    tail = sum(comb(n, k) for k in range(least + 1)) / 2**n
    assert chance(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_the_table_counts_first_answers() -> None:
    given = [[0], [1, 0], [1, 2], [2]]
    assert table_of(QUESTIONS, given).tolist() == [[1, 1], [1, 1]]
    assert table_of(QUESTIONS, given[:1]).tolist() == [[1, 0], [0, 0]]


def test_answers_are_on_disk_at_once_and_can_be_taken_back(tmp_path: Path) -> None:
    for question in QUESTIONS:
        (tmp_path / question.picture).write_bytes(b"")
    here = [Question(tmp_path / q.picture, q.truth, q.network, 1) for q in QUESTIONS]
    spool = Spool(tmp_path / "answers", {"questions": "4"})
    answers = Answers(spool, here)
    for classes in ([0], [3, 1], [2]):
        answers.add(classes)
    answers.take_back()
    answers.take_back()
    answers.add([1, 2, 3, 4, 0])
    # Whatever becomes of this process now, another one finds them.
    shutil.copytree(tmp_path / "answers", tmp_path / "found")
    spool.close()
    (tmp_path / "found" / "lock").unlink(missing_ok=True)
    again = Spool(tmp_path / "found", {"questions": "4"})
    assert Answers(again, here).given == [[0], [1, 2, 3, 4, 0]]
    again.close()


@pytest.fixture
def game(tmp_path: Path):
    spool = Spool(tmp_path / "answers", {})
    yield Game(QUESTIONS, Answers(spool, QUESTIONS), 4, 2)
    spool.close()


@pytest.mark.parametrize(
    ("number", "classes"),
    [(1, [0]), (-1, [0]), (0, []), (0, [4]), (0, [-1]), (0, [0, 0]), (0, [0, 1, 2])],
)
def test_what_is_no_answer_changes_nothing(game: Game, number: int, classes: list[int]) -> None:
    assert not game.answer(number, classes)
    assert game.state()["answered"] == 0 and not game.end()


def test_nothing_is_told_before_the_answer(game: Game) -> None:
    assert game.state() == {
        "total": 4,
        "answered": 0,
        "table": [[0, 0], [0, 0]],
        "last": None,
        "over": False,
    }
    assert [game.is_seen(number) for number in (-1, 0, 1)] == [False, True, False]
    assert game.answer(0, [1, 0])
    assert game.state()["last"] == {
        "number": 0,
        "truth": 0,
        "human": [1, 0],
        "network": [0, 1],
        "probability": 0.9,
    }
    assert [game.is_seen(number) for number in (0, 1, 2)] == [True, True, False]


def test_only_the_last_answer_is_taken_back_and_none_after_the_end(game: Game) -> None:
    for number in range(4):
        assert game.answer(number, [number])
    assert not game.answer(4, [0])
    assert not game.take_back(2) and game.take_back(3) and not game.take_back(3)
    assert game.end()
    assert not game.take_back(2) and not game.answer(3, [0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guesses": 0}, "guesses is 0; it must be 1 to 5"),
        ({"guesses": 6}, "guesses is 6; it must be 1 to 5"),
        ({"count": 0}, "count is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(client, drawn, given, words) -> None:
    with pytest.raises(InvalidRequest, match=words):
        studies.human(client, drawn, **given)


def test_labels_must_be_there_and_the_networks(client: Client, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="There is no folder"):
        studies.human(client, tmp_path / "none")
    with pytest.raises(InvalidRequest, match="No pictures in"):
        studies.human(client, tmp_path)
    with pytest.raises(InvalidRequest, match="lies in no folder that names its class"):
        studies.human(client, drawn / "star")
    shutil.copytree(drawn / "star", tmp_path / "starfish")
    with pytest.raises(InvalidRequest, match="has no class 'starfish'; it has circle, ring"):
        studies.human(client, tmp_path)
    with pytest.raises(NotFound):
        studies.human(client, drawn, network="none")


def test_the_command_refuses_a_folder_without_a_readable_picture(run, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "star").mkdir(parents=True)
    (tmp_path / "pictures" / "star" / "broken.png").write_bytes(b"no picture")
    result = run("human", tmp_path / "pictures", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("convlens: No picture has an answer")
    assert not (tmp_path / "out").exists()


def test_what_came_of_it_is_saved(tmp_path: Path, drawn: Path, client: Client) -> None:
    """The page is left out here: its address is answered by a thread of this test."""
    from urllib.request import Request, urlopen

    def answer(address: str) -> None:
        import threading

        def ask(what: str, body: object = None):
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            with urlopen(Request(address + what, data, headers)) as response:
                return json.load(response)

        def play() -> None:
            for number in range(6):
                state = ask("answer", {"number": number, "classes": [0, number + 1]})
                assert state["answered"] == number + 1
            ask("enough", {})

        threading.Thread(target=play, daemon=True).start()

    made = studies.human(client, drawn, count=6, guesses=2, opened=answer)
    labels = client.network().labels
    assert made.facts.pictures == len(made.answered) == 6 == made.table.sum()
    assert made.first["human"].right == sum(each.truth == labels[0] for each in made.answered)
    assert made.guesses["human"].right == sum(each.truth in each.human for each in made.answered)
    tops = [client.classify(each.picture, top_k=2).classes for each in made.answered]
    for each, classes in zip(made.answered, tops, strict=True):
        assert list(each.network) == [score.label for score in classes]
        assert each.truth == each.picture.parent.name
        np.testing.assert_allclose(each.probability, classes[0].probability or 0, atol=1e-5)
    made.save(tmp_path / "out")
    document = json.loads((tmp_path / "out" / "study.json").read_text())
    assert document["tables"].keys() == {"Accuracy", "Human and network", "Answers"}
    assert "up to 2 answers" in document["findings"][-1]
