"""What tasks tell OpenLineage about the data that they have read and made."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.serde import Serde

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.audit.engine import Check
from include.nyc_taxi.audit.rules import MONTH_RULES, TRIP_RULES, Severity
from include.nyc_taxi.reports import adhoc
from include.nyc_taxi.reports.adhoc_report import Report
from include.nyc_taxi.warehouse import make_ready
from include.nyc_taxi.warehouse.made import BUILT_MONTHS
from include.orchestration import assets
from include.orchestration.lineage_datasets import (
    Warehouse,
    Work,
    move,
    of_event,
    of_reading,
    of_refusal,
    of_report_count,
    of_weeks_chart,
)
from tests import openlineage_schemas
from tests.conftest import ROOT
from tests.openlineage_schemas import NEEDED

WAREHOUSE = Warehouse("duckdb:///srv/taxi/warehouse.duckdb", "warehouse")
EDITION = {"etag": '"e1"', "last_modified": "Mon, 20 Mar 2023 10:00:00 GMT", "bytes": 1234}
QUALITY = {rule.name: 0.1 for rule in TRIP_RULES} | {rule.name: 0.0 for rule in MONTH_RULES}
REQUEST = adhoc.parse(
    {"fleet": "green", "borough": "Queens", "start_date": "2023-01-09", "end_date": "2023-01-10", "name": "a"}
)
MARTS = ("airport_trips", "daily_trips", "fleet_market_share")


def facts_of(asset: Any, fleet: str, month: str) -> dict[str, Any]:
    """What a task stores with the asset's event."""
    group, path = asset.uri.removeprefix("x-nyc-taxi://").split("/", maxsplit=1)
    kind = "mart" if group == "marts" else path.split("/")[0]
    outputs = settings.outputs_dir(fleet)
    of_kind: dict[str, dict[str, Any]] = {
        "taxi_zones_file": {
            "paths": ["/srv/raw/taxi_zone_lookup.csv", "/srv/raw/taxi_zones.zip"],
            "bytes": 2468,
            "editions": [
                EDITION | {"url": "https://tlc.example/misc/taxi_zone_lookup.csv"},
                EDITION | {"url": "https://tlc.example/misc/taxi_zones.zip", "etag": None},
            ],
        },
        "taxi_zones": {"rows": 265},
        "taxi_trips_file": {
            **EDITION,
            "url": f"https://tlc.example/trip-data/{catalogue.file_name(fleet, month)}",
            "path": str(settings.raw_dir() / catalogue.file_name(fleet, month)),
        },
        "taxi_trips": {
            **EDITION,
            "rows": 7,
            "quality_checks": QUALITY,
            "quality_warnings": [],
            "unknown_columns": ["surprise"],
            "weeks_counted_again": ["2023-01-30", "2023-02-06"],
        },
        "manhattan_stats": {"rows": 5, "trips": 7, "path": str(outputs / f"manhattan_stats_{month}.geojson")},
        "manhattan_map": {
            "path": str(outputs / f"manhattan_map_{month}.png"),
            "overall_path": str(outputs / "manhattan_map.png"),
        },
        "trips_by_week": {"week": "2023-02-01", "rows": 3, "num_trips": 7, "path": str(outputs / "trips_by_week.csv")},
        "mart": {"rows": 4},
        "airport_chart": {"path": str(outputs / f"trips_at_airports_{month}.png")},
        "market_share_chart": {"path": str(outputs.parent / "all_fleets" / f"market_share_{month}.png")},
        "adhoc_request": {"rows": 168, "path": "/srv/outputs/a.png", "csv_path": "/srv/outputs/a.csv"},
    }
    return {"month": month, **of_kind[kind]}


def all_assets(fleet: str) -> list[Any]:
    made = (assets.trips_file, assets.trips, assets.manhattan_stats, assets.manhattan_map, assets.trips_by_week)
    return [
        assets.TAXI_ZONES_FILE,
        assets.TAXI_ZONES,
        assets.ADHOC_REQUEST,
        assets.MARKET_SHARE_CHART,
        assets.airport_chart(fleet),
        *(make(fleet) for make in made),
        *(assets.mart(name, fleet) for name in MARTS),
    ]


def all_works() -> Iterator[Any]:
    """The work of each task, for each layout of each fleet's files."""
    for fleet in catalogue.FLEETS.values():
        for layout in fleet.layouts:
            month = layout.first_month
            for asset in all_assets(fleet.name):
                yield pytest.param(
                    asset.uri, fleet.name, month, id=f"{asset.uri.rpartition('://')[2]}-{fleet.name}-{month}"
                )


def work(uri: str, fleet: str, month: str) -> Work:
    (asset,) = (asset for asset in all_assets(fleet) if asset.uri == uri)
    return of_event(WAREHOUSE, uri, facts_of(asset, fleet, month))


def load(fleet: str, month: str) -> Work:
    return work(assets.trips(fleet).uri, fleet, month)


def columns(dataset: Dataset) -> set[str] | None:
    schema: Any = (dataset.facets or {}).get("schema")
    return {field.name for field in schema.fields} if schema else None


def origins(dataset: OutputDataset) -> dict[str, list[tuple[str, str, str]]]:
    """For each column the dataset, column and subtype that it comes from."""
    lineage: Any = (dataset.facets or {}).get("columnLineage")
    return {
        name: [(field.name, field.field, field.transformations[0].subtype) for field in made.inputFields]
        for name, made in (lineage.fields if lineage else {}).items()
    }


def days(dataset: InputDataset) -> list[tuple[str, str]]:
    """The limits of the days that a task reads: comparison and day."""
    facets: Any = dataset.inputFacets
    condition = facets["subset"].inputCondition
    assert (condition.operator, condition.left.left.field) == ("AND", "pickup_datetime")
    return [(part.comparison, part.right.value) for part in (condition.left, condition.right)]


@pytest.mark.parametrize(("uri", "fleet", "month"), all_works())
def test_columns_come_from_columns_that_the_inputs_have(uri: str, fleet: str, month: str) -> None:
    done = work(uri, fleet, month)
    inputs = {dataset.name: columns(dataset) for dataset in done.inputs}
    for output in done.outputs:
        made = columns(output)
        for column, found in origins(output).items():
            assert made is None or column in made, (output.name, column)
            assert found, f"{output.name}.{column} comes from nothing"
            for dataset, name, _ in found:
                assert dataset in inputs, f"{output.name}.{column} comes from {dataset}, which is no input"
                known = inputs[dataset]
                assert known is None or name in known, f"{output.name}.{column} comes from {dataset}.{name}"


@pytest.mark.parametrize("fleet", catalogue.FLEETS)
def test_every_asset_is_made_by_a_task_that_tells_what_it_has_read(fleet: str) -> None:
    for asset in all_assets(fleet):
        done = work(asset.uri, fleet, str(catalogue.fleet(fleet).first_month))
        assert done.inputs, asset.uri
        assert done.outputs or asset.uri.startswith("x-nyc-taxi://marts/daily"), asset.uri


@pytest.mark.parametrize("fleet", catalogue.FLEETS)
def test_each_column_of_a_table_of_trips_that_the_file_has_has_an_origin(fleet: str) -> None:
    for layout in catalogue.fleet(fleet).layouts:
        found = origins(load(fleet, layout.first_month).outputs[0])
        in_file = catalogue.match_columns(fleet, layout.names, "a file").columns
        filled = {column.name for column, origin in in_file if origin is not None}
        added = {"is_reversed"} if catalogue.fleet(fleet).has_reversals else set()
        assert found.keys() == filled | added


def test_a_column_of_codes_names_the_codes() -> None:
    trips = load("yellow", "2009-01").outputs[0]
    lineage: Any = (trips.facets or {})["columnLineage"]
    (field,) = lineage.fields["vendor_id"].inputFields
    assert field.field == "vendor_name"
    assert field.transformations[0].description == "codes: CMT = 1, VTS = 2, DDS = null"


def test_a_zone_found_by_coordinates_comes_from_both_degrees_and_from_the_zones() -> None:
    done = load("yellow", "2010-01")
    file, zones, _ = (dataset.name for dataset in done.inputs)
    assert origins(done.outputs[0])["pickup_zone_id"] == [
        (file, "pickup_longitude", "TRANSFORMATION"),
        (file, "pickup_latitude", "TRANSFORMATION"),
        (zones, "zone_id", "IDENTITY"),
        (zones, "geometry", "JOIN"),
    ]


def test_a_load_of_zone_ids_does_not_read_the_zones() -> None:
    assert "warehouse.main.zones" not in [dataset.name for dataset in load("green", "2023-02").inputs]


def test_all_months_are_one_dataset_and_the_subset_names_the_month() -> None:
    january, february = load("green", "2023-01"), load("green", "2023-02")
    for one, other in zip((*january.inputs, *january.outputs), (*february.inputs, *february.outputs), strict=True):
        assert (one.namespace, one.name) == (other.namespace, other.name)
    file: Any = february.inputs[0].inputFacets
    table: Any = february.outputs[0].outputFacets
    for condition in (file["subset"].inputCondition, table["subset"].outputCondition):
        assert [x.dimensions for x in condition.partitions] == [{"partition_month": "2023-02"}]


def test_a_folder_that_is_called_after_the_month_keeps_its_name() -> None:
    asset = assets.trips_file("green")
    facts = facts_of(asset, "green", "2023-02") | {"path": "/backup/2023-02/green_tripdata_2023-02.parquet"}
    (made,) = of_event(WAREHOUSE, asset.uri, facts).outputs
    assert made.name == "/backup/2023-02/green_tripdata_YYYY-MM.parquet"


def test_rows_bytes_and_edition_of_a_load() -> None:
    done = load("green", "2023-02")
    file, trips = done.inputs[0], done.outputs[0]
    read: Any = file.inputFacets
    made: Any = trips.outputFacets
    assert (read["inputStatistics"].rowCount, made["outputStatistics"].rowCount) == (7, 7)
    assert (read["inputStatistics"].size, made["outputStatistics"].size) == (1234, None)
    version: Any = (file.facets or {})["version"]
    assert version.datasetVersion == '"e1"'


def test_a_week_is_read_by_its_days_from_the_files_of_all_months() -> None:
    (trips,) = work(assets.trips_by_week("green").uri, "green", "2023-02").inputs
    assert days(trips) == [("GREATER_EQUAL_THAN", "2023-01-30"), ("LESS_THAN", "2023-02-06")]
    facets: Any = trips.inputFacets
    assert facets["inputStatistics"].rowCount == 7


def test_the_zones_files_have_the_editions_that_were_downloaded() -> None:
    done = work(assets.TAXI_ZONES_FILE.uri, "green", "2023-02")
    for datasets in (done.inputs, done.outputs):
        facets: list[Any] = [dataset.facets for dataset in datasets]
        assert [x["version"].datasetVersion for x in facets] == [EDITION["etag"], EDITION["last_modified"]]


def test_a_task_that_only_decides_tells_what_it_reads() -> None:
    done = of_reading(WAREHOUSE, ["zones", "latest_loads", BUILT_MONTHS])
    assert [x.name for x in done.inputs] == [
        "warehouse.main.zones",
        "warehouse.main.latest_loads",
        "warehouse.marts.built_months",
    ]
    assert done.outputs == ()
    zones, loads, _ = (columns(dataset) or set() for dataset in done.inputs)
    assert "borough" in zones
    assert "rows_loaded" in loads


@pytest.mark.parametrize(("uri", "fleet", "month"), all_works())
def test_all_columns_that_the_catalogue_knows_have_a_type(uri: str, fleet: str, month: str) -> None:
    """OpenMetadata expects a type of each column."""
    done = work(uri, fleet, month)
    for dataset in (*done.inputs, *done.outputs):
        schema: Any = (dataset.facets or {}).get("schema")
        lacking = [field.name for field in schema.fields if not field.type] if schema else []
        assert lacking in ([], ["surprise"]), dataset.name


def test_weeks_that_a_load_has_counted_again_are_outputs_of_it() -> None:
    done = load("green", "2023-02")
    assert [dataset.name for dataset in done.inputs][1:] == ["warehouse.main.green_trips"]
    weeks, csv_file = done.outputs[-2:]
    assert (weeks.name, csv_file.name) == (
        "warehouse.main.trips_by_week",
        str(settings.outputs_dir("green") / "trips_by_week.csv"),
    )
    facets: Any = weeks.outputFacets
    partitions = facets["subset"].outputCondition.partitions
    assert [x.identifier for x in partitions] == ["green/2023-01-30", "green/2023-02-06"]


def test_the_audit_is_a_list_of_assertions_about_the_file() -> None:
    file = load("green", "2023-02").inputs[0]
    facets: Any = file.inputFacets
    found = {check.name: check for check in facets["dataQualityAssertions"].assertions}
    assert found.keys() == QUALITY.keys()
    negative = found["negative_trip_distance"]
    assert (negative.success, negative.severity, negative.column) == (False, "warn", "trip_distance")
    assert (negative.expected, negative.actual) == ("at most 0.001", "0.1")
    assert found["rows_equal_footer"].success


def test_what_dbt_and_analysts_read_is_made_by_the_load(tmp_path: Path) -> None:
    made = {dataset.name.removeprefix("warehouse.main."): dataset for dataset in load("green", "2023-02").outputs}
    sources = (ROOT / "include" / "dbt" / "models" / "staging" / "stg_trips.sql").read_text()
    assert "source('warehouse', 'trips_flagged')" in sources
    assert {"green_trips", "loads", "quality_checks", "trips", "trips_flagged", "trips_clean"} <= made.keys()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
        make_ready(con)
        for name, dataset in made.items():
            if dataset.namespace == WAREHOUSE.namespace:
                schema: Any = (dataset.facets or {})["schema"]
                described = con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
                assert [(field.name, field.type) for field in schema.fields] == described, name


def test_a_flag_depends_on_the_columns_that_its_rules_read() -> None:
    found = next(dataset for dataset in load("fhvhv", "2023-01").outputs if dataset.name.endswith("trips_flagged"))
    flags = {(column, how) for _, column, how in origins(found)["flags"]}
    assert ("trip_miles", "CONDITIONAL") in flags
    assert [column for _, column, _ in origins(found)["fare_amount"]] == ["base_passenger_fare"]


def test_a_rule_that_does_not_apply_is_no_assertion() -> None:
    checks = [Check("rows_equal_footer", Severity.ERROR, 0, None, "nothing to compare with")]
    (file,) = of_refusal(WAREHOUSE, "green", "2023-02", checks).inputs
    facets: Any = file.inputFacets
    assert facets["dataQualityAssertions"].assertions == []


def test_a_refused_file_is_read_with_what_the_audit_found_and_only_that_is_recorded() -> None:
    done = of_refusal(WAREHOUSE, "green", "2023-02", [Check("unknown_zone", Severity.ERROR, 0, 0.5, "half of them")])
    (file,) = done.inputs
    facets: Any = file.inputFacets
    (check,) = facets["dataQualityAssertions"].assertions
    assert (check.success, check.severity, check.description) == (False, "error", "half of them")
    assert [dataset.name for dataset in done.outputs] == ["warehouse.main.quality_checks"]


def test_the_report_on_request_and_the_chart_of_weeks_tell_what_they_read_as_well() -> None:
    counted = of_report_count(WAREHOUSE, REQUEST, Report(168, 7, Path("/srv/outputs/a.csv")))
    assert [x.name for x in counted.inputs] == ["warehouse.main.green_trips", "warehouse.main.zones"]
    assert days(counted.inputs[0]) == [("GREATER_EQUAL_THAN", "2023-01-09"), ("LESS_THAN", "2023-01-11")]
    assert origins(counted.outputs[0]).keys() == {"borough", "weekday", "hour", "num_trips"}
    drawn = of_weeks_chart(Path("/srv/outputs/trips_by_week.png"))
    assert [x.name for x in (*drawn.inputs, *drawn.outputs)] == [
        "/srv/outputs/trips_by_week.csv",
        "/srv/outputs/trips_by_week.png",
    ]


def test_dbts_datasets_move_into_the_warehouse_with_their_columns() -> None:
    found = load("green", "2023-02").outputs[0]
    lake = Warehouse("ducklake:s3://lake/taxi trips", "warehouse")
    move(lake, [found])
    facets: Any = found.facets
    fields = [field for made in facets["columnLineage"].fields.values() for field in made.inputFields]
    assert {field.namespace for field in fields} == {found.namespace} == {lake.namespace}
    assert facets["dataSource"].uri == "ducklake:s3://lake/taxi%20trips"


@pytest.mark.parametrize(("uri", "fleet", "month"), all_works())
def test_datasets_are_valid_against_the_published_schemas(uri: str, fleet: str, month: str) -> None:
    done = work(uri, fleet, month)
    found = [(dataset, InputDataset.__name__) for dataset in done.inputs]
    found += [(dataset, OutputDataset.__name__) for dataset in done.outputs]
    for dataset, kind in found:
        assert openlineage_schemas.problems_of_dataset(json.loads(Serde.to_json(dataset)), kind) == []


@pytest.mark.parametrize(
    "schemas", [openlineage_schemas.of_classes, pytest.param(openlineage_schemas.published, marks=NEEDED)]
)
def test_the_check_against_the_schemas_finds_what_is_wrong(
    schemas: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = [openlineage_schemas.registry(schemas())]
    monkeypatch.setattr(openlineage_schemas, "_registries", lambda: only)
    good = json.loads(Serde.to_json(load("green", "2023-02").outputs[0]))
    assert openlineage_schemas.problems_of_dataset(good, "OutputDataset") == []
    wrong = copy.deepcopy(good)
    wrong["outputFacets"]["outputStatistics"]["rowCount"] = "seven"
    wrong["outputFacets"]["subset"]["outputCondition"]["type"] = "no such type"
    del wrong["facets"]["columnLineage"]["fields"]["vendor_id"]["inputFields"][0]["field"]
    del wrong["facets"]["datasetType"]["_producer"]
    found = "\n".join(openlineage_schemas.problems_of_dataset(wrong, "OutputDataset"))
    for part in ("rowCount", "'field' is a required property", "subset", "'_producer' is a required property"):
        assert part in found
