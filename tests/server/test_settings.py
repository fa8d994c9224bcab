"""Settings: flags over environment over file over defaults, and every mistake at once."""

from pathlib import Path

import pytest
import yaml

from convlens.server.main import main
from convlens.server.settings import Settings, SettingsError, load_settings, parse_address


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CONVLENS_{name.upper()}", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text("drain_timeout: 7\nstream_window: 7\ndefault_timeout: 7\n")
    return path


def test_defaults_hold() -> None:
    settings, print_config = load_settings([])
    assert settings == Settings.model_validate({})
    assert (settings.listen, settings.engine, print_config) == (
        "127.0.0.1:50051",
        "embedded",
        False,
    )


def test_flags_over_environment_over_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_STREAM_WINDOW", "8")
    monkeypatch.setenv("CONVLENS_DEFAULT_TIMEOUT", "8")
    settings, _ = load_settings(["--config", str(file), "--default-timeout", "9"])
    assert (settings.drain_timeout, settings.stream_window, settings.default_timeout) == (7, 8, 9)


def test_the_printed_settings_can_be_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--drain-timeout", "9", "--no-reflection", "--print-config"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    again, _ = load_settings(["--config", str(printed)])
    assert (again.drain_timeout, again.reflection) == (9, False)
    assert yaml.safe_load(printed.read_text()) == again.model_dump(mode="json")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(["--drain-timeout", "-1", "--listen", "nowhere", "--device", "tpu"])
    lines = str(caught.value).splitlines()
    assert {line.partition(":")[0] for line in lines} == {"drain_timeout", "listen", "device"}
    assert any("host:port" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drain_timeot: 3\n", "drain_timeot"),
        ("a: [\n", "no YAML"),
        ("- 3\n", "must be settings and their values"),
        ("a: !!bool b\n", "must be settings and their values"),
        ("a: 2001-99-99\n", "month must be in 1..12"),
        ("drain_timeout: many\n", "many"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings(["--config", str(path)])


def test_wrong_settings_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "missing.yaml"]) == 2
    assert capsys.readouterr().err == "convlens-server: --config: there is no file missing.yaml\n"
    assert main(["--drain-timeout", "-1"]) == 2
    assert capsys.readouterr().err.startswith("convlens-server: drain_timeout: ")


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    assert "--config" in text


def test_addresses_are_checked_and_keep_their_brackets() -> None:
    settings, _ = load_settings(["--listen", "[::1]:50051", "--metrics-listen", "off"])
    assert str(parse_address(settings.listen)) == "[::1]:50051"
    assert settings.metrics_listen == "off"


@pytest.mark.parametrize(
    "text", ["http://a:8001", "::1:8001", "[::1]", "[a]:1", "a b:1", ":1", "a:²", "a:65536", "a:0"]
)
def test_what_is_no_address_of_triton(text: str) -> None:
    with pytest.raises(SettingsError, match=r"triton_url: must be .*host:port"):
        load_settings(["--engine", "triton", "--triton-url", f"b:8001,{text}"])


def test_addresses_of_triton() -> None:
    url = "triton.models.svc:8001, 10.0.0.1:8001,[::1]:8001,[fe80::1%eth0]:8001"
    assert load_settings(["--triton-url", url])[0].triton_url == url
    assert parse_address("[fe80::1%eth0]:8001").host == "fe80::1%eth0"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--engine", "triton", "--networks", "n.yaml"], "networks: is not for engine triton"),
        (["--engine", "triton", "--device", "cpu"], "device: is for the embedded engine alone"),
        (["--engine", "triton-local", "--device", "cuda:0"], "device: .*stands in networks.yaml"),
    ],
)
def test_what_the_engine_would_not_look_at(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}") as caught:
        load_settings([*flags, "--triton-key", "s3cret"])
    assert len(str(caught.value).splitlines()) == 1
    assert "s3cret" not in str(caught.value)


def test_the_key_is_never_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--triton-key", "s3cret", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "s3cret" not in printed
    assert "# triton_key is set and not shown; give it as CONVLENS_TRITON_KEY" in printed
    file = tmp_path / "printed.yaml"
    file.write_text(printed)
    assert load_settings(["--config", str(file), "--triton-key", "s3cret"])[0].triton_key
    file.write_text("triton_key: 7331\n")
    with pytest.raises(SettingsError, match=r"^triton_key: ") as caught:
        load_settings(["--config", str(file)])
    assert "7331" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "word\n", "a: b: c\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(["--config", str(path)])


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00listen")
    with pytest.raises(SettingsError):
        load_settings(["--config", str(path)])


def test_off_may_be_written_as_yaml_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("metrics_listen: off\n")
    assert load_settings(["--config", str(path)])[0].metrics_listen == "off"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--default-network", "nope"], "default_network: No network 'nope' is served"),
        (["--device", "cuda:7"], "there is no cuda:7 on this machine"),
        (["--engine", "triton", "--triton-ca", "missing.pem"], "missing.pem"),
    ],
)
def test_what_shows_only_at_the_start_is_one_line_too(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--listen", "127.0.0.1:0", "--metrics-listen", "off", *flags]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("convlens-server: ")
    assert words in error
