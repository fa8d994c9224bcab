"""The schema of every document: Kubernetes' own, and small ones of ours for what others define."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate

from tests.deploy.kubectl import Doc

OURS = {path.stem: json.loads(path.read_text()) for path in Path(__file__).parent.glob("schemas/*")}
# The oldest Kubernetes with what the manifests use, and the newest that is known.
VERSIONS = ("1.27", kubernetes_validate.latest_version())


def mistakes(doc: Doc) -> Iterator[str]:
    """What a document has that its schema has not; a document without one is a mistake."""
    name = f"{doc.get('kind')} {doc.get('metadata', {}).get('name')}"
    group = doc["apiVersion"].partition("/")[0]
    if "." in group and not group.endswith(".k8s.io"):
        schema = OURS.get(doc["kind"])
        if not schema:
            yield f"{name}: there is no schema for {doc['apiVersion']}"
            return
        for error in jsonschema.Draft202012Validator(schema).iter_errors(doc):
            yield f"{name}: {error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(doc, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name}: {error}"
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: {version}: {error}"
