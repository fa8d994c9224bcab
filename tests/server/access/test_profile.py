"""What the profile changes, and which settings are not taken together."""

import pytest

from convlens.server.access import profile
from convlens.server.settings import Settings, SettingsError, load_settings

PRODUCTION = ["--profile", "production"]
TOKENS, TLS = ["--tokens", "t"], ["--tls-certificate", "c", "--tls-key", "k"]
MUTUAL, OUT = [*TLS, "--tls-client-ca", "a"], ["--listen", "0.0.0.0:1"]
INSECURE = ["--insecure"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CONVLENS_{name.upper()}", raising=False)


def test_what_is_set_wins_over_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings([])[0].reflection
    assert not load_settings([*PRODUCTION, *TOKENS])[0].reflection
    assert load_settings([*PRODUCTION, *TOKENS, "--reflection"])[0].reflection
    monkeypatch.setenv("CONVLENS_PROFILE", "production")
    monkeypatch.setenv("CONVLENS_REFLECTION", "true")
    assert load_settings(TOKENS)[0].reflection
    assert not load_settings([*TOKENS, "--no-reflection"])[0].reflection


@pytest.mark.parametrize(
    "flags",
    [
        [],
        OUT,
        [*OUT, "--loading"],
        [*TOKENS, *OUT],
        [*PRODUCTION, *TOKENS],
        [*PRODUCTION, *TOKENS, "--listen", "[::1]:1"],
        [*PRODUCTION, *TOKENS, "--listen", "localhost:1"],
        [*PRODUCTION, *TOKENS, *TLS, *OUT],
        [*PRODUCTION, *MUTUAL, *OUT],
        [*PRODUCTION, *MUTUAL, *TOKENS, "--loading", *OUT],
        [*PRODUCTION, *INSECURE],
        [*PRODUCTION, *INSECURE, *TOKENS, *OUT],
    ],
    ids=" ".join,
)
def test_what_is_taken(flags: list[str]) -> None:
    assert load_settings(flags)[0].profile == (
        "production" if PRODUCTION[0] in flags else "development"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (PRODUCTION, "listen: whoever reaches 127.0.0.1:50051 may call; set tokens, or"),
        ([*PRODUCTION, *TLS], "listen: whoever reaches 127.0.0.1:50051 may call; set tokens, or"),
        ([*PRODUCTION, "--loading"], "listen: whoever .* may call, and load networks; set tokens"),
        ([*PRODUCTION, *TOKENS, *OUT], r"tokens: travel readable to 0\.0\.0\.0:1; set tls_cert"),
        ([*PRODUCTION, *TOKENS, "--listen", "127.evil.org:1"], "tokens: travel readable to 127"),
        (["--tls-certificate", "c"], "tls_key: is missing; tls_certificate is of no use"),
        (["--tls-key", "c", *INSECURE], "tls_certificate: is missing; tls_key is of no use"),
        (["--tls-client-ca", "c"], "tls_client_ca: needs tls_certificate and tls_key"),
    ],
)
def test_what_is_refused_in_a_sentence(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}") as caught:
        load_settings(flags)
    [line] = str(caught.value).splitlines()
    if flags[0] == "--profile":
        assert line.endswith("; or say that you want it so, with insecure: true")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], []),
        (TOKENS, []),
        ([*MUTUAL, *OUT], []),
        (OUT, ["listen: whoever reaches 0.0.0.0:1 may call; "]),
        ([*OUT, *TLS], ["listen: whoever reaches 0.0.0.0:1 may call; "]),
        ([*OUT, "--loading"], ["listen: whoever reaches 0.0.0.0:1 may call, and load networks; "]),
        ([*OUT, *TOKENS], ["tokens: travel readable to 0.0.0.0:1; "]),
        ([*OUT, *PRODUCTION, *INSECURE], ["listen: whoever reaches 0.0.0.0:1 may call; "]),
    ],
)
def test_what_is_warned_of(flags: list[str], words: list[str]) -> None:
    found = list(profile.dangers(load_settings(flags)[0]))
    assert [line[: len(begin)] for line, begin in zip(found, words, strict=True)] == words
