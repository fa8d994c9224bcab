"""The file of tokens, its mistakes, and the command that makes an entry."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convlens.server.access.files import Unusable
from convlens.server.access.tokens import read_tokens
from convlens.server.main import main

A, B = "a" * 64, "b" * 64
GOOD = f"- {{name: lab, sha256: {A}, scopes: [classify]}}\n"


def read(tmp_path: Path, text: str | bytes) -> list:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_tokens(path)


def test_a_file(tmp_path: Path) -> None:
    lab, page = read(
        tmp_path,
        f"""\
- name: lab
  sha256: [{A}, {B}]
  scopes: [classify, explain]
- {{name: page, sha256: {"c" * 64}, scopes: [admin], requests_per_second: 2, batch_only: true}}
""",
    )
    assert (lab.name, lab.sha256, lab.scopes) == ("lab", (A, B), {"classify", "explain"})
    assert (lab.requests_per_second, lab.batch_only) == (None, False)
    assert (page.sha256, page.requests_per_second, page.batch_only) == (("c" * 64,), 2, True)


WRONG = {
    "nothing": ("", ": must be a list of one token or more"),
    "an empty list": ("[]", ": must be a list of one token or more"),
    "a mapping": ("tokens: []", ": must be a list of one token or more"),
    "no YAML": ("- {name: lab\n- x", ":2: expected ',' or '}', but got"),
    "no text": (b"\xff\xfe\x00", ": no text in UTF-8"),
    "a control character": ("- a\n- \x07", ": no YAML"),
    "a word": ("- lab\n", ":1: must be an entry with name, sha256 and scopes"),
    "an alias": ("- name: *convlens_secret\n", ":1: found undefined alias"),
    "a tag": ("- !convlens_secret x\n", ":1: could not determine a constructor for the tag"),
    "one scope": (GOOD.replace("[classify]", "classify"), ":1: scopes: must be a list of one or"),
    "a number as hash": (GOOD.replace(A, "12"), ":1: sha256: must be a SHA-256 in 64 small"),
    "a number as name": (GOOD.replace("lab", "5"), ":1: name: must be 1 to 64 letters, digits"),
    "no hash": ("- name: lab\n  scopes: [admin]", ":1: sha256: Field required"),
    "a token as hash": (
        "- name: lab\n  sha256: convlens_secret\n  scopes: [admin]",
        ":2: sha256: must be a SHA-256 in 64 small hexadecimal digits",
    ),
    "a hash and a line feed": (
        f'- name: lab\n  sha256: "{A}\\n"\n  scopes: [admin]',
        ":2: sha256: must be a SHA-256",
    ),
    "no hashes": ("- {name: lab, sha256: [], scopes: [admin]}", ":1: sha256: must be a SHA-256"),
    "an unknown scope": (
        GOOD + f"- name: b\n  sha256: {B}\n  scopes:\n  - root\n",
        ":5: scopes: Input should be 'classify', ",
    ),
    "no scopes": (f"- name: b\n  sha256: {B}\n  scopes: []\n", ":3: scopes: must be a list of one"),
    "an unknown key": (
        GOOD.replace("}", ", scope: all}"),
        ":1: has a key that is none; they are name, ",
    ),
    "a token as a key": (
        GOOD.replace("}", ", convlens_secret: all}"),
        ":1: has a key that is none; they are name, ",
    ),
    "a token as a key twice": (
        GOOD.replace("}", ", convlens_secret: all, convlens_secret: all}"),
        ":1: a key is given twice",
    ),
    "a rate of nothing": (
        f"- name: b\n  sha256: {B}\n  scopes: [admin]\n  requests_per_second: 0\n",
        ":4: requests_per_second: Input should be greater than or equal to 0.000001",
    ),
    "an endless rate": (
        f"- name: b\n  sha256: {B}\n  scopes: [admin]\n  passes_per_second: .inf\n",
        ":4: passes_per_second: Input should be a finite number",
    ),
    "a burst without a rate": (
        GOOD.replace("}", ", passes_burst: 9}"),
        ":1: passes_burst: says nothing without passes_per_second",
    ),
    "a name with spaces": (GOOD.replace("lab", "a b"), ":1: name: must be 1 to 64 letters"),
    "a key twice": (
        f"- name: b\n  sha256: {B}\n  scopes: [admin]\n  scopes: [classify]\n",
        ":4: the key scopes is given twice",
    ),
    "a name twice": (GOOD + GOOD.replace(A, B), ":2: name: is there twice"),
    "a hash twice": (GOOD + GOOD.replace("lab", "page"), ":2: sha256: is there twice"),
    "a hash twice in one": (GOOD.replace(A, f"[{A}, {A}]"), ":1: sha256: is there twice"),
    "a day that there is not": ("- 2001-99-99\n", ": has a value that is none of its type"),
    "a word as a number": ("- !!bool convlens_secret\n", ": has a value that is none of its type"),
    "a rate of next to nothing": (
        GOOD.replace("}", ", passes_per_second: 5.0e-324}"),
        ":1: passes_per_second: Input should be greater than or equal to 0.000001",
    ),
    "nested": ("[" * 500 + "]" * 500, ": nested too deeply"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_name_the_line_and_the_key_and_never_what_stands_there(
    case: str, tmp_path: Path
) -> None:
    text, words = WRONG[case]
    with pytest.raises(Unusable) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(f"tokens: {tmp_path}/tokens.yaml{words}")
    assert "convlens_secret" not in said
    assert not re.search("frozen|tuple|dictionary|instance", said)
    assert len(said.splitlines()) == 1


def test_an_entry_that_cannot_be_written_shows_no_token() -> None:
    command = [sys.executable, "-m", "convlens.server", "token", "lab", "--scopes", "classify"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "convlens-server: cannot write the output: No space left on device\n"
    assert done.returncode == 1


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unusable) as caught:
        read(tmp_path, "- name: a b\n  sha256: x\n  scopes: [admin]\n- name: c\n")
    assert len(str(caught.value).splitlines()) == 4


def test_the_command_writes_an_entry_and_shows_the_token_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tokens = tmp_path / "tokens.yaml", []
    for name in ("lab", "page"):
        flags = ["--scopes", "classify,explain", "--passes-per-second", "50", "--batch-only"]
        assert main(["token", name, *flags]) == 0
        out, err = capsys.readouterr()
        tokens.append(err.splitlines()[-1])
        assert tokens[-1] not in out
        with path.open("a") as file:
            file.write(out)
    lab, page = read_tokens(path)
    for token, made in zip(tokens, (lab, page), strict=True):
        assert made.sha256 == (hashlib.sha256(token.encode()).hexdigest(),)
        assert token.startswith("convlens_") and len(token) > 50
    assert tokens[0] != tokens[1]
    assert (lab.name, lab.scopes) == ("lab", {"classify", "explain"})
    assert (lab.passes_per_second, lab.requests_per_second, lab.batch_only) == (50, None, True)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a b", "--scopes", "classify"], "name: must be"),
        (["lab", "--scopes", "root"], "scopes: Input should be 'classify'"),
        (["lab", "--scopes", "admin", "--requests-per-second", "0"], "requests_per_second: "),
        (["lab", "--scopes", "admin", "--requests-burst", "5"], "requests_burst: says nothing"),
    ],
)
def test_the_command_makes_nothing_that_the_server_would_not_take(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convlens-server token: {words}")


def test_a_broken_file_is_one_line_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text("- name: lab\n")
    assert main(["--listen", "127.0.0.1:0", "--tokens", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(f"{path}:1: ")[0] for line in lines] == ["convlens-server: tokens: "] * 2
    path.unlink()
    assert main(["--tokens", str(path)]) == 1
    assert capsys.readouterr().err.endswith(f"tokens: {path}: No such file or directory\n")
