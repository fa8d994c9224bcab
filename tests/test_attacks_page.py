"""docs/attacks.md: its snippets run one after the other, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import RunningServer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")


def blocks(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return "\n".join(found)


def run(server: RunningServer, folder: Path, *command: str) -> list[str]:
    """The lines that the command prints, in a folder that has the pictures of a clone."""
    (folder / "clients").symlink_to(ROOT / "clients")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        command,
        cwd=folder,
        env={"CONVLENS_SERVER": server.address, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_python_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = run(server, tmp_path, sys.executable, "-W", "error", "-c", blocks("python"))
    status, *_, steps = lines[0].split()
    assert status == "succeeded" and float(steps) == pytest.approx(4, abs=1e-3)
    assert lines[1].startswith("None <AttackVerdict succeeded: heart 94.0% -> pentagon")
    assert lines[2].startswith("pentagon <AttackVerdict succeeded: heart 94.0% -> pentagon")
    assert lines[4].split()[0] == "succeeded"
    assert lines[5].startswith("(256, 256) network ")
    assert "heart" not in lines[5]
    curve = [line for line in lines if re.fullmatch(r"(0|None) 0\.\d+ \d+% of 12", line)]
    assert curve[0] == "0 0.000 100% of 12"
    assert curve[1] != curve[2], "a larger budget fools on more pictures"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 400


def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = run(server, tmp_path, "bash", "-e", "-c", blocks("bash"))
    assert lines[-1] == "1 of 1 answers are equal bit for bit."
    assert "<svg" in (tmp_path / "curve.html").read_text(encoding="utf-8")
    [said] = [line for line in lines if line.startswith("fooled/heart-1-pgd.png")]
    assert said.split()[1] == "pentagon"


def test_links_are_there() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", PAGE)
    files = {target.partition("#")[0] for target in targets} - {""}
    assert files and [name for name in files if not (ROOT / "docs" / name).exists()] == []
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", methods, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in headings}
    wanted = [target.partition("#")[2] for target in targets if target.startswith("methods.md#")]
    assert len(wanted) == 9 and set(wanted) <= anchors


def test_every_flag_and_every_status_is_told() -> None:
    from convlens.v1 import adversarial_pb2 as pb

    for prefix, names in (
        ("ATTACK_FLAG_", pb.AttackFlag.keys()),
        ("ATTACK_STATUS_", pb.AttackStatus.keys()),
    ):
        for name in names[1:]:
            assert f"| `{name.removeprefix(prefix).lower()}` |" in PAGE
