"""What is written by a script is what the script writes now."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from convlens.contract.method_page import PICTURE, choices_of, methods_page
from convlens.contract.pages import errors_page
from convlens.v1.attack_methods_pb2 import AttackMethod
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.synthesis_methods_pb2 import SynthesisMethod

ROOT = Path(__file__).parents[2]
PROTO, DOCS = ROOT / "proto", ROOT / "docs"
KINDS = (ExplanationMethod, AttackMethod, SynthesisMethod)
METHODS = [f.name for kind in KINDS for f in choices_of(kind)]


def stubs(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("convlens/**/*_pb2*.py"), *folder.glob("convlens/**/*_pb2*.pyi")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_stubs_are_what_the_protos_give(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTO / "generate.py", "--out", tmp_path], check=True)
    written, committed = stubs(tmp_path), stubs(PROTO)
    assert written.keys() == committed.keys()
    assert [name for name in written if written[name] != committed[name]] == []
    assert "convlens/v1/classification_pb2_grpc.pyi" in written


def test_linters_leave_the_stubs_alone_even_where_a_hook_names_them() -> None:
    # Without its unused-looking imports a stub cannot find the files that it stands on.
    stub = PROTO / "convlens/v1/error_pb2.py"
    ruff = Path(sys.executable).parent / "ruff"
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run([ruff, *command, stub], cwd=ROOT, capture_output=True, check=False)
        assert result.returncode == 0
    plain = [ruff, "check", "--isolated", stub]
    assert subprocess.run(plain, capture_output=True, check=False).returncode == 1


def test_errors_page_is_what_the_catalogue_gives() -> None:
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == errors_page()


def test_methods_page_is_what_the_contract_gives() -> None:
    assert (DOCS / "methods.md").read_text(encoding="utf-8") == methods_page()


def test_methods_page_has_every_method_with_its_picture() -> None:
    page = methods_page()
    for name in METHODS:
        assert f"]({PICTURE.format(name=name)})" in page
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9-]", "", each.lower().replace(" ", "-")) for each in headings}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) > len(METHODS) and set(links) <= anchors


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_picture(name: str) -> None:
    path = DOCS / PICTURE.format(name=name)
    assert path.stat().st_size < 150_000
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50, "it shows nothing"


def test_every_picture_is_of_a_method() -> None:
    folder = (DOCS / PICTURE).parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{m}.png" for m in METHODS)


def buf_lint(folder: Path, image: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "buf", "lint", image, "--path", "convlens"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_buf_lint_is_content(tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    subprocess.run([sys.executable, PROTO / "generate.py", "--descriptors", image], check=True)
    result = buf_lint(ROOT, image)
    assert (result.returncode, result.stdout) == (0, "")


def test_buf_lint_can_fail(tmp_path: Path) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    image = tmp_path / "image.binpb"
    bad = FileDescriptorSet()
    bad.file.add(
        name="convlens/v1/x.proto", package="convlens.v1", syntax="proto3"
    ).message_type.add(name="not_pascal")
    image.write_bytes(bad.SerializeToString())
    result = buf_lint(ROOT, image)
    assert result.returncode != 0
    assert "not_pascal" in result.stdout
