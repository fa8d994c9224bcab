"""`convlens attack`: the files that it writes, what it asks, prints and counts."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import methods
from convlens.client._fake_attacks import attack
from convlens.client.testing import FakeServer
from convlens.v1 import adversarial_pb2 as pb

Target = methods.Target


def test_pictures_sheets_and_a_receipt_are_written(run: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "fooled"
    result = run("attack", photo, "--method", "pgd:epsilon=8/255", "--out", out, "--pixels")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == [
        *("photo-pgd-shown.png", "photo-pgd.npy", "photo-pgd.png", "receipt.json")
    ]
    pixels = np.load(out / "photo-pgd.npy")
    with (
        Image.open(out / "photo-pgd.png") as made,
        Image.open(out / "photo-pgd-shown.png") as sheet,
    ):
        assert np.array_equal(np.asarray(made), np.round(pixels * 255))
        assert sheet.width > 3 * 400
    head, row, last = result.stdout.splitlines()
    assert head.split() == [
        *("status", "class", "as", "png", "L2", "Linf", "steps", "seconds", "file")
    ]
    cells = row.split()
    assert cells[:7] == ["succeeded", "cat", "->", "dog", "yes", "1.74", "0.0314"]
    assert (cells[7], cells[9]) == ("3", "photo-pgd.png")
    assert last.startswith("pets@1: 44 of 44 forward and 40 of 40 backward passes, ")
    assert last.endswith(f"receipt: {out / 'receipt.json'}")


def test_what_is_asked(run: Any, server: FakeServer, photo: Path, tmp_path: Path) -> None:
    result = run(
        *("attack", photo, photo, "--method", "PGD:epsilon=0.5/255,norm=l2,random-start=off"),
        *(
            "--target",
            "rank:2",
            "--true-class",
            "cat",
            "--true-class",
            "0",
            "--all-steps",
            "--until-rounded",
        ),
        *("--through-resize", "--seed", "9", "--allow-partial", "--timeout", "9"),
        *("--network", "pets", "--out", tmp_path / "fooled"),
    )
    assert result.exit_code == 0
    [sent] = server.requests
    assert sent.timeout == pytest.approx(9, abs=1)
    request = sent.message.request
    norm = methods.Norm.Value("NORM_L2")
    assert request == pb.AttackRequest(
        network="pets",
        images=request.images,
        method=methods.AttackMethod(
            pgd=methods.PGD(epsilon=0.5 / 255, norm=norm, random_start=False)
        ),
        goal=pb.AttackGoal(target=Target(rank=2)),
        true_classes=[Target(label="cat"), Target(class_index=0)],
        stop_at_success=False,
        until_rounded_succeeds=True,
        through_resize=True,
        return_pixels=True,
        seed=9,
        allow_partial=True,
    )


def test_what_is_left_out_is_left_to_the_server(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    result = run("attack", photo, photo, "--method", "deepfool")
    assert (result.exit_code, result.stderr) == (0, "")
    request = server.requests[-1].message.request
    bare = methods.AttackMethod(deep_fool=methods.DeepFool())
    assert request == pb.AttackRequest(images=request.images, method=bare)
    assert list(tmp_path.iterdir()) == [photo]
    head, *rows, last = result.stdout.splitlines()
    assert head.split()[0] == "picture" and head.split()[-1] == "seconds"
    assert len(rows) == 2 and "photo.png  succeeded" in rows[0]
    assert "receipt" not in last


def test_the_least_likely_class(run: Any, server: FakeServer, photo: Path) -> None:
    run("attack", photo, "--method", "fgsm", "--least-likely")
    goal = server.requests[-1].message.request.goal
    assert goal == pb.AttackGoal(least_likely=methods.LeastLikely())
    result = run("attack", photo, "--method", "fgsm", "--target", "least-likely")
    assert result.exit_code == 1 and "there are 0 to 1: cat, dog" in result.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a.png"], "Missing option '--method'"),
        (["--method", "pgd"], "Missing argument 'FILE|FOLDER|GLOB...'"),
        (["a.png", "--method", "pdg"], "there is no method 'pdg'; did you mean"),
        (["a.png", "--method", "pgd:epsilon=8/0"], "epsilon is '8/0'; it must be a number"),
        (["a.png", "--method", "pgd:epsilon=/255"], "epsilon is '/255'; it must be a number"),
        (["a.png", "--method", "pgd:steps=4/2"], "steps is '4/2'; it must be a whole number"),
        (["a.png", "--method", "pgd:epsilon=0/255"], "epsilon"),
        (["a.png", "--method", "fgsm:epsilon=300/255"], "epsilon"),
        (["a.png", "--method", "fgsm", "--pixels"], "--pixels needs --out"),
        (["a.png", "--method", "fgsm", "--target", "1", "--least-likely"], "exclude each other"),
        (["a.png", "--method", "fgsm", "--method", "pgd"], "--method is given 2 times"),
        (["a.png", "--method", "fgsm", "--true-class", "1", "--true-class", "2"], "2 for 1"),
    ],
)
def test_wrong_usage(run: Any, server: FakeServer, given: list[str], said: str) -> None:
    result = run("attack", *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert server.requests == []


def unsuccessful(request: pb.AttackRequest) -> pb.AttackResponse:
    response = attack(request)
    for result in response.results:
        result.verdict.status = pb.ATTACK_STATUS_FAILED
        result.verdict.rounded_status = pb.ROUNDED_STATUS_NOT_REPRESENTABLE
        result.verdict.flags.append(pb.ATTACK_FLAG_ZERO_GRADIENT)
        del result.verdict.after_rounding[:]
    return response


def test_an_attack_that_fails_is_no_error(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    server.answers["Attack"] = unsuccessful
    result = run("attack", photo, photo, "--method", "fgsm", "--out", tmp_path / "fooled")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "convlens: note: The gradient is zero, or too small to steer by.",
        "convlens: note: an attack that fails does not show that there is nothing to find.",
    ]
    row = result.stdout.splitlines()[1].split()
    assert (row[0], row[4], row[-1]) == ("failed", "–", "photo-fgsm.png")
    assert "robust" not in result.output


def test_what_was_wrong_before_succeeds_in_no_form(
    run: Any, server: FakeServer, photo: Path
) -> None:
    def wrong(request: pb.AttackRequest) -> pb.AttackResponse:
        response = attack(request)
        for result in response.results:
            result.verdict.status = pb.ATTACK_STATUS_ALREADY_MISCLASSIFIED
        return response

    server.answers["Attack"] = wrong
    row = run("attack", photo, "--method", "fgsm").stdout.splitlines()[1]
    assert row.startswith("wrong before")
    assert row.split()[5] == "–"


def test_what_fails_is_said_and_the_others_go_on(run: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    pictures = [tmp_path / "gone.png", photo, tmp_path / "empty.png"]
    labels = ["--true-class", "cat"] * 3
    out = tmp_path / "fooled"
    result = run("attack", *pictures, "--method", "fgsm", *labels, "--out", out, "--json")
    assert result.exit_code == 1
    gone, empty, counted = result.stderr.splitlines()
    assert gone.startswith(f"convlens: {pictures[0]}: There is no file")
    assert empty.startswith(f"convlens: {pictures[2]}: The image is empty")
    assert counted == "convlens: 2 of 3 answers failed."
    document = json.loads(result.stdout)
    first, second, third = document["pictures"]
    assert "error" in first and third["error"]["reason"] == "IMAGE_EMPTY"
    verdict = second["verdict"]
    assert (verdict["method"], verdict["status"]) == ("FGSM", "succeeded")
    assert verdict["after"][0]["label"] == "dog"
    assert verdict["files"] == {"png": "photo-fgsm.png", "shown": "photo-fgsm-shown.png"}
    assert document["receipt"] == str(out / "receipt.json")


def test_a_picture_of_the_target_s_class_keeps_no_other_back(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    given = ["--method", "fgsm", "--target", "dog", "--true-class", "dog", "--true-class", "cat"]
    result = run("attack", photo, photo, *given)
    assert result.exit_code == 1
    assert "goal is 'dog', the class of image 0 already" in result.stderr.splitlines()[0]
    assert result.stdout.count("succeeded") == 1


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_fails_for_all_is_said_once(run: Any, photo: Path, form: list[str]) -> None:
    result = run("attack", photo, photo, "--method", "fgsm", "--network", "zoo", *form)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "convlens: No network zoo is served; served are: pets@1.\n"


def test_a_folder_with_a_receipt_is_not_written_over(run: Any, photo: Path, tmp_path: Path) -> None:
    command = ["attack", photo, "--method", "fgsm", "--out", tmp_path / "fooled"]
    assert run(*command).exit_code == 0
    result = run(*command)
    assert result.exit_code == 1 and "is there already" in result.stderr
    assert run(*command, "--overwrite").exit_code == 0


def test_names_of_files_are_unique(run: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo.png").write_bytes(folder.encode())
    out = tmp_path / "fooled"
    both = [tmp_path / "a", tmp_path / "b"]
    assert run("attack", *both, "--method", "carlini-wagner", "--out", out).exit_code == 0
    assert sorted(path.name for path in out.glob("*.png")) == [
        "photo-carlini-wagner-2-shown.png",
        "photo-carlini-wagner-2.png",
        "photo-carlini-wagner-shown.png",
        "photo-carlini-wagner.png",
    ]


def test_the_estimate(run: Any, server: FakeServer, photo: Path) -> None:
    command = ["attack", photo, photo, "--method", "pgd:steps=10", "--estimate"]
    result = run(*command)
    assert result.stdout == "at most 28 forward and 20 backward passes\n"
    document = json.loads(
        run(*command, "--true-class", "cat", "--true-class", "cat", "--json").stdout
    )
    assert document == {"estimated_cost": {"forward_passes": 28, "backward_passes": 20}}
    assert server.requests[0].message.estimate_only
    assert run("attack", "gone.png", "--method", "pgd", "--estimate").exit_code == 1


def test_the_methods_are_those_of_the_contract(run: Any, server: FakeServer) -> None:
    text = " ".join(run("attack", "--help-methods").stdout.split())
    for field in methods.AttackMethod.DESCRIPTOR.fields:
        assert f"{field.name.replace('_', '-')}: " in text
    assert "epsilon=0.03137254901960784" in text and "arXiv:1706.06083" in text
    assert "saliency" not in text and "--rendering" not in text
    document = json.loads(run("attack", "--help-methods", "--json").stdout)
    assert list(document) == ["--method"]
    assert document["--method"]["pgd"]["parameters"]["norm"]["default"] == "linf"
    assert server.requests == []


@pytest.fixture
def receipt(run: Any, photo: Path, tmp_path: Path) -> Path:
    """The receipt of one attack with everything that can be said."""
    command = ["attack", photo, "--method", "pgd", "--out", tmp_path / "fooled", "--seed", "5"]
    options = ["--target", "dog", "--true-class", "cat", "--all-steps", "--until-rounded"]
    assert run(*command, *options).exit_code == 0
    return tmp_path / "fooled" / "receipt.json"


def test_an_attack_is_replayed(run: Any, server: FakeServer, receipt: Path) -> None:
    result = run("replay", receipt)
    assert (result.exit_code, result.stderr) == (0, "")
    head, row, last = result.stdout.splitlines()
    assert head.split() == ["picture", "method", "class", "outcome"]
    assert row.split()[1:] == ["PGD", "cat", "equal"]
    assert last == "1 of 1 answers are equal bit for bit."
    then, now = (request.message.request for request in server.requests)
    assert now.network == "pets@1"
    for name in (
        "images",
        "goal",
        "true_classes",
        "seed",
        "until_rounded_succeeds",
        "stop_at_success",
    ):
        assert getattr(then, name) == getattr(now, name)
    assert now.return_pixels
    assert now.method.pgd.steps == 40, "the receipt has every default"


def test_a_replay_says_what_differs(run: Any, server: FakeServer, receipt: Path) -> None:
    server.answers["Attack"] = unsuccessful
    result = run("replay", receipt, "--json")
    assert result.exit_code == 1
    [answer] = json.loads(result.stdout)["answers"]
    assert answer["differing"] == ["status"] and answer["words"] == "differs in status"


def test_a_receipt_that_lacks_something(run: Any, receipt: Path) -> None:
    document = json.loads(receipt.read_text())
    del document["calls"][0]["pictures"][0]["verdict"]["arrays"]
    receipt.write_text(json.dumps(document))
    result = run("replay", receipt)
    assert result.exit_code == 1 and "it lacks 'arrays'" in result.stderr


def test_a_bar_on_a_terminal(spawn: Any, terminal: Any, photo: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    theirs, written, finish = terminal
    process = spawn("attack", photo, "--method", "fgsm", stdout=theirs, stderr=theirs)
    assert process.wait(30) == 0
    finish()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", b"".join(written).decode())
    assert "attacking" in text
    lines = [line for line in text.replace("\r", "\n").splitlines() if "succeeded" in line]
    assert lines and max(map(len, lines)) <= 80


def test_pictures_that_are_classified_as_they_are(
    run: Any, server: FakeServer, photo: Path
) -> None:
    assert run("classify", photo, "--as-is").exit_code == 0
    assert run("classify", photo).exit_code == 0
    geometries = [r.message.request.images[0].geometry for r in server.requests]
    assert geometries[0] == 2 and geometries[1] != 2
