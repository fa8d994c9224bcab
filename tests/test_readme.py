"""What the README shows works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import RunningServer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_python_block_runs(server: RunningServer) -> None:
    [block] = blocks("python")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=ROOT,
        env={"CONVLENS_SERVER": server.address, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    first, *rest, codes, verdict = result.stdout.splitlines()
    assert re.fullmatch(r"arrow \d+\.\d%", first)
    assert codes == f"{len(rest)} (128,)"
    assert verdict.startswith("<AttackVerdict succeeded: heart 94.0 % -> pentagon ")
    assert len(rest) >= 12
    for line in rest:
        name, label = line.split()
        assert name.startswith(f"{label}-")


def test_the_test_command_is_the_one_that_decides() -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line[0] != "#"]
    assert len(commands) == 2
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert ci[-1] == commands[1]
    assert commands[1].endswith("uv run pytest -n 2")
    assert all("pip install -q uv" in command for command in commands)


def test_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
