"""docs/explanations.md: its snippets run one after the other, as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import RunningServer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanations.md").read_text(encoding="utf-8")


def blocks(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return "\n".join(found)


def run(server: RunningServer, folder: Path, *command: str) -> str:
    """What the command prints, in a folder that has the pictures of a clone."""
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
    return result.stdout


def test_the_python_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    printed = run(server, tmp_path, sys.executable, "-W", "error", "-c", blocks("python"))
    lines = printed.splitlines()
    assert re.fullmatch(r"Saliency star 9\d.\d% \(128, 128\) score per unit of pixel", lines[0])
    assert len(json.loads(lines[3].replace("'", '"'))) == 3
    assert any(re.fullmatch(r"200 ± \d.\d% final", line) for line in lines)
    assert lines[-1].startswith("Grad-CAM {'deletion': 0.")
    for name in ("saliency", "fixed"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    printed = run(server, tmp_path, "bash", "-e", "-c", blocks("bash"))
    assert printed.splitlines()[-1] == "2 of 2 answers are equal bit for bit."
    assert len(list((tmp_path / "maps").glob("*.png"))) == 2


def test_links_are_there() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", PAGE)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
