"""`convlens classify`: what it finds, prints, counts."""

import csv
import io
import itertools
import json
import os
import re

import pytest
from rich.cells import cell_len

from convlens.client._picture_files import find
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import target_pb2


def test_a_folder_is_searched(pictures):
    assert find([str(pictures)]) == [
        pictures / "a.png",
        pictures / "b.JPG",
        pictures / "deep/er/c.webp",
    ]


def test_files_patterns_and_names_of_nothing_keep_their_order(pictures):
    names = [str(pictures / name) for name in ("notes.txt", "*.png", "deep/**/*", "zzz", "q*")]
    assert [str(path.relative_to(pictures)) for path in find(names)] == [
        "notes.txt",
        "a.png",
        "deep/er/c.webp",
        "deep/er/c.webp",
        "zzz",
        "q*",
    ]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"x")
    assert find([str(tmp_path / "a[1].png")]) == [tmp_path / "a[1].png"]


def test_columns(run, pictures):
    result = run("classify", pictures / "a.png", "--network", "pets", "--top-k", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    header, row = result.stdout.splitlines()
    assert header.split() == ["picture", "answer", "probability", "runner-up"]
    assert row.split() == [
        str(pictures / "a.png"),
        "cat",
        "█████████",
        "90.0",
        "%",
        "dog",
        "10.0",
        "%",
    ]
    for word in ("answer", "runner-up"):
        # Titles stand over their columns, also where the path is longer than the first one.
        assert header.index(word) <= row.index({"answer": "cat", "runner-up": "dog"}[word])


def columns(text: str) -> set[int]:
    """Where the bars begin: in one column, if the table is one."""
    rows = [line for line in text.splitlines() if "█" in line]
    assert len(rows) >= 2
    return {cell_len(row[: row.index("█")]) for row in rows}


def test_columns_line_up_under_names_of_any_length(run, tmp_path):
    for name in ("a", "b" * 60, "猫" * 20, "c\u0301"):
        (tmp_path / f"{name}.png").write_bytes(b"x")
    result = run("classify", tmp_path)
    assert len(columns(result.stdout)) == 1
    assert "b" * 60 in result.stdout


def test_columns_line_up_under_labels_of_any_length(run, server, pictures):
    labels = iter(["cat", "a dog of a breed with a very long name", "猫" * 20])

    def answer(_):
        score = target_pb2.ClassScore(label=next(labels), probability=0.5)
        result = pb.ClassifyResult(classification=pb.Classification(classes=[score]))
        return pb.ClassifyResponse(results=[result])

    server.answers["Classify"] = answer
    result = run("classify", pictures)
    assert len(columns(result.stdout)) == 1
    assert "a dog of a bre…ery long name" in result.stdout


def test_patterns_are_resolved(run, pictures):
    result = run("classify", f"{pictures}/*.png", f"{pictures}/**/*.webp", "--json")
    named = [json.loads(line)["picture"] for line in result.stdout.splitlines()]
    assert named == [str(pictures / "a.png"), str(pictures / "deep/er/c.webp")]
    nothing = run("classify", f"{pictures}/*.tiff")
    assert "There is no file" in nothing.stderr


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--network", "zoo"], "No network zoo is served; served are: pets@1"),
        (["--top-k", 3], "top_k is 3; must be at most 2"),
    ],
)
def test_what_fails_for_all_is_said_once(run, pictures, asked, said, form):
    result = run("classify", pictures, *asked, *form)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("convlens: ") and said in line
    assert len(result.stdout.splitlines()) == (form == ["--csv"])


def test_what_is_no_file_to_read_is_not_waited_for(run, pictures):
    os.mkfifo(pictures / "pipe.png")
    with (pictures / "large.png").open("wb") as file:
        file.truncate(2**36)
    names = [pictures / "pipe.png", "/dev/zero", pictures / "large.png", pictures / "a.png"]
    result = run("classify", *names)
    pipe, zero, large, counted = result.stderr.splitlines()
    assert "pipe.png' is a pipe; give a regular file" in pipe
    assert "/dev/zero' is a device" in zero
    assert f"{2**36} bytes of at most" in large
    assert counted == "convlens: 3 of 4 pictures failed."


def test_what_is_asked(run, server, pictures):
    run("classify", pictures, "--network", "pets", "--top-k", 1)
    run("classify", pictures / "a.png")
    asked = [request.message.request for request in server.requests]
    assert [(r.network, r.top_k) for r in asked[:3]] == [("pets", 1)] * 3
    assert not asked[3].HasField("top_k")


def test_json_lines(run, pictures):
    result = run("classify", pictures / "a.png", pictures / "gone.png", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["picture"] == str(pictures / "a.png")
    assert first["network"] == "pets@1"
    assert first["classes"][0]["label"] == "cat"
    assert first["classes"][0]["probability"] == pytest.approx(0.9)
    assert second["error"]["code"] == "INVALID_ARGUMENT"
    assert "There is no file" in second["error"]["message"]
    assert result.exit_code == 1


def test_csv(run, pictures):
    result = run("classify", pictures / "a.png", pictures / "gone.png", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(r["rank"], r["label"]) for r in rows] == [("1", "cat"), ("2", "dog"), ("", "")]
    assert "There is no file" in rows[2]["error"]
    assert result.exit_code == 1


def test_a_picture_that_fails_is_reported_and_the_others_go_on(run, pictures):
    (pictures / "empty.png").write_bytes(b"")
    result = run("classify", pictures / "a.png", pictures / "empty.png", pictures / "b.JPG")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    failed, counted = result.stderr.splitlines()
    assert failed.startswith(f"convlens: {pictures / 'empty.png'}: The image is empty")
    assert counted == "convlens: 1 of 3 pictures failed."


def test_no_pictures(run, tmp_path):
    result = run("classify", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"convlens: No pictures in {tmp_path}; looked for .bmp, .gif")


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_server_that_stops_in_the_middle(run, server, pictures, comes_back):
    streams = itertools.count()

    def answer(requests):
        number = next(streams)
        for request in requests if number == 0 or comes_back else ():
            response = server.answer("Classify", request.request)
            yield pb.ClassifyStreamResponse(id=request.id, response=response)
            if number == 0:
                break
        if number == 0 or not comes_back:
            raise Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.01)

    server.answers["ClassifyStream"] = answer
    result = run("classify", pictures)
    if comes_back:
        whole = run("classify", pictures)
        assert (result.exit_code, result.stdout) == (whole.exit_code, whole.stdout)
        return
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.startswith("convlens: The server is stopping")
    assert len(result.stderr.splitlines()) == 1


def test_names_and_labels_cannot_play_with_the_terminal(run, server, pictures):
    (pictures / "\x1b[2Jevil.png").write_bytes(b"x")
    score = target_pb2.ClassScore(label="\x1b[31mred", probability=1.0)
    result = pb.ClassifyResult(classification=pb.Classification(classes=[score]))
    server.answers["Classify"] = pb.ClassifyResponse(results=[result])
    assert "\x1b" not in run("classify", pictures).output


def test_an_answer_without_classes_is_an_error(run, server, pictures):
    result = pb.ClassifyResult(classification=pb.Classification())
    server.answers["Classify"] = pb.ClassifyResponse(results=[result])
    outcome = run("classify", pictures / "a.png")
    assert outcome.exit_code == 1
    assert "Traceback" not in outcome.output


def test_on_a_terminal_lines_fit_and_a_bar_is_drawn(spawn, terminal, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for n in range(60):
        (tmp_path / f"a-picture-with-quite-a-long-name-{n}.png").write_bytes(b"x")
    theirs, written, finish = terminal
    process = spawn("classify", tmp_path, stdout=theirs, stderr=theirs)
    assert process.wait(30) == 0
    finish()
    text = b"".join(written).decode()
    plain = _without_escapes(text)
    rows = [line for line in plain.splitlines() if ".png" in line]
    assert len(rows) == 60
    assert max(map(len, rows)) <= 80
    assert "60/60" in plain


def test_the_bar_goes_to_the_terminal_and_the_results_into_the_pipe(
    spawn, terminal, tmp_path, monkeypatch
):
    monkeypatch.setenv("TERM", "xterm")
    for n in range(60):
        (tmp_path / f"{n}.png").write_bytes(b"x")
    theirs, written, finish = terminal
    process = spawn("classify", tmp_path, "--json", stderr=theirs)
    lines = process.stdout.read().splitlines()
    assert process.wait(30) == 0
    finish()
    assert len([json.loads(line) for line in lines]) == 60
    assert "60/60" in b"".join(written).decode()


def _without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text.replace("\r", "\n"))
