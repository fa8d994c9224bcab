"""networks.yaml: what it may say, and every mistake of it at once, each with its line."""

from pathlib import Path

import pytest

from convlens.workers.config import Config, ConfigError, NetworkEntry, load_config
from convlens.workers.mistakes import nearest


@pytest.fixture
def write(tmp_path: Path):
    """Writes the file and gives its path; its folder has weights, labels and a module."""
    (tmp_path / "some.safetensors").touch()
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "mine.py").touch()

    def file(text: str) -> Path:
        path = tmp_path / "networks.yaml"
        path.write_text(text)
        return path

    return file


def mistakes(file: Path) -> list[str]:
    """The lines of the error without the file's name: "3: networks.0.name: …"."""
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:").strip() for line in lines]


EVERY_KEY = """\
networks:
  - name: resnet
    version: "2"
    builder: torchvision:resnet18
    arguments: {num_classes: 2}
    weights: some.safetensors
    labels: labels.txt
    input:
      size: [160, 128]
      resize: 180
      interpolation: bicubic
      mean: [0.5, 0.5, 0.5]
      std: [0.25, 0.25, 0.25]
    precision: bf16
    channels_last: false
    device: cuda:1
    compile: true
    rows: 4
    traffic_weight: 0.5
  - name: mine
    builder: mine:build
    path: .
    labels: [a, b]
    input: {size: 64}
loadable:
  - name: shapes
pools:
  inference: {threads: 2}
"""


def test_every_key(write) -> None:
    config = load_config(write(EVERY_KEY))
    first, second = config.networks
    folder = write("").parent
    assert first.model_dump() == {
        "name": "resnet",
        "version": "2",
        "builder": "torchvision:resnet18",
        "arguments": {"num_classes": 2},
        "path": None,
        "weights": str(folder / "some.safetensors"),
        "labels": folder / "labels.txt",
        "input": {
            "size": (160, 128),
            "resize": 180,
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
        },
        "precision": "bf16",
        "channels_last": False,
        "device": "cuda:1",
        "compile": True,
        "rows": 4,
        "traffic_weight": 0.5,
    }
    assert set(first.model_dump()) == set(NetworkEntry.model_fields)
    assert (second.path, second.labels, second.input.size) == (folder, ("a", "b"), (64, 64))
    assert [entry.reference for entry in config.entries] == ["resnet@2", "mine@1", "shapes@1"]
    assert config.pools.inference.threads == 2


def test_an_entry_survives_its_way_to_a_stub(write) -> None:
    for entry in load_config(write(EVERY_KEY)).entries:
        again = NetworkEntry.model_validate_json(entry.model_dump_json(exclude_defaults=True))
        assert again.model_dump() == entry.model_dump()


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeffnetworks: [{name: shapes}]\n"])
def test_without_keys_the_bundled_network_is_served(write, text: str) -> None:
    assert load_config(write(text)).model_dump() == Config().model_dump()


def test_anchors_and_merging(write) -> None:
    text = """\
networks:
  - &base {name: shapes, rows: 4, traffic_weight: 1}
  - {<<: *base, version: "2", rows: 5}
  - {<<: *base, version: "3", rows: none}
"""
    assert mistakes(write(text)) == [
        "4: networks.2.rows: must be a valid integer, unable to parse string as an integer "
        "(given: 'none')"
    ]
    config = load_config(write(text.replace("none", "6")))
    assert [entry.rows for entry in config.networks] == [4, 5, 6]


def test_all_mistakes_of_a_file_with_their_lines(write) -> None:
    text = """\
networks:
  - name: res net
    builder: torchvision:resnet18x
    weihgts: random
  - name: b
    builder: torchvision:resnet18
    weights: gone.pth
    name: c
    input:
      size: 0
      mean: [0.5, 0.5]
    precision: fp16
pools:
  inference: {instances: 0}
netwoks: []
"""
    found = mistakes(write(text))
    places = [line.split(": ")[:2] for line in found]
    assert places == [
        ["2", "networks.0.name"],
        ["3", "networks.0.builder"],
        ["4", "networks.0.weihgts"],
        ["7", "networks.1.weights"],
        ["8", "the key name is given twice"],
        ["10", "networks.1.input.size"],
        ["11", "networks.1.input.mean"],
        ["12", "networks.1.precision"],
        ["14", "pools.inference.instances"],
        ["15", "netwoks"],
    ]
    assert found[2] == (
        "4: networks.0.weihgts: unknown key; did you mean weights? Allowed: "
        + ", ".join(sorted(NetworkEntry.model_fields))
    )
    assert "must be greater than or equal to 1 (given: 0)" in found[8]
    assert "did you mean networks? Allowed: loadable, networks, pools" in found[9]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("name: 'a b'", "networks.0.name: is 'a b'; must be letters, digits, _, . and - alone"),
        ("name: shapes, version: 1.10", "version: must be text; write it in quotes (given: 1.1)"),
        ("builder: nonsense, name: a", "builder: is 'nonsense'; must be bundled:NAME, torchvi"),
        ("name: alexnet", "bundled network alexnet; there are: shapes, shapes-shortcut, shapes-ro"),
        ("name: a, builder: 'a:b-c'", "is 'a:b-c'; must be MODULE:FUNCTION in Python's names"),
        ("name: a, builder: 'mine:f', path: gone", "path: there is no folder"),
        ("name: shapes, path: .", "path: is for modules of one's own; leave it out for bundled"),
        ("name: shapes, weights: x.bin", "is 'x.bin'; a file must end in .safetensors, .pth, .pt"),
        ("name: shapes, weights: gone.pth", "gone.pth; relative paths begin at the file's folder"),
        ("name: shapes, weights: V1", "leave it out for the bundled weights of shapes"),
        ("name: shapes, weights: visits-1", "visits-704, visits-2176, visits-7168, visits-21632"),
        ("name: shapes-robust, weights: visits-704", "(.safetensors, .pth, .pt), or random"),
        ("name: a, builder: 'mine:f', weights: V1", "for mine:f it must be a file (.safetensors"),
        ("name: shapes, labels: gone.txt", "labels: there is no file"),
        ("name: shapes, labels: [a, no]", "labels: entry 1 is False; must be text, in quotes"),
        ("name: shapes, labels: [a, '']", "labels: entry 1 is ''; must be text"),
        ("name: shapes, labels: []", "labels: must be a list of names, or a file with one name"),
        ("name: shapes, labels: {a: b}", "labels: must be a list of names, or a file"),
        ("name: shapes, input: 224", "must be a mapping with keys of: interpolation, mean, resi"),
        ("name: shapes, input: {size: [1, 2, 3]}", "input.size: is [1, 2, 3]; must be a side"),
        ("name: shapes, input: {size: 9000}", "must be a side in pixels from 1 to 8192"),
        ("name: shapes, input: {size: true}", "input.size: is True; must be a side"),
        ("name: shapes, input: {std: [1, 0, 1]}", "each must be greater than 0"),
        ("name: shapes, input: {mean: [.nan]}", "must be three numbers for RGB, or one for grey"),
        ("name: shapes, input: {mean: [0], std: [1, 1, 1]}", "has 3 numbers and mean has 1"),
        ("name: shapes, input: {interpolation: cubic}", "must be 'bilinear', 'bicubic' or 'near"),
        ("name: shapes, device: tpu", "device: is 'tpu'; must be auto, cpu, cuda or cuda:N"),
        ("name: shapes, rows: 0", "rows: must be greater than or equal to 1 (given: 0)"),
        ("name: shapes, compile: perhaps", "compile: must be a valid boolean"),
        ("name: shapes, arguments: 3", "arguments: must be a valid dictionary (given: 3)"),
        ("builder: 'bundled:shapes'", "networks.0.name: must be given"),
    ],
)
def test_what_is_wrong_with_an_entry(write, keys: str, words: str) -> None:
    [line] = mistakes(write(f"networks:\n  - {{{keys}}}\n"))
    assert line.startswith("2: networks.0.")
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("networks: []\n", "1: networks: List should have at least 1 item"),
        ("networks:\n", "1: networks: must be a valid list (given: None)"),
        ("networks: shapes\n", "1: networks: must be a valid list (given: 'shapes')"),
        ("- name: shapes\n", "1: must be a mapping with keys of: loadable, networks, pools"),
        ("networks:\n- shapes\n", "2: networks.0: must be a mapping with keys of: arguments"),
        ("networks: [{name: shapes}, {name: shapes}]\n", "shapes@1 is listed twice; give one"),
        ("loadable: [{name: shapes}]\n", "1: loadable: shapes@1 is listed twice"),
        ("pools: {analysis: {threads: -1}}\n", "1: pools.analysis.threads: must be greater than"),
        ("a: [\n", "2: no YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\n\tb: 2\n", "2: no YAML: a tab where YAML takes spaces alone"),
        ("a: !!python/name:os.system\n", "1: no YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "2: no YAML: but found another document"),
        ("a: \x07\n", "no YAML: unacceptable character #x0007"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_file(write, text: str, words: str) -> None:
    lines = mistakes(write(text))
    assert words in lines[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: No such file or directory"):
        load_config(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: no text in UTF-8"):
        load_config(tmp_path / "latin.yaml")


def test_a_recursive_file_ends(write) -> None:
    assert mistakes(write("networks: &a [*a]\n"))


def test_what_is_found_out_later_has_its_line_too(write) -> None:
    config = load_config(write("loadable:\n  - name: shapes\n    version: '2'\n    rows: 3\n"))
    file = write("").parent / "networks.yaml"
    [entry] = config.loadable
    assert str(entry.mistake("rows", "too\nmany")) == f"{file}:4: shapes@2: rows: too many"
    assert str(entry.mistake("labels", "x")) == f"{file}:2: shapes@2: labels: x"
    assert str(NetworkEntry(name="shapes").mistake("rows", "x")) == "shapes@1: rows: x"


def test_unknown_names_are_told_the_nearest_or_the_first_of_all() -> None:
    names = [f"features.denseblock{number}" for number in range(430)]
    words = nearest("zz", names)
    assert words == f"there are: {', '.join(names[:10])} … and 420 more"
    assert nearest("zz", names[:10]) == f"there are: {', '.join(names[:10])}"
    assert nearest("zz", names, all_of="a page") == "there are: a page"
    assert nearest("features.denseblok7", names).startswith("did you mean features.denseblock7")
