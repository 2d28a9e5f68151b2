"""Checks OpenLineage events against what the OpenLineage project publishes.

Two things say what is valid. The lock files have the project's Python client, whose classes are generated from the
schemas: every event is checked against their fields and types. The schemas themselves say more, but no package in the
registries contains them. They are the folder `spec` of github.com/OpenLineage/OpenLineage, and the environment variable
NYC_TAXI_OPENLINEAGE_SPEC says where a copy of it is. If there is one, events are checked against the schemas as well.
"""

import enum
import importlib
import json
import pkgutil
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import jsonschema
import pytest
from openlineage import common
from openlineage.client import generated
from openlineage.client.generated.base import BaseEvent, BaseFacet
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.conftest import OPENLINEAGE_SPEC

OF_DBT = "https://github.com/OpenLineage/OpenLineage/tree/main/integration/common/openlineage/schema/"
CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
SPEC = OPENLINEAGE_SPEC / "OpenLineage.json"
NEEDED = pytest.mark.skipif(not SPEC.exists(), reason=f"no schemas of OpenLineage in {OPENLINEAGE_SPEC}")

MORE = {"runId": {"format": "uuid"}, "eventTime": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"}}
"""What the classes check when an event is made."""
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def problems(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event and each of its facets, as sentences; an empty list if nothing is."""
    return [
        problem
        for registry in _registries()
        for problem in (
            *_validate(registry, event, f"{CORE}#/$defs/RunEvent", "the event"),
            *_problems_of_facets(registry, event),
        )
    ]


def problems_of_dataset(dataset: Mapping[str, Any], kind: str) -> list[str]:
    """The same for a dataset alone; `kind` is InputDataset or OutputDataset."""
    return [
        problem
        for registry in _registries()
        for problem in (
            *_validate(registry, dataset, f"{CORE}#/$defs/{kind}", str(dataset["name"])),
            *_problems_of_facets(registry, {"dataset": dataset}),
        )
    ]


def _problems_of_facets(registry: Registry, value: Any, path: str = "") -> Iterator[str]:
    """Find everything that has a `_schemaURL`, which is a facet, and check it against that schema."""
    if isinstance(value, Mapping):
        if url := value.get("_schemaURL"):
            # Of dbt's facets the package has not all schemas: then a facet needs what every facet has.
            known = url.partition("#")[0] in registry or not url.startswith(OF_DBT)
            yield from _validate(registry, value, url if known else f"{CORE}#/$defs/BaseFacet", path)
        for name, inner in value.items():
            yield from _problems_of_facets(registry, inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _problems_of_facets(registry, inner, f"{path}/{number}")


def _validate(registry: Registry, value: Any, url: str, what: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        {"$ref": url}, registry=registry, format_checker=jsonschema.FormatChecker()
    )
    return [f"{what}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


@cache
def _registries() -> list[Registry]:
    return [registry(schemas()) for schemas in (of_classes, *([published] if SPEC.exists() else []))]


def registry(schemas: Mapping[str, Any]) -> Registry:
    """The schemas by their addresses, with those of dbt's own facets, which their package contains."""
    of_dbt = {OF_DBT + path.name: _read(path) for path in Path(*common.__path__, "schema").glob("*.json")}
    return Registry().with_resources(
        (url, Resource.from_contents(schema, DRAFT202012)) for url, schema in {**of_dbt, **schemas}.items()
    )


def published() -> dict[str, dict[str, Any]]:
    """The schemas that the project publishes, by their addresses."""
    found = [_read(path) for path in (SPEC, *(SPEC.parent / "facets").glob("*.json"))]
    return {schema["$id"]: schema for schema in found}


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def of_classes() -> dict[str, dict[str, Any]]:
    """Schemas that say what the client's classes say, by the addresses of the schemas that these are generated from."""
    modules = [
        importlib.import_module(f"{generated.__name__}.{module.name}")
        for module in pkgutil.iter_modules(generated.__path__)
    ]
    classes = [
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and attrs.has(found) and found.__module__ == module.__name__
    ]
    schemas: dict[str, dict[str, Any]] = {}
    for found in classes:
        url, _, _ = _url(found).partition("#")
        schemas.setdefault(url, {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": url, "$defs": {}})
        schemas[url]["$defs"][found.__name__] = _of_class(found)
    return schemas


def _url(found: Any) -> str:
    if "_get_schema" in vars(found):
        return str(found._get_schema())
    module = importlib.import_module(found.__module__)  # the parts of a facet are in the facet's own schema
    facet = next(other for other in vars(module).values() if isinstance(other, type) and "_get_schema" in vars(other))
    return f"{facet._get_schema().partition('#')[0]}#/$defs/{found.__name__}"


def _of_class(found: type) -> dict[str, Any]:
    hints = get_type_hints(found)
    fields = attrs.fields(found)
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    if issubclass(found, BaseFacet):
        required += ["_producer", "_schemaURL"]
    elif issubclass(found, BaseEvent):
        required += ["producer", "schemaURL"]
    properties = {field.name: _of_type(hints[field.name]) for field in fields}
    for field in fields:
        if field.name == "type" and isinstance(field.default, str):
            properties[field.name] = {"const": field.default}
        properties[field.name] |= MORE.get(field.name, {})
    return {"type": "object", "required": required, "properties": properties}


def _of_type(hint: Any) -> dict[str, Any]:
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in (types.UnionType, Union):
        return {"anyOf": [_of_type(argument) for argument in arguments]}
    if origin is list:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(arguments[1])}
    if origin is Literal:
        return {"enum": list(arguments)}
    if hint is Any:
        return {}
    if hint in TYPES:
        return {"type": TYPES[hint]}
    if issubclass(hint, enum.Enum):
        return {"enum": [value.value for value in hint]}
    return {"$ref": _url(hint)}
