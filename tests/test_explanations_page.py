"""docs/explanations.md: its snippets run one after the other, as they stand there."""

import json
import re
from pathlib import Path

from tests.conftest import RunningServer, triton_is_slow
from tests.snippets import Page, dead_links

PAGE = Page("explanations")


@triton_is_slow
def test_the_python_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_python(server, tmp_path)
    assert re.fullmatch(r"Saliency star 9\d.\d % \(128, 128\) score per unit of pixel", lines[0])
    assert len(json.loads(lines[3].replace("'", '"'))) == 3
    assert any(re.fullmatch(r"200 ± \d.\d% final", line) for line in lines)
    assert lines[-1].startswith("Grad-CAM {'deletion': 0.")
    for name in ("saliency", "fixed"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@triton_is_slow
def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    assert PAGE.run_shell(server, tmp_path)[-1] == "2 of 2 answers are equal bit for bit."
    assert len(list((tmp_path / "maps").glob("*.png"))) == 2


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []
