"""docs/synthesis.md: its snippets run one after the other, as they stand there."""

import re
from pathlib import Path

from PIL import Image

from tests.conftest import RunningServer, triton_is_slow
from tests.snippets import Page, dead_links

PAGE = Page("synthesis")


@triton_is_slow
def test_the_python_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_python(server, tmp_path)
    assert re.fullmatch(r"32 \d+\.\d 1\.000 True", lines[0])
    assert re.fullmatch(r"64 \d+\.\d 1\.000 True", lines[1])
    assert "star" in lines[2]
    assert lines[3:] == ["True", "heart 32", "True", "True heart", "[True, True]"]
    with Image.open(tmp_path / "star.png") as picture:
        assert picture.size == (128, 128)


@triton_is_slow
def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    PAGE.run_shell(server, tmp_path)
    with Image.open(tmp_path / "model.gif") as growth:
        assert getattr(growth, "n_frames", 1) > 20
    with Image.open(tmp_path / "fooled.png") as picture:
        assert picture.size == (128, 128)


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []
