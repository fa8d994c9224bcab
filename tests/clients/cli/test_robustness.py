"""`convlens robustness`: what it reads, asks, prints and writes, and how it goes on."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convlens.client import methods
from convlens.client._fake_robustness import evaluate
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import adversarial_pb2 as pb
from tests.clients.streaming import breaking

EPSILONS = "1/255,2/255,4/255,8/255"
ASKED = ("--attack", "pgd", "--attack", "fgsm", "--epsilons", EPSILONS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of cats and of a dog, each in a folder of its class."""
    found = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (found / name).mkdir(parents=True)
    for number in range(10):
        (found / "cat" / f"{number}.png").write_bytes(b"a picture")
    (found / "dog" / "0.png").write_bytes(b"a picture")
    return found


def plans(server: FakeServer) -> list[pb.RobustnessPlan]:
    found = [r.message for r in server.requests if r.rpc == "EvaluateRobustness"]
    return [message.plan for message in found if message.HasField("plan")]


def images(server: FakeServer) -> list[pb.LabeledImage]:
    found = [r.message for r in server.requests if r.rpc == "EvaluateRobustness"]
    return [image for message in found for image in message.batch.images]


def test_the_table(run: Any, folder: Path) -> None:
    result = run("robustness", folder, *ASKED)
    assert (result.exit_code, result.stderr) == (0, "")
    first, head, clean, *rows, last = result.stdout.splitlines()
    assert first == "pets@1: 11 images, intervals of 95 %, seed 0"
    assert head.split() == [*("attack", "epsilon", "accuracy", "interval", "certainty", "interval")]
    assert clean.split()[:4] == ["no", "attack", "0", "90.9"]
    titles = [(row[:12].strip(), row.split("/255")[0].split()[-1]) for row in rows]
    assert titles == [
        (name, epsilon) for name in ("PGD", "FGSM", "all together") for epsilon in "1248"
    ]
    assert re.fullmatch(r"\d+ forward and \d+ backward passes, \d+\.\d s", last)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_what_is_asked(run: Any, server: FakeServer, folder: Path) -> None:
    result = run(
        *("robustness", folder, "--attack", "pgd:steps=3", "--attack", "deep-fool"),
        *("--epsilons", "4/255, 0.5", "--epsilons-l2", "0.5,1", "--network", "pets"),
        *("--require-rounded", "--confidence", "0.9", "--seed", "9", "--allow-partial"),
        *("--timeout", "9"),
    )
    assert result.exit_code == 0
    [plan] = plans(server)
    assert plan == pb.RobustnessPlan(
        network="pets@1",
        attacks=[
            methods.AttackMethod(pgd=methods.PGD(steps=3)),
            methods.AttackMethod(deep_fool=methods.DeepFool()),
        ],
        epsilons=[4 / 255, 0.5],
        epsilons_l2=[0.5, 1],
        require_rounded=True,
        confidence_level=0.9,
        seed=9,
        allow_partial=True,
    )
    sent = images(server)
    assert [image.id for image in sent][-2:] == ["cat/9.png", "dog/0.png"]
    assert {image.true_class.label for image in sent} == {"cat", "dog"}
    timeouts = [r.timeout for r in server.requests if r.rpc == "EvaluateRobustness"]
    assert timeouts[0] == pytest.approx(9, abs=1)


def test_what_is_left_out_is_left_to_the_server(run: Any, server: FakeServer, folder: Path) -> None:
    run("robustness", folder, "--attack", "fgsm", "--epsilons", "0.5")
    bare = methods.AttackMethod(fgsm=methods.FGSM())
    assert plans(server) == [pb.RobustnessPlan(network="pets@1", attacks=[bare], epsilons=[0.5])]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "file,label\ncat/1.png,dog\ncat/0.png,0\n"),
        ("labels.csv", "\ufeffLabel, File ,more\ndog,cat/1.png,x\n0,cat/0.png\n\n"),
        ("labels.json", '{"cat/0.png": 0, "cat/1.png": "dog"}'),
    ],
)
def test_labels_of_a_file(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path, name: str, text: str
) -> None:
    for path in folder.rglob("*.png"):
        if path.name not in ("0.png", "1.png") or path.parent.name == "dog":
            path.unlink()
    (tmp_path / name).write_text(text)
    result = run("robustness", folder, "--labels", tmp_path / name, *ASKED)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = images(server)
    assert first.true_class.class_index == 0 and first.true_class.HasField("class_index")
    assert (second.id, second.true_class.label) == ("cat/1.png", "dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header is ''; it must have the columns file and label."),
        ("a,b\n", "line 1: the header is 'a,b'"),
        ("file,label\ncat/0.png\n", "line 2: there is no label."),
        ("file,label\n,cat\n", "line 2: there is no file."),
        ("file,label\ncat/0.png,rank:2\n", "line 2: a true class is a label or an index"),
        ("file,label\ncat/0.png,index:x\n", "line 2: 'index:x': 'x' is no whole number"),
        ("file,label\ncat/0.png,cat\ncat/0.png,dog\n", "line 3: cat/0.png is 'cat' in "),
        ('file,label\n"cat/0.png,cat\n', "this is no CSV"),
        ("file,label\ncat/0.png,cat\n", "1.png has no label in "),
        ("file,label\ncat/0.png,cat\n", ", and 9 others have none either"),
    ],
)
def test_labels_that_make_no_sense(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    result = run("robustness", folder, "--labels", tmp_path / "labels.csv", *ASKED)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert server.requests == []


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1.5}', '{"a": true}'])
def test_json_that_has_no_labels(run: Any, folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    result = run("robustness", folder, "--labels", tmp_path / "labels.json", *ASKED)
    assert result.exit_code == 1 and "labels.json" in result.stderr


def test_labels_of_pictures_that_are_not_there_are_noted(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    names = [path.relative_to(folder) for path in folder.rglob("*.png")]
    lines = "\n".join(f"{name},cat" for name in [*names, "gone.png", "lost.png"])
    (tmp_path / "labels.csv").write_text(f"file,label\n{lines}\n")
    result = run("robustness", folder, "--labels", tmp_path / "labels.csv", *ASKED)
    assert result.exit_code == 0
    [note] = result.stderr.splitlines()
    assert "gone.png and 1 other, which are not among the pictures" in note


def test_pictures_in_no_folder_of_a_class(run: Any, folder: Path) -> None:
    (folder / "stray.png").write_bytes(b"x")
    result = run("robustness", folder, *ASKED)
    assert result.exit_code == 1
    assert "stray.png lies in no folder that names its class; give --labels" in result.stderr


def test_a_class_that_the_network_does_not_have(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "dog").rename(folder / "dgo")
    result = run("robustness", folder, *ASKED)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "dgo: pets has no class 'dgo'; it has cat, dog." in result.stderr
    assert plans(server) == []


def test_a_name_too_long_for_an_id(run: Any, server: FakeServer, folder: Path) -> None:
    name = "x" * 230
    (folder / "cat" / f"{name}.png").write_bytes(b"x")
    (folder / "cat" / f"{name}y.png").write_bytes(b"x")
    assert run("robustness", folder, *ASKED).exit_code == 0
    ids = [image.id for image in images(server)]
    assert len(set(ids)) == len(ids) and max(map(len, ids)) == 200


def test_a_document(run: Any, server: FakeServer, folder: Path) -> None:
    (folder / "cat" / "empty.png").write_bytes(b"")
    result = run("robustness", folder, *ASKED, "--json", "--network", "pets", "--network", "pets@1")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["format"] == "convlens robustness, 1" and document["page"] is None
    first, second = document["evaluations"]
    assert first["points"] == second["points"]
    assert (first["network"], first["attacks"]) == ("pets@1", ["PGD", "FGSM"])
    assert (first["images"], first["images_done"], first["images_failed"]) == (12, 12, 1)
    assert first["failures"] == {"IMAGE_EMPTY": 1} and first["is_partial"] is False
    point = first["points"][5]
    assert (point["attack"], point["norm"], point["epsilon"]) == ("FGSM", "linf", 0)
    assert first["points"][-1]["attack"] is None
    items = {item["id"]: item for item in first["items"]}
    assert items["cat/empty.png"]["error"]["reason"] == "IMAGE_EMPTY"
    assert items["dog/0.png"]["clean_correct"] is False
    assert items["cat/1.png"]["label"] == "cat" and len(items["cat/1.png"]["budgets"]) == 2
    assert first["receipt"]["parameters"]["@type"].endswith("RobustnessPlan")


def test_the_page(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve.html"
    result = run("robustness", folder, *ASKED, "--out", out)
    assert result.exit_code == 0 and result.stdout.endswith(f"the curve is in {out}\n")
    page = out.read_text()
    assert page.count("<svg") == 2 + 3 and "http" not in page.split("</style>")[1].replace(
        "http-equiv", ""
    )
    assert "How easily pets@1 is fooled" in page
    assert re.search(
        r"<title>all together, under 8/255: .* \(.* to .*\); \d+ of 11 right</title>", page
    )
    assert "relative-step-size" in page and "convlens robustness" in page
    again = run("robustness", folder, *ASKED, "--out", out)
    assert again.exit_code == 1 and "is there already" in again.stderr
    assert run("robustness", folder, *ASKED, "--out", out, "--overwrite").exit_code == 0


def test_a_page_of_several_networks_and_norms(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.html"
    two = ("--network", "pets", "--network", "pets@1", "--attack", "deep-fool")
    assert (
        run("robustness", folder, *ASKED, *two, "--epsilons-l2", "1", "--out", out).exit_code == 0
    )
    page = out.read_text()
    assert "Within a budget under Linf" in page and "Within a budget under L2" in page
    assert page.count('class="picture"') == 2 + 2


def test_what_a_reader_must_know(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        for response in evaluate(requests):
            if response.HasField("done"):
                response.done.is_partial = True
            for budget in response.item.robustness.budgets[:1]:
                budget.flags.append(pb.ATTACK_FLAG_RANDOMNESS)
            yield response

    server.answers["EvaluateRobustness"] = answer
    out = tmp_path / "curve.html"
    result = run("robustness", folder, *ASKED, "--out", out, "--allow-partial")
    assert result.exit_code == 0
    partial, flag = result.stderr.splitlines()
    assert (
        partial == "convlens: note: The time was over after 11 of 11 images; the curve is of these."
    )
    assert flag == (
        "convlens: note: PGD, 10 images: The same picture gets different scores. Do not read "
        "failure of this attack there as robustness."
    )
    page = out.read_text()
    assert "The time was over after 11" in page and "PGD, 10 images: The same picture" in page


def test_what_fails_is_said_and_the_others_go_on(run: Any, folder: Path) -> None:
    (folder / "cat" / "a-empty.png").write_bytes(b"")
    (folder / "cat" / "b-gone.png").symlink_to(folder / "nothing.png")
    result = run("robustness", folder, *ASKED)
    assert result.exit_code == 1
    empty, note, counted = result.stderr.splitlines()
    assert empty.startswith("convlens: cat/a-empty.png: The image is empty")
    assert note == "convlens: note: 1 image has no answer and does not count: 1 IMAGE_EMPTY."
    assert counted == "convlens: 1 of 12 answers failed."


def test_no_picture_has_an_answer(run: Any, folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    out = tmp_path / "curve.html"
    result = run("robustness", folder, *ASKED, "--out", out)
    assert result.exit_code == 1 and "11 of 11 answers failed" in result.stderr
    assert result.stdout.startswith("pets@1: 0 images")
    assert "No image has an answer." in out.read_text()


def test_a_server_that_stops_is_waited_for(run: Any, server: FakeServer, folder: Path) -> None:
    whole = run("robustness", folder, *ASKED)
    server.requests.clear()
    server.answers["EvaluateRobustness"] = breaking(evaluate, 6)
    result = run("robustness", folder, *ASKED)
    assert result.exit_code == 0
    assert "The server is stopping" in result.stderr and "Trying again." in result.stderr
    assert result.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]
    first, second = plans(server)
    assert not first.checkpoint and second.checkpoint
    assert len(images(server)) == 11 + 6, "those without an item are sent again"


def failing(after: int) -> Any:
    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        for number, response in enumerate(evaluate(requests)):
            if number == after:
                raise Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="42")
            yield response

    return answer


def test_a_run_goes_on_from_its_checkpoint(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "cat" / "0.png").write_bytes(b"")
    whole = json.loads(run("robustness", folder, *ASKED, "--json").stdout)["evaluations"][0]
    server.requests.clear()
    file = tmp_path / "run.json"
    command = ["robustness", folder, *ASKED, "--checkpoint", file, "--json"]
    server.answers["EvaluateRobustness"] = failing(6)
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    note = f"convlens: note: {file} has 5 of 11 images; the same command goes on from there."
    assert note in result.stderr.splitlines()
    server.answers["EvaluateRobustness"] = evaluate
    result = run(*command)
    assert result.exit_code == 1, "the first picture has no answer"
    told, tally = result.stderr.splitlines()
    assert told.startswith("convlens: cat/0.png: ") and "in an earlier run" in told
    assert tally == "convlens: 1 of 11 answers failed."
    found = json.loads(result.stdout)["evaluations"][0]
    for name in ("points", "items", "flags", "failures", "images_done", "images_failed"):
        assert found[name] == whole[name]
    assert len(images(server)) == 11 + 6
    again = json.loads(run(*command).stdout)["evaluations"][0]
    assert again["points"] == whole["points"] and len(images(server)) == 11 + 6
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", "1"], "is of a run of pets@1 with other options"),
        (["--labels"], "is of a run with cat/0.png as 'cat'"),
    ],
)
def test_a_checkpoint_of_another_run(
    run: Any, folder: Path, tmp_path: Path, change: list[str], said: str
) -> None:
    file = tmp_path / "run.json"
    assert run("robustness", folder, *ASKED, "--checkpoint", file).exit_code == 0
    if change == ["--labels"]:
        names = [path.relative_to(folder) for path in folder.rglob("*.png")]
        lines = "\n".join(f"{name},dog" for name in names)
        (tmp_path / "labels.csv").write_text(f"file,label\n{lines}\n")
        change = ["--labels", str(tmp_path / "labels.csv")]
    result = run("robustness", folder, *ASKED, "--checkpoint", file, *change)
    assert result.exit_code == 1 and said in result.stderr
    assert "or remove the file to begin anew" in result.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "another"}', "\0"])
def test_a_checkpoint_that_is_none(run: Any, folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    result = run("robustness", folder, *ASKED, "--checkpoint", tmp_path / "run.json")
    assert result.exit_code == 1 and "is no checkpoint of convlens robustness" in result.stderr
    assert (tmp_path / "run.json").read_text() == text


def test_ctrl_c_keeps_what_is_done(
    spawn: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    over = threading.Event()

    def slow(requests: Iterator[Any]) -> Iterator[Any]:
        for number, response in enumerate(evaluate(requests)):
            if number == 6:
                over.wait(20)
            yield response

    server.answers["EvaluateRobustness"] = slow
    file = tmp_path / "run.json"
    process = spawn("robustness", folder, *ASKED, "--checkpoint", file)
    while not file.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    over.set()
    assert process.returncode == 130
    assert "of 11 images; the same command goes on from there" in errors
    assert json.loads(file.read_text())["networks"]["pets@1"]["items"]


def test_the_estimate(run: Any, server: FakeServer, folder: Path) -> None:
    command = ["robustness", folder, *ASKED, "--estimate"]
    result = run(*command)
    forward, backward = map(int, re.findall(r"\d+", result.stdout))
    assert result.stdout == f"at most {forward} forward and {backward} backward passes\n"
    assert backward == 11 * 4 * (40 + 1)
    twice = run(*command, "--network", "pets", "--network", "pets@1", "--json")
    cost = {"forward_passes": 2 * forward, "backward_passes": 2 * backward}
    assert json.loads(twice.stdout) == {"estimated_cost": cost}
    assert all(plan.estimate_only for plan in plans(server))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Missing argument 'FOLDER'"),
        (["FOLDER"], "Missing option '--attack'"),
        (["FOLDER", "--attack", "pgd"], "epsilons is empty; PGD is measured under NORM_LINF"),
        (["FOLDER", "--attack", "pgd:epsilon=0.1", "--epsilons", "0.1"], "--attack has epsilon"),
        (["FOLDER", "--attack", "pgd:epsilon-l2=1,norm=l2"], "--attack has epsilon-l2"),
        (["FOLDER", "--attack", "pdg"], "there is no attack 'pdg'; did you mean"),
        (["FOLDER", "--attack", "deep-fool", "--epsilons", "1"], "epsilons_l2 is empty; DeepFool"),
        (["FOLDER", "--attack", "pgd", "--epsilons", "1/0"], "a number is '1/0'"),
        (["FOLDER", "--attack", "pgd", "--epsilons", ","], "it must be a number"),
        (["FOLDER", "--attack", "pgd", "--epsilons", "2,3"], "epsilons"),
        (
            ["FOLDER", "--attack", "pgd", "--epsilons", "4/255,2/255"],
            "epsilons[1] is 0.00784313725490196; must be larger",
        ),
        (["FOLDER", "--attack", "pgd", "--epsilons", "0.1", "--confidence", "1"], "0<x<1"),
        (["FOLDER", "--attack", "pgd", "--epsilons", "0.1", "--out", "a.png"], "end in .html"),
    ],
)
def test_wrong_usage(
    run: Any, server: FakeServer, folder: Path, given: list[str], said: str
) -> None:
    result = run("robustness", *[str(folder) if each == "FOLDER" else each for each in given])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert server.requests == []


def test_folders_that_are_none(run: Any, tmp_path: Path) -> None:
    result = run("robustness", tmp_path / "gone", *ASKED)
    assert result.exit_code == 1 and "There is no folder" in result.stderr
    result = run("robustness", tmp_path, *ASKED)
    assert result.exit_code == 1 and "No pictures in" in result.stderr


def test_what_the_server_refuses_is_said_once(run: Any, folder: Path) -> None:
    result = run("robustness", folder, *ASKED, "--network", "zoo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "convlens: No network zoo is served; served are: pets@1.\n"


def test_help_teaches(run: Any, server: FakeServer) -> None:
    text = run("robustness", "--help").stdout
    assert "convlens robustness pictures/ --attack pgd --attack fgsm" in text
    assert "star/1.png,star" in text
    assert "0.95 by default" in " ".join(text.split())
    assert "arXiv:1706.06083" in run("robustness", "--help-methods").stdout
    document = json.loads(run("robustness", "--help-methods", "--json").stdout)
    assert document["--attack"]["pgd"]["title"] == "PGD"
    assert server.requests == []


def test_it_cannot_be_replayed(run: Any, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    document = json.loads(run("robustness", folder, *ASKED, "--json", "--checkpoint", file).stdout)
    for found in (document, document["evaluations"][0]["receipt"], json.loads(file.read_text())):
        (tmp_path / "receipt.json").write_text(json.dumps(found))
        result = run("replay", tmp_path / "receipt.json")
        assert result.exit_code == 1
        assert "is a receipt of EvaluateRobustness, which names no pictures" in result.stderr
        assert "'convlens robustness' again with the same seed" in result.stderr


def test_a_bar_on_a_terminal(spawn: Any, terminal: Any, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    theirs, written, finish = terminal
    process = spawn("robustness", folder, *ASKED, stdout=theirs, stderr=theirs)
    assert process.wait(30) == 0
    finish()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", b"".join(written).decode())
    assert "right at 8/255" in text and "11/11" in text
