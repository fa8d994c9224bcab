"""docs/attacks.md: its snippets run one after the other, as they stand there."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import RunningServer, triton_is_slow
from tests.snippets import Page, dead_links

PAGE = Page("attacks")


@triton_is_slow
def test_the_python_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_python(server, tmp_path)
    status, *_, steps = lines[0].split()
    assert status == "succeeded" and float(steps) == pytest.approx(4, abs=1e-3)
    assert lines[1].startswith("None <AttackVerdict succeeded: heart 94.0 % -> pentagon")
    assert lines[2].startswith("pentagon <AttackVerdict succeeded: heart 94.0 % -> pentagon")
    assert lines[4].split()[0] == "succeeded"
    assert lines[5].startswith("(256, 256) network ")
    assert "heart" not in lines[5]
    curve = [line for line in lines if re.fullmatch(r"(0|None) 0\.\d+ \d+% of 12", line)]
    assert curve[0] == "0 0.000 100% of 12"
    assert curve[1] != curve[2], "a larger budget fools on more pictures"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 400


@triton_is_slow
def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_shell(server, tmp_path)
    assert lines[-1] == "1 of 1 answers are equal bit for bit."
    assert "<svg" in (tmp_path / "curve.html").read_text(encoding="utf-8")
    [said] = [line for line in lines if line.startswith("fooled/heart-1-pgd.png")]
    assert said.split()[1] == "pentagon"


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []


def test_every_flag_and_every_status_is_told() -> None:
    from convlens.v1 import adversarial_pb2 as pb

    for prefix, names in (
        ("ATTACK_FLAG_", pb.AttackFlag.keys()),
        ("ATTACK_STATUS_", pb.AttackStatus.keys()),
    ):
        for name in names[1:]:
            assert f"| `{name.removeprefix(prefix).lower()}` |" in PAGE.text
