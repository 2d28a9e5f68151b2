"""What tasks have read and made, as OpenLineage datasets with their facets.

The facts come from the catalogue, from the registry of tables, from the audit's rules, and from what a task has stored
with its asset event. Nothing here opens the warehouse or a file. `lineage` sends the datasets, and imports this module
only where OpenLineage is in use, because the client takes a while to import.

Names are those of OpenLineage's naming convention and of dbt's own events, so that both meet in one graph:

- a table is `<database>.<schema>.<table>` in `duckdb://<path of the file>`, or in `ducklake:<place of its files>`;
- a local file is its absolute path in `file`; a file of the TLC is its path in `https://<host>`;
- all months of a file are one dataset: in its name the month is written `YYYY-MM`. A subset names the month.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from openlineage.client import facet_v2
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.generated import base_subset_dataset as subset

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.audit import rules
from include.nyc_taxi.audit.engine import Check
from include.nyc_taxi.months import Month, monday_of
from include.nyc_taxi.source.download import month_path
from include.nyc_taxi.warehouse import registry

if TYPE_CHECKING:
    from include.nyc_taxi.reports.adhoc import Request
    from include.nyc_taxi.reports.adhoc_report import Report

ANY_MONTH = "YYYY-MM"
"""Stands for the month in the names of files."""

Facts = Mapping[str, Any]
"""What a task has stored with its asset event."""

Columns = Mapping[str, str | None]
"""The types of a dataset's columns by name; None if the type is unknown."""


@dataclass(frozen=True)
class Warehouse:
    """Where tables are.

    Attributes:
        namespace: the warehouse, without secrets.
        database: the name of the database within it, as dbt and DuckDB have it.
    """

    namespace: str
    database: str

    def name(self, table: str, schema: str = "main") -> str:
        """The name of a table's dataset."""
        return f"{self.database}.{schema}.{table}"


@dataclass(frozen=True)
class Work:
    """What one task has read and made."""

    inputs: Sequence[InputDataset]
    outputs: Sequence[OutputDataset] = ()


@dataclass(frozen=True)
class Origin:
    """Where a column comes from.

    Attributes:
        dataset, column: the input's dataset and column.
        how: the subtype of a direct transformation: IDENTITY, TRANSFORMATION or AGGREGATION; or of an indirect one.
        description: what happens to the value, if the subtype does not say it all.
    """

    dataset: Dataset
    column: str
    how: str = "IDENTITY"
    description: str | None = None

    @property
    def field(self) -> facet_v2.column_lineage_dataset.InputField:
        """The same in OpenLineage's terms."""
        facet = facet_v2.column_lineage_dataset
        direct = self.how in ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
        return facet.InputField(
            namespace=self.dataset.namespace,
            name=self.dataset.name,
            field=self.column,
            transformations=[
                facet.Transformation(
                    type="DIRECT" if direct else "INDIRECT",
                    subtype=self.how,
                    description=self.description or "",
                    masking=False,
                )
            ],
        )


Origins = Mapping[str, Sequence[Origin]]
"""The origins of a dataset's columns by name."""


def move(warehouse: Warehouse, datasets: Iterable[Dataset]) -> None:
    """Put dbt's datasets, whose namespace is that of its profile, into the warehouse as `Warehouse` names it."""
    for dataset in datasets:
        dataset.namespace = warehouse.namespace
        facets: dict[str, Any] = dict(dataset.facets or {})
        if source := facets.get("dataSource"):
            source.name, source.uri = "warehouse", _uri(warehouse)
        if lineage := facets.get("columnLineage"):
            fields = [field for column in lineage.fields.values() for field in column.inputFields]
            for field in (*fields, *(lineage.dataset or [])):
                field.namespace = warehouse.namespace


# -- The tasks --


def of_event(warehouse: Warehouse, uri: str, facts: Facts) -> Work:
    """What the task has read and made that has stored `facts` with the asset called `uri`.

    Raises:
        KeyError: there is no such asset.
    """
    group, _, path = uri.removeprefix("x-nyc-taxi://").partition("/")
    kind, _, fleet = path.partition("/")
    if group == "marts":
        return _mart(warehouse, kind, fleet, facts)
    return _TASKS[kind](warehouse, fleet, facts)


def of_refusal(warehouse: Warehouse, fleet_name: str, month: str, checks: Sequence[Check]) -> Work:
    """What a load has read and made that the audit has refused: the file, with what each rule has found, and a record.

    The trips are as they were.
    """
    fleet = catalogue.fleet(fleet_name)
    read = _raw_file(fleet, Month(month)).read(assertions=_assertions(fleet, Month(month), checks))
    key = [{"fleet": fleet_name, "partition_month": month}]
    return Work([read], [_Table(warehouse, "quality_checks", key).made(rows=len(checks))])


def of_weeks_chart(chart: Path) -> Work:
    """What the task that draws the weeks has read and made."""
    from include.nyc_taxi.reports import by_week

    return Work([_weeks_csv(by_week.csv_path(chart.parent)).read()], [_File(chart).made()])


def of_reading(warehouse: Warehouse, names: Iterable[str]) -> Work:
    """What a task has read that has made no data, for example to decide which runs to start.

    Args:
        names: tables and views of the warehouse; those that are not in the schema `main` with their schema's name.
    """
    return Work([_relation_called(warehouse, name).read() for name in names])


def of_report_count(warehouse: Warehouse, request: Request, done: Report) -> Work:
    """What the task that counts the trips of a request has read and made."""
    days = (request.start_date, request.end_date + timedelta(days=1))
    trips, zones = _trips(warehouse, catalogue.fleet(request.fleet), days=days), _zones(warehouse)
    read = [trips.read(), zones.read()]
    when, where = Origin(read[0], "pickup_datetime", "TRANSFORMATION"), Origin(read[1], "borough", "FILTER")
    origins: Origins = {
        "borough": [Origin(read[1], "borough")],
        "weekday": [when],
        "hour": [when],
        "num_trips": [Origin(read[0], "pickup_zone_id", "AGGREGATION", "counted"), when, where],
    }
    return Work(read, [_report_csv(done.csv_file).made(origins=origins, rows=done.rows)])


def _download(_warehouse: Warehouse, fleet_name: str, facts: Facts) -> Work:
    fleet, month = catalogue.fleet(fleet_name), Month(facts["month"])
    file = _raw_file(fleet, month, Path(facts["path"]))
    read = _Published(facts["url"], month, file.columns).read(version=_version(facts), bytes_=facts["bytes"])
    origins = {name: [Origin(read, name)] for name in file.columns}
    return Work([read], [file.made(origins=origins, version=_version(facts), bytes_=facts["bytes"], files=1)])


def _download_zones(_warehouse: Warehouse, _fleet: str, facts: Facts) -> Work:
    read, made = [], []
    for local, edition, columns in zip(facts["paths"], facts["editions"], _ZONE_COLUMNS, strict=True):
        of_edition: Any = {"version": _version(edition), "bytes_": edition["bytes"]}
        remote = _Published(edition["url"], None, columns).read(**of_edition)
        read.append(remote)
        origins = {name: [Origin(remote, name)] for name in columns}
        made.append(_File(Path(local), columns=columns).made(origins=origins, files=1, **of_edition))
    return Work(read, made)


def _load_zones(warehouse: Warehouse, _fleet: str, facts: Facts) -> Work:
    from include.nyc_taxi.trips import zones

    paths = (zones.lookup_path(), zones.shapes_path())
    lookup, shapes = (_File(path, columns=x).read() for path, x in zip(paths, _ZONE_COLUMNS, strict=True))
    origins: Origins = {
        "zone_id": [Origin(lookup, "LocationID")],
        "zone": [Origin(lookup, "Zone")],
        "borough": [Origin(lookup, "Borough")],
        "service_zone": [Origin(lookup, "service_zone")],
        "geometry": [Origin(shapes, "geometry", "TRANSFORMATION", "WKT, WGS84"), Origin(shapes, "OBJECTID", "JOIN")],
    }
    return Work([lookup, shapes], [_zones(warehouse).made(origins=origins, rows=facts["rows"])])


def _load(warehouse: Warehouse, fleet_name: str, facts: Facts) -> Work:
    fleet, month = catalogue.fleet(fleet_name), Month(facts["month"])
    raw, zones, trips = _raw_file(fleet, month), _zones(warehouse), _trips(warehouse, fleet, month)
    unknown = dict.fromkeys(facts["unknown_columns"])
    checks = _assertions(fleet, month, _found(facts["quality_checks"]))
    file = _File(raw.path, month, {**raw.columns, **unknown}).read(
        version=_version(facts), rows=facts["rows"], bytes_=facts["bytes"], assertions=checks
    )
    places = zones.read()
    match = _match(fleet, month)
    read = [file]
    if any(isinstance(origin, catalogue.Coordinates) for _, origin in match.columns):
        read.append(places)
    origins = _origins_of_trips(fleet, month, match, file, places)
    key = [{"fleet": fleet_name, "partition_month": month}]
    made = [
        trips.made(origins=origins, rows=facts["rows"]),  # how many bytes these rows have in the table is not known
        _Table(warehouse, "loads", key).made(rows=1),
        _Table(warehouse, "quality_checks", key).made(rows=len(facts["quality_checks"])),
        *_views_made(warehouse, fleet, key, origins),
    ]
    if weeks := facts["weeks_counted_again"]:
        read.append(_trips(warehouse, fleet).read())  # of other months, too
        made += _weeks_made(warehouse, fleet, read[-1], weeks, settings.outputs_dir(fleet_name))
    return Work(read, made)


def _aggregate(warehouse: Warehouse, fleet_name: str, facts: Facts) -> Work:
    from include.nyc_taxi.reports import by_zone

    fleet, month, path = catalogue.fleet(fleet_name), Month(facts["month"]), Path(facts["path"])
    trips, zones = _trips(warehouse, fleet, month).read(), _zones(warehouse).read()
    counted = Origin(trips, "pickup_zone_id", "AGGREGATION", "counted")
    table = _Table(warehouse, "trips_by_zone", [{"fleet": fleet_name, "partition_month": month}]).made(
        rows=facts["rows"],
        origins={
            "partition_month": [Origin(trips, "partition_month")],
            "zone_id": [Origin(trips, "pickup_zone_id")],
            "num_trips": [counted, Origin(trips, "partition_month", "GROUP_BY")],
        },
    )
    shape = Origin(zones, "geometry", "TRANSFORMATION", "area on the ground")
    origins: Origins = {
        **{name: [Origin(zones, name)] for name in ("zone_id", "zone", "borough")},
        "geometry": [Origin(zones, "geometry", "TRANSFORMATION", "WKT to GeoJSON")],
        "num_trips": [counted],
        "area_km2": [shape],
        "trips_per_km2": [counted, shape],
    }
    files = (_stats_file(path, month), _stats_file(by_zone.overall_stats_path(path.parent), None))
    return Work([trips, zones], [table, *(file.made(origins=origins, files=1) for file in files)])


def _draw_maps(_warehouse: Warehouse, _fleet: str, facts: Facts) -> Work:
    from include.nyc_taxi.reports import by_zone

    month, folder = Month(facts["month"]), Path(facts["path"]).parent
    read = [
        _stats_file(by_zone.month_stats_path(folder, month), month).read(),
        _stats_file(by_zone.overall_stats_path(folder), None).read(),
    ]
    months = [_File(Path(facts[name]), month) for name in ("path", "density_path") if name in facts]
    overall = [_File(Path(facts[name])) for name in ("overall_path", "density_overall_path") if name in facts]
    return Work(read, [file.made(files=1) for file in (*months, *overall)])


def _aggregate_week(warehouse: Warehouse, fleet_name: str, facts: Facts) -> Work:
    fleet = catalogue.fleet(fleet_name)
    monday, outputs = monday_of(facts["week"]), Path(facts["path"]).parent
    # Its months are not named, because trips of the week are in the files of other months, too.
    trips = _trips(warehouse, fleet, days=(monday, monday + timedelta(days=7))).read(rows=facts["num_trips"])
    weeks = [monday.isoformat()]
    return Work([trips], _weeks_made(warehouse, fleet, trips, weeks, outputs, rows_in_csv=facts["rows"]))


def _mart(warehouse: Warehouse, mart: str, fleet: str, facts: Facts) -> Work:
    """What `publish` has read of a mart, and the file of figures that it has made from it, if there is one."""
    from include.nyc_taxi.reports import marts

    month = Month(facts["month"])
    table = _Table(warehouse, mart, [{"fleet": fleet, "partition_month": month}], schema=marts.SCHEMA)
    read = [table.read(rows=facts["rows"])]
    month_origin = Origin(read[0], "partition_month", "TRANSFORMATION", "YYYY-MM")
    if mart == "airport_trips":
        same = [name for name in marts.AIRPORTS if name != "month"]
        origins: Origins = {"month": [month_origin], **{name: [Origin(read[0], name)] for name in same}}
        file = _airports_csv(settings.outputs_dir(fleet), month)
    elif mart == "fleet_market_share":
        zones = _Table(warehouse, "stg_zones", schema="staging").read()
        read.append(zones)
        trips = Origin(read[0], "num_trips", "AGGREGATION", "sum")
        by = [Origin(zones, "borough", "GROUP_BY"), Origin(read[0], "zone_id", "JOIN")]
        origins = {
            "month": [month_origin],
            "borough": [Origin(zones, "borough")],
            "fleet": [Origin(read[0], "fleet")],
            "num_trips": [trips, *by],
            "share_percent": [trips, *by],
        }
        file = _shares_csv(month)
    else:
        return Work(read)
    return Work(read, [file.made(origins=origins, files=1)])


def _draw_airports(_warehouse: Warehouse, fleet: str, facts: Facts) -> Work:
    month, picture = Month(facts["month"]), Path(facts["path"])
    return Work([_airports_csv(settings.outputs_dir(fleet), month).read()], [_File(picture, month).made(files=1)])


def _draw_shares(_warehouse: Warehouse, _fleet: str, facts: Facts) -> Work:
    month, picture = Month(facts["month"]), Path(facts["path"])
    return Work([_shares_csv(month).read()], [_File(picture, month).made(files=1)])


def _draw_report(_warehouse: Warehouse, _fleet: str, facts: Facts) -> Work:
    return Work(
        [_report_csv(Path(facts["csv_path"])).read(rows=facts["rows"])], [_File(Path(facts["path"])).made(files=1)]
    )


_TASKS: dict[str, Callable[[Warehouse, str, Facts], Work]] = {
    "taxi_trips_file": _download,
    "taxi_zones_file": _download_zones,
    "taxi_zones": _load_zones,
    "taxi_trips": _load,
    "manhattan_stats": _aggregate,
    "manhattan_map": _draw_maps,
    "trips_by_week": _aggregate_week,
    "airport_chart": _draw_airports,
    "market_share_chart": _draw_shares,
    "adhoc_request": _draw_report,
}
"""By the first part of an asset's path."""


# -- The datasets --


class _Source(ABC):
    """A dataset before it is known whether a task reads or makes it."""

    namespace: str
    name: str
    partitions: Sequence[Mapping[str, str]] = ()
    """The parts that the task uses, by their keys; none if it uses all of it."""
    days: tuple[date, date] | None = None
    """Instead of parts: the task reads trips that began on the first day or later, and before the second one."""

    @abstractmethod
    def facets(self) -> dict[str, Any]:
        """What is known about the dataset, whoever uses it."""

    def read(
        self,
        *,
        version: str | None = None,
        rows: int | None = None,
        bytes_: int | None = None,
        assertions: Any = None,
    ) -> InputDataset:
        """The dataset as an input."""
        used: dict[str, Any] = {}
        if self.partitions or self.days:
            used["subset"] = subset.InputSubsetInputDatasetFacet(inputCondition=self._condition())
        if rows is not None or bytes_ is not None:
            statistics = facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet
            used["inputStatistics"] = statistics(rowCount=rows, size=bytes_)
        if assertions:
            used["dataQualityAssertions"] = assertions
        facets = self.facets() | _version_facet(version)
        return InputDataset(namespace=self.namespace, name=self.name, facets=facets, inputFacets=used)

    def made(
        self,
        *,
        origins: Origins | None = None,
        version: str | None = None,
        rows: int | None = None,
        bytes_: int | None = None,
        files: int | None = None,
    ) -> OutputDataset:
        """The dataset as an output."""
        facets = self.facets() | _version_facet(version)
        if origins:
            facets["columnLineage"] = facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet(
                fields={
                    name: facet_v2.column_lineage_dataset.Fields(inputFields=[origin.field for origin in found])
                    for name, found in origins.items()
                }
            )
        used: dict[str, Any] = {}
        if self.partitions:
            used["subset"] = subset.OutputSubsetOutputDatasetFacet(outputCondition=self._condition())
        if (rows, bytes_, files) != (None, None, None):
            statistics = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
            used["outputStatistics"] = statistics(rowCount=rows, size=bytes_, fileCount=files)
        return OutputDataset(namespace=self.namespace, name=self.name, facets=facets, outputFacets=used)

    def _condition(self) -> subset.BaseSubsetCondition:
        if self.days:
            when = subset.FieldBaseCompareExpression("pickup_datetime")
            first, end = (subset.LiteralCompareExpression(day.isoformat()) for day in self.days)
            return subset.BinarySubsetCondition(
                subset.CompareSubsetCondition(when, first, "GREATER_EQUAL_THAN"),
                subset.CompareSubsetCondition(when, end, "LESS_THAN"),
                "AND",
            )
        partitions = [
            subset.Partition(
                dimensions={name: str(key) for name, key in keys.items()}, identifier="/".join(keys.values())
            )
            for keys in self.partitions
        ]
        return subset.PartitionSubsetCondition(partitions=partitions)


class _File(_Source):
    """A local file, or the files of all months."""

    def __init__(self, path: Path, month: Month | None = None, columns: Columns | None = None) -> None:
        self.path, self.columns = path, columns or {}
        self.namespace, self.name = "file", _without_month(str(path), month)
        self.partitions = _months(month)

    def facets(self) -> dict[str, Any]:
        storage = facet_v2.storage_dataset.StorageDatasetFacet(
            storageLayer="file", fileFormat=self.path.suffix.removeprefix(".")
        )
        source = facet_v2.datasource_dataset.DatasourceDatasetFacet(name="files", uri=self.path.as_uri())
        return {"dataSource": source, "storage": storage} | _schema(self.columns)


class _Published(_Source):
    """A file on the TLC's site, or the files of all months."""

    def __init__(self, url: str, month: Month | None, columns: Columns) -> None:
        parts = urlsplit(url)
        self.url, self.columns = url, columns
        self.namespace = f"{parts.scheme}://{parts.netloc}"
        self.name = _without_month(parts.path.lstrip("/"), month)
        self.partitions = _months(month)

    def facets(self) -> dict[str, Any]:
        source = facet_v2.datasource_dataset.DatasourceDatasetFacet(name="TLC", uri=self.url)
        return {"dataSource": source} | _schema(self.columns)


class _Table(_Source):
    """A table of the warehouse. The registry has the columns of all tables but dbt's, which are in dbt's own events."""

    def __init__(
        self, warehouse: Warehouse, table: str, partitions: Sequence[Mapping[str, str]] = (), schema: str = "main"
    ) -> None:
        self.namespace, self.name = warehouse.namespace, warehouse.name(table, schema)
        self.warehouse, self.partitions = warehouse, partitions
        self.table = registry.table(table) if schema == "main" else None

    def facets(self) -> dict[str, Any]:
        facets = _relation(self.warehouse, "TABLE")
        if self.table is None:
            return facets
        columns = {name: column.type for name, column in self.table.columns.items()}
        return facets | _documentation(self.table.row) | _schema(columns, _meanings(self.table))


class _View(_Source):
    """A view of the warehouse."""

    def __init__(
        self, warehouse: Warehouse, view: registry.View, partitions: Sequence[Mapping[str, str]], columns: Columns
    ) -> None:
        self.namespace, self.name = warehouse.namespace, warehouse.name(view.name)
        self.warehouse, self.view, self.partitions, self.columns = warehouse, view, partitions, columns

    def facets(self) -> dict[str, Any]:
        meanings = {name: catalogue.MEANINGS[name] for name in self.columns if name in catalogue.MEANINGS}
        return {
            **_relation(self.warehouse, "VIEW"),
            **_documentation(self.view.row),
            **_schema(self.columns, meanings),
        }


def _relation(warehouse: Warehouse, kind: str) -> dict[str, Any]:
    source = facet_v2.datasource_dataset.DatasourceDatasetFacet(name="warehouse", uri=_uri(warehouse))
    return {
        "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=kind),
        "dataSource": source,
    }


def _documentation(row: str) -> dict[str, Any]:
    facet = facet_v2.documentation_dataset.DocumentationDatasetFacet
    return {"documentation": facet(description=f"One row is {row}.")}


def _uri(warehouse: Warehouse) -> str:
    """The namespace as a valid URI."""
    return quote(warehouse.namespace, "/:=")


def _trips(
    warehouse: Warehouse, fleet: catalogue.Fleet, month: Month | None = None, days: tuple[date, date] | None = None
) -> _Table:
    table = _Table(warehouse, fleet.table, _months(month))
    table.days = days
    return table


def _zones(warehouse: Warehouse) -> _Table:
    return _Table(warehouse, "zones")


def _relation_called(warehouse: Warehouse, name: str) -> _Source:
    schema, _, relation = name.rpartition(".")
    if schema:
        return _Table(warehouse, relation, schema=schema)
    view = next((view for view in registry.views() if view.name == name), None)
    return _View(warehouse, view, (), _columns_of_view(name)) if view else _Table(warehouse, name)


def _raw_file(fleet: catalogue.Fleet, month: Month, path: Path | None = None) -> _File:
    return _File(path or month_path(fleet.name, month), month, dict(fleet.layout(month).columns))


def _months(month: Month | None) -> list[dict[str, str]]:
    return [{"partition_month": month}] if month else []


def _stats_file(path: Path, month: Month | None) -> _File:
    return _File(path, month, _STATS_COLUMNS)


def _weeks_csv(path: Path) -> _File:
    from include.nyc_taxi.reports import by_week

    types = registry.table("trips_by_week").columns
    return _File(path, columns={name: types[name].type for name in by_week.HEADER})


def _airports_csv(outputs: Path, month: Month) -> _File:
    from include.nyc_taxi.reports import marts

    return _File(marts.airports_path(month, outputs), month, _figures(marts.AIRPORTS))


def _shares_csv(month: Month) -> _File:
    from include.nyc_taxi.reports import marts

    return _File(marts.shares_path(month, settings.outputs_root()), month, _figures(marts.SHARES))


def _report_csv(path: Path) -> _File:
    from include.nyc_taxi.reports import adhoc_report

    return _File(path, columns=_figures(adhoc_report.COLUMNS))


def _figures(names: Iterable[str]) -> Columns:
    """The columns of a CSV file with their types. Receivers such as OpenMetadata expect a type of each column."""
    types = {
        "num_trips": "BIGINT",
        "share_percent": "DOUBLE",
        "hour": "INTEGER",
        "start_date": "DATE",
        "end_date": "DATE",
    }
    return {name: types.get(name, "VARCHAR") for name in names}


_ZONE_COLUMNS: tuple[Columns, Columns] = (
    {"LocationID": "INTEGER", "Borough": "VARCHAR", "Zone": "VARCHAR", "service_zone": "VARCHAR"},
    {"OBJECTID": "INTEGER", "geometry": "GEOMETRY"},
)
"""What is read of the lookup and of the shapefile."""

_STATS_COLUMNS: Columns = {
    "zone_id": "INTEGER",
    "zone": "VARCHAR",
    "borough": "VARCHAR",
    "num_trips": "BIGINT",
    "area_km2": "DOUBLE",
    "trips_per_km2": "DOUBLE",
    "geometry": "GEOMETRY",
}
"""The properties of a feature in the GeoJSON files, and its shape."""


# -- The facets --


def _origins_of_trips(
    fleet: catalogue.Fleet, month: Month, match: catalogue.Match, file: Dataset, zones: Dataset
) -> dict[str, list[Origin]]:
    """The origins of the columns of a fleet's table in the file of a month; columns that the file lacks have none."""
    types = dict(fleet.layout(month).columns)
    origins = {}
    for column, origin in match.columns:
        if isinstance(origin, catalogue.Coordinates):
            degrees = (origin.longitude, origin.latitude)
            place = "the zone that contains the point"
            origins[column.name] = [
                *(Origin(file, name, "TRANSFORMATION", place) for name in degrees),
                Origin(zones, "zone_id"),
                Origin(zones, "geometry", "JOIN", place),
            ]
        elif isinstance(origin, catalogue.Coded):
            codes = ", ".join(f"{text} = {'null' if code is None else code}" for text, code in origin.codes.items())
            origins[column.name] = [Origin(file, origin.published_as, "TRANSFORMATION", f"codes: {codes}")]
        elif origin is not None:
            kind = types.get(origin)
            how = "IDENTITY" if kind == column.type else "TRANSFORMATION"
            cast = None if kind == column.type else f"{kind} to {column.type}"
            origins[column.name] = [Origin(file, origin, how, cast)]
    if fleet.has_reversals:
        same = ("vendor_id", "pickup_datetime", "dropoff_datetime", "pickup_zone_id", "dropoff_zone_id", "total_amount")
        twins = "whether another row has the same trip with the negated amount"
        published = {column.name: origin for column, origin in match.columns if origin is not None}
        names = [name for key in same if key in published for name in catalogue.published_names(published[key])]
        origins["is_reversed"] = [Origin(file, name, "TRANSFORMATION", twins) for name in names]
    return origins


def _views_made(
    warehouse: Warehouse, fleet: catalogue.Fleet, key: Sequence[Mapping[str, str]], origins: Origins
) -> list[OutputDataset]:
    """The views that show what a load has changed, from which dbt and analysts read."""
    known = {name: origins[name] for name, _ in catalogue.COMMON_COLUMNS if name in origins}
    for ours, names in registry.FARES.items():
        if found := next((name for name in names if name in origins), None):
            known[ours] = origins[found]
    of_rules = {name for rule in rules.rules_of(fleet) for name in rule.columns_of(fleet)}
    known["flags"] = known["is_clean"] = [
        replace(origin, how="CONDITIONAL") for name in sorted(of_rules) for origin in origins.get(name, ())
    ]
    made = []
    for view in registry.views():
        columns = _columns_of_view(view.name)
        kept = {name: found for name, found in known.items() if name in columns and found}
        made.append(_View(warehouse, view, key, columns).made(origins=kept))
    return made


def _columns_of_view(name: str) -> dict[str, str]:
    """The columns of a view and their types."""
    if name == "latest_loads":
        return {name: column.type for name, column in registry.table("loads").columns.items()}
    trips = {"fleet": "VARCHAR", "partition_month": "DATE", **dict(catalogue.COMMON_COLUMNS)}
    if name == "trips":
        return trips
    clean = trips | dict.fromkeys(registry.FARES, "DOUBLE") | {"flags": "VARCHAR[]"}
    return clean if name == "trips_clean" else clean | {"is_clean": "BOOLEAN"}


def _weeks_made(
    warehouse: Warehouse,
    fleet: catalogue.Fleet,
    trips: Dataset,
    mondays: Sequence[str],
    outputs: Path,
    rows_in_csv: int | None = None,
) -> list[OutputDataset]:
    """The table of weeks with the weeks that were counted, and the CSV file that was made from it."""
    from include.nyc_taxi.reports import by_week

    when = Origin(trips, "pickup_datetime", "GROUP_BY", "the week's Monday")
    origins: dict[str, list[Origin]] = {
        "period": [Origin(trips, "pickup_datetime", "TRANSFORMATION", "the week's Monday")],
        "num_trips": [Origin(trips, "pickup_datetime", "AGGREGATION", "counted")],
    }
    read_by_rules = sorted(set().union(*(x.columns_of(fleet) for x in rules.rules_of(fleet) if not x.is_clean)))
    clean = [Origin(trips, name, "FILTER", "clean trips") for name in read_by_rules]
    origins["clean_trips"] = [Origin(trips, "pickup_datetime", "AGGREGATION", "counted"), *clean]
    for name in by_week.SUMS:
        if name in fleet.column_names:
            origins[name] = [Origin(trips, name, "AGGREGATION", "sum"), when]
            if f"clean_{name}" in by_week.CLEAN:
                origins[f"clean_{name}"] = [Origin(trips, name, "AGGREGATION", "sum"), when, *clean]
    weeks = [{"fleet": fleet.name, "period": monday} for monday in mondays]
    table = _Table(warehouse, "trips_by_week", weeks).made(rows=len(weeks), origins=origins)
    file = _weeks_csv(by_week.csv_path(outputs))
    return [table, file.made(rows=rows_in_csv, origins=origins, files=1)]


def _match(fleet: catalogue.Fleet, month: Month) -> catalogue.Match:
    return catalogue.match_columns(fleet.name, fleet.layout(month).names, catalogue.file_name(fleet.name, month))


def _found(values: Mapping[str, float | None]) -> list[Check]:
    """The checks of an audit by the values that a load stores with its event."""
    found = []
    for rule in rules.TRIP_RULES:
        if rule.name in values:
            detail = f"the share of trips that {rule.breaks}"
            found.append(Check(rule.name, rules.Severity.WARN, rule.limit, values[rule.name], detail))
    for month_rule in rules.MONTH_RULES:
        if month_rule.name in values:
            value = values[month_rule.name]
            found.append(Check(month_rule.name, month_rule.severity, month_rule.limit, value, month_rule.reason))
    return found


def _assertions(fleet: catalogue.Fleet, month: Month, checks: Iterable[Check]) -> Any:
    """The audit of a file: an assertion for each rule that applies to it, with the file's column if it is about one."""
    facet = facet_v2.data_quality_assertions_dataset
    published = {column.name: origin for column, origin in _match(fleet, month).columns if isinstance(origin, str)}
    about = {rule.name: rule.columns for rule in rules.TRIP_RULES}
    made = []
    for check in checks:
        if check.value is None:
            continue
        columns = about.get(check.rule, ())
        made.append(
            facet.Assertion(
                assertion=check.rule,
                name=check.rule,
                success=check.passed,
                severity=str(check.severity),
                description=check.detail,
                column=published.get(columns[0]) if len(columns) == 1 else None,
                expected=f"at most {check.limit:g}",
                actual=f"{check.value:g}",
            )
        )
    return facet.DataQualityAssertionsDatasetFacet(assertions=made)


def _schema(columns: Columns, meanings: Mapping[str, str] | None = None) -> dict[str, Any]:
    if not columns:
        return {}
    facet = facet_v2.schema_dataset
    fields = [
        facet.SchemaDatasetFacetFields(name=name, type=kind, description=(meanings or {}).get(name), ordinal_position=n)
        for n, (name, kind) in enumerate(columns.items(), start=1)
    ]
    return {"schema": facet.SchemaDatasetFacet(fields=fields)}


def _meanings(table: registry.Table) -> dict[str, str]:
    names = {name: (f"{table.name}.{name}", name) for name in table.columns}
    found = {name: [catalogue.MEANINGS[x] for x in tried if x in catalogue.MEANINGS] for name, tried in names.items()}
    return {name: meanings[0] for name, meanings in found.items() if meanings}


def _version_facet(version: str | None) -> dict[str, Any]:
    facet = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet
    return {"version": facet(datasetVersion=version)} if version else {}


def _version(facts: Facts) -> str | None:
    """The edition: the ETag as the site sent it, or else the date."""
    return facts.get("etag") or facts.get("last_modified")


def _without_month(name: str, month: Month | None) -> str:
    """The name with `YYYY-MM` for the month, which is in its last part; a folder may be called after a month, too."""
    if not month:
        return name
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.replace(month, ANY_MONTH)}"
