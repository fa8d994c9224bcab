"""What `convlens report --attack` shows, asks and counts."""

import json
from pathlib import Path
from typing import Any

from convlens.client._fake_attacks import attack
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import adversarial_pb2 as pb
from tests.clients.cli.reporting import Seen, out, photo, report

__all__ = ["out", "photo", "report"]  # fixtures
ROBUST = "does not show that the network is robust"


def test_each_attack_is_shown_with_what_it_made(report: Any, photo: Path) -> None:
    page = report(photo, "--attack", "pgd:epsilon=8/255,steps=20", "--attack", "deepfool")
    assert "PGD succeeded The network now answers dog, not cat. original" in page.text
    assert "DeepFool succeeded The network now answers dog, not cat." in page.text
    assert page.text.count("Before cat 90.0 % dog 10.0 % After dog 80.0 % cat 20.0 %") == 2
    assert "answer dog 80.0 % dog 80.0 %" in page.text
    assert "L∞ 8/255 8/255" in page.text
    assert "norm linf epsilon 0.0314" in page.text and "steps 20" in page.text
    alts = [str(image["alt"]) for image in page.all("img")]
    assert alts[-3:] == [
        "What was attacked of photo.png",
        "What DeepFool changed in photo.png",
        "photo.png after DeepFool",
    ]
    assert ROBUST not in page.text
    assert "it is not a proof of robustness" in page.text


def test_without_attacks_nothing_is_said_of_them(
    report: Any, server: FakeServer, photo: Path
) -> None:
    page = report(photo)
    assert "fooled" not in page.text and "robust" not in page.text
    assert "AttackStream" not in [sent.rpc for sent in server.requests]


def test_what_is_asked(report: Any, server: FakeServer, photo: Path) -> None:
    given = ("--seed", "7", "--top-k", "1", "--timeout", "9", "--allow-partial", "--target", "dog")
    report(photo, "--attack", "pgd:epsilon=4/255", *given)
    [sent] = [sent.message.request for sent in server.requests if sent.rpc == "AttackStream"]
    assert sent.method.pgd.epsilon == 4 / 255
    assert (sent.network, sent.seed, sent.top_k) == ("pets@1", 7, 1)
    assert sent.allow_partial and sent.return_pixels
    # --target is a class to explain.
    assert not sent.HasField("goal")


def changed(**fields: Any) -> Any:
    """The fake server's attack, with other fields in its verdicts."""

    def answer(request: pb.AttackRequest) -> pb.AttackResponse:
        response = attack(request)
        for result in response.results:
            result.verdict.MergeFrom(pb.AttackVerdict(**fields))
        return response

    return answer


def test_failure_is_not_called_robustness(report: Any, server: FakeServer, photo: Path) -> None:
    for status, words in (
        (pb.ATTACK_STATUS_FAILED, "The attack found nothing, which does not show"),
        (pb.ATTACK_STATUS_STEPS_EXHAUSTED, "All allowed steps or queries were used"),
        (pb.ATTACK_STATUS_DEADLINE, "The deadline came first; the best so far comes back."),
    ):
        server.answers["Attack"] = changed(status=status)
        page = report(photo, "--attack", "pgd", "--overwrite")
        assert words in page.text and ROBUST in page.text
        assert "The network now answers" not in page.text


def test_flags_have_a_sentence(report: Any, server: FakeServer, photo: Path) -> None:
    flags = [pb.ATTACK_FLAG_ZERO_GRADIENT, pb.ATTACK_FLAG_RANDOMNESS]
    server.answers["Attack"] = changed(status=pb.ATTACK_STATUS_FAILED, flags=flags)
    page = report(photo, "--attack", "auto-attack")
    assert "Auto this attack failed" in page.text
    assert "The gradient is zero, or too small to steer by." in page.text
    assert "The same picture gets different scores." in page.text


def test_success_that_rounding_undoes_is_said_so(
    report: Any, server: FakeServer, photo: Path
) -> None:
    server.answers["Attack"] = changed(rounded_status=pb.ROUNDED_STATUS_FAILED)
    page = report(photo, "--attack", "fgsm")
    assert "not cat. The rounded picture does not reach the goal." in page.text


def test_an_attack_without_an_answer_is_on_the_page_and_counted(
    run: Any, server: FakeServer, photo: Path, out: Path
) -> None:
    def refusing(request: pb.AttackRequest) -> pb.AttackResponse:
        response = attack(request)
        problem = Failure(ErrorReason.ERROR_REASON_IMAGE_UNREADABLE, detail="odd", formats="x")
        response.results[0].error.CopyFrom(problem.status())
        return response

    server.answers["Attack"] = refusing
    result = run("report", photo, "-o", out, "--attack", "pgd", "--json")
    assert result.exit_code == 1
    first, counted = result.stderr.splitlines()
    assert first.startswith(f"convlens: {photo}: PGD: ") and "odd" in first
    assert counted == "convlens: 1 of 7 answers failed."
    document = json.loads(result.stdout)
    assert (document["answers"], document["failed"]) == (7, 1)
    assert document["pictures"][0]["attacks"][0]["error"]["reason"] == "IMAGE_UNREADABLE"
    page = Seen(out.read_text(encoding="utf-8"))
    assert "PGD is not here." in page.text and "odd" in page.text


def test_json_has_the_verdicts_and_their_cost(
    run: Any, photo: Path, tmp_path: Path, out: Path
) -> None:
    plain = json.loads(run("report", photo, "-o", tmp_path / "plain.html", "--json").stdout)
    assert plain["pictures"][0]["attacks"] == []
    result = run("report", photo, "-o", out, "--attack", "pgd", "--json")
    document = json.loads(result.stdout)
    [verdict] = document["pictures"][0]["attacks"]
    assert (verdict["method"], verdict["status"]) == ("PGD", "succeeded")
    assert verdict["after"][0]["label"] == "dog"
    more = document["cost"]["backward_passes"] - plain["cost"]["backward_passes"]
    assert more == 40


def test_pictures_that_cannot_be_read_are_left_out(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path, out: Path
) -> None:
    result = run("report", tmp_path / "gone.png", photo, "-o", out, "--attack", "pgd")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "convlens: 1 of 8 answers failed."
    [sent] = [sent.message.request for sent in server.requests if sent.rpc == "AttackStream"]
    assert len(sent.images) == 1
    page = Seen(out.read_text(encoding="utf-8"))
    assert page.text.count("The network now answers dog") == 1


def test_an_attack_that_there_is_not(run: Any, photo: Path, out: Path) -> None:
    result = run("report", photo, "-o", out, "--attack", "deepfol")
    assert result.exit_code == 2
    assert "there is no attack 'deepfol'; did you mean deep-fool?" in result.stderr
