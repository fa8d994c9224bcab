"""Files that are followed."""

from pathlib import Path

import structlog

from convlens.server.access.files import Followed


def test_whatever_is_wrong_with_a_file_the_server_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")

    def read() -> int:
        return int(path.read_text())

    followed = Followed("tokens", [path], read)
    path.write_text("secret")
    with structlog.testing.capture_logs() as logs:
        assert not followed.look() and not followed.look()
    assert followed.is_stale and followed.value == 1
    [line] = logs
    assert (line["why"], line["setting"]) == ("ValueError", "tokens")
    path.write_text("2")
    assert followed.look() and not followed.look()
    assert (followed.value, followed.is_stale) == (2, False)
