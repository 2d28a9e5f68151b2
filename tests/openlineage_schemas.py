"""Checks OpenLineage events against the schemas that the OpenLineage project publishes.

No package in the registries contains the schemas. They are the folder `spec` of github.com/OpenLineage/OpenLineage, and
the environment variable NYC_TAXI_OPENLINEAGE_SPEC says where a copy of it is.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openlineage import common
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.conftest import OPENLINEAGE_SPEC

OF_DBT = "https://github.com/OpenLineage/OpenLineage/tree/main/integration/common/openlineage/schema/"
CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
SPEC = OPENLINEAGE_SPEC / "OpenLineage.json"
NEEDED = pytest.mark.skipif(not SPEC.exists(), reason=f"no schemas of OpenLineage in {OPENLINEAGE_SPEC}")


def problems(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event and each of its facets, as sentences; an empty list if nothing is."""
    return [*_validate(event, f"{CORE}#/$defs/RunEvent", "the event"), *_problems_of_facets(event)]


def problems_of_dataset(dataset: Mapping[str, Any], kind: str) -> list[str]:
    """The same for a dataset alone; `kind` is InputDataset or OutputDataset."""
    found = _validate(dataset, f"{CORE}#/$defs/{kind}", str(dataset["name"]))
    return [*found, *_problems_of_facets({"dataset": dataset})]


def _problems_of_facets(value: Any, path: str = "") -> Iterator[str]:
    """Find everything that has a `_schemaURL`, which is a facet, and check it against that schema."""
    if isinstance(value, Mapping):
        if url := value.get("_schemaURL"):
            # Of dbt's facets the package has not all schemas: then a facet needs what every facet has.
            known = url.partition("#")[0] in _registry() or not url.startswith(OF_DBT)
            yield from _validate(value, url if known else f"{CORE}#/$defs/BaseFacet", path)
        for name, inner in value.items():
            yield from _problems_of_facets(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _problems_of_facets(inner, f"{path}/{number}")


def _validate(value: Any, url: str, what: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        {"$ref": url}, registry=_registry(), format_checker=jsonschema.FormatChecker()
    )
    return [f"{what}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


@cache
def _registry() -> Registry:
    found = [json.loads(path.read_text()) for path in (SPEC, *(SPEC.parent / "facets").glob("*.json"))]
    named = [(schema["$id"], schema) for schema in found]
    # dbt's own facets name their schemas by the addresses of files that their package contains.
    named += [
        (OF_DBT + path.name, json.loads(path.read_text())) for path in Path(*common.__path__, "schema").glob("*.json")
    ]
    return Registry().with_resources((url, Resource.from_contents(schema, DRAFT202012)) for url, schema in named)
