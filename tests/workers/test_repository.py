"""The model repository that convlens-workers writes for Triton."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as typeless

from convlens.workers.config import Config, ConfigError, NetworkEntry, PoolConfig, load_config
from convlens.workers.main import main, program
from convlens.workers.triton.repository import write_repository

model_config_pb2: Any = typeless
FILE = """\
networks:
  - {name: shapes}
loadable:
  - {name: shapes, version: "2", traffic_weight: 0}
pools:
  inference: {instances: 2, threads: 1, queue_size: 7, max_batch: 8}
"""


def parsed(folder: Path):
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "networks.yaml"
    file.write_text(FILE)
    return load_config(file)


def test_one_model_for_each_pool_of_each_version(config: Config, tmp_path: Path) -> None:
    out = tmp_path / "models"
    names = write_repository(config, 0, out)
    assert names == [
        "shapes@1-inference",
        "shapes@1-analysis",
        "shapes@2-inference",
        "shapes@2-analysis",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    for name in names:
        assert parsed(out / name).name == name
        assert (out / name / "1" / "model.py").is_file()


def test_the_settings_of_a_pool_reach_triton(config: Config, tmp_path: Path) -> None:
    write_repository(config, 0, tmp_path)
    inference = parsed(tmp_path / "shapes@1-inference")
    [group] = inference.instance_group
    assert (group.count, group.kind) == (2, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    settings = PoolConfig.model_validate_json(inference.parameters["pool"].string_value)
    assert (settings.threads, settings.queue_size, settings.max_batch) == (1, 7, 8)


def test_triton_neither_queues_nor_batches(config: Config, tmp_path: Path) -> None:
    for name in write_repository(config, 0, tmp_path):
        model = parsed(tmp_path / name)
        assert model.model_transaction_policy.decoupled
        # Its batcher lets requests wait for half a second: see docs/decisions/0010.
        assert not model.HasField("dynamic_batching")
        assert model.max_batch_size == 0


def test_on_gpus_every_pool_has_an_instance_on_each(config: Config, tmp_path: Path) -> None:
    write_repository(config, 3, tmp_path)
    [group] = parsed(tmp_path / "shapes@1-analysis").instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert list(group.gpus) == [0, 1, 2]


def test_the_same_configuration_gives_the_same_bytes(config: Config, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        write_repository(config, 0, folder)
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert one == two
    expected = Path(__file__).with_name("shapes@1-analysis.pbtxt")
    assert one["shapes@1-analysis/config.pbtxt"].decode() == expected.read_text()


def test_the_command_says_what_is_served(tmp_path: Path) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text(FILE)
    arguments = ["repository", "--config", str(file), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(program, [*arguments, "--gpus", "0"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "served shapes@1-inference",
        "served shapes@1-analysis",
        "loadable shapes@2-inference",
        "loadable shapes@2-analysis",
    ]


def test_a_triton_may_be_for_one_pool(tmp_path: Path) -> None:
    file, out = tmp_path / "networks.yaml", tmp_path / "out"
    file.write_text(FILE)
    arguments = ["repository", "--config", str(file), "--out", str(out), "--gpus", "0"]
    result = CliRunner().invoke(program, [*arguments, "--pool", "analysis"])
    assert result.output.splitlines() == ["served shapes@1-analysis", "loadable shapes@2-analysis"]
    assert len(list(out.iterdir())) == 2
    lists = json.loads(parsed(out / "shapes@1-analysis").parameters["lists"].string_value)
    assert lists == {"networks": ["shapes@1"], "loadable": ["shapes@2"], "pools": ["analysis"]}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        # Two networks of two workers each, and two more while one of them is healed.
        (["--pool", "inference", "--gpus", "0"], "18Mi"),
        (["--pool", "analysis", "--gpus", "0"], "9Mi"),
        (["--gpus", "0"], "24Mi"),
        # As many on each GPU.
        (["--pool", "analysis", "--gpus", "3"], "27Mi"),
    ],
)
def test_the_size_of_the_shared_memory(tmp_path: Path, flags: list[str], size: str) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text(FILE)
    arguments = ["shared-memory", "--config", str(file), "--message-bytes", str(2**20)]
    assert CliRunner().invoke(program, [*arguments, *flags]).output == f"{size}\n"


@pytest.mark.parametrize(
    ("device", "gpus", "kind"),
    [
        ("auto", 2, [0, 1]),
        ("cuda", 2, [0, 1]),
        ("cuda:1", 2, [1]),
        ("cpu", 2, []),
        ("auto", 0, []),
    ],
)
def test_the_device_of_an_entry_is_where_its_instances_are(
    tmp_path: Path, device: str, gpus: int, kind: list[int]
) -> None:
    config = Config(networks=[NetworkEntry(name="shapes", device=device)])
    write_repository(config, gpus, tmp_path)
    [group] = parsed(tmp_path / "shapes@1-inference").instance_group
    assert list(group.gpus) == kind
    on_gpu = group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert on_gpu == bool(kind)


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:2", 2)])
def test_a_device_that_is_not_there(tmp_path: Path, device: str, gpus: int) -> None:
    config = Config(networks=[NetworkEntry(name="shapes", device=device)])
    with pytest.raises(ConfigError, match="shapes@1: device: there is no"):
        write_repository(config, gpus, tmp_path)


def test_what_a_stub_reads_is_the_entry(config: Config, tmp_path: Path) -> None:
    write_repository(config, 0, tmp_path)
    for entry in config.entries:
        model = parsed(tmp_path / f"{entry.reference}-analysis")
        text = model.parameters["network"].string_value
        assert NetworkEntry.model_validate_json(text).model_dump() == entry.model_dump()


def test_a_wrong_file_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["repository", "--config", "missing.yaml", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["convlens-workers", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "convlens-workers: missing.yaml: No such file or directory\n"
