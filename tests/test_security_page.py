"""docs/security.md: a server set up as it says, asked as it says."""

import re
from pathlib import Path
from typing import Any

import yaml

from convlens.server.access.scopes import NEEDED, SCOPES
from convlens.server.access.tokens import Token, read_tokens
from convlens.server.contract import RPCS
from convlens.server.settings import Settings
from convlens.workers.images import Limits
from convlens.workers.images.headers import FORMATS, MAX_PARTS, MAX_SCANNED_PIXELS, MAX_SCANS
from tests.conftest import running_server
from tests.server.access.serving import Files
from tests.snippets import Page, dead_links, run

PAGE = Page("security")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.text, re.DOTALL | re.MULTILINE)


def test_a_server_with_tls_and_tokens(tmp_path: Path) -> None:
    make, ask = blocks("bash")
    files = Files(tmp_path)
    here: Any = type("Here", (), {"address": "127.0.0.1:1"})
    run(here, tmp_path, "bash", "-e", "-c", make)
    (tmp_path / "clients").unlink()
    tokens = tmp_path / "tokens.yaml"
    assert [entry.name for entry in read_tokens(tokens)] == ["lab", "nightly"]
    assert (tmp_path / "lab.token").stat().st_mode & 0o077 == 0
    settings: dict[str, Any] = {"profile": "production", "tokens": tokens, **files.settings}
    with running_server(**settings) as server:
        lines = PAGE.run_python(server, tmp_path)
        assert "shapes" in lines[0]
        assert lines[1].startswith("AdversarialService/Attack needs a token with the scope attack")
        (tmp_path / "clients").unlink()
        assert "shapes@1" in "\n".join(run(server, tmp_path, "bash", "-e", "-c", ask))


def test_the_settings_are_settings() -> None:
    [block] = blocks("yaml")
    settings = Settings.model_validate(yaml.safe_load(block))
    assert not settings.reflection


def test_what_the_page_says_of_the_code_is_so() -> None:
    for word in (*Token.model_fields, *SCOPES, "profile", "insecure", "health_listen"):
        assert re.search(rf"`{word}[`:]", PAGE.text), word
    for path, scope in NEEDED.items():
        if RPCS[path].service.endswith("NetworkService"):
            row = next(
                line for line in PAGE.text.splitlines() if RPCS[path].name.split("/")[1] in line
            )
            assert ("`admin`" in row) == (scope == "admin")
    limits = Limits()
    assert (limits.encoded_bytes, limits.pixels, limits.side) == (2**25, 50_000_000, 16_384)
    assert (MAX_SCANS, MAX_SCANNED_PIXELS, MAX_PARTS) == (100, 600_000_000, 100_000)
    words = (
        "32 MiB, 50 million pixels, 16 384 on a side; at most 100 scans of a JPEG and 600 million"
    )
    assert words in PAGE.text
    assert FORMATS.replace(" or ", ", ") in PAGE.text.replace("(JPEG", "JPEG")


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []
