"""Tables of the BigQuery emulator: their layout, their partitions, and the routes below `/tables`."""

import json
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from bqemulator.api.dependencies import AppContext, get_context
from bqemulator.api.routes.tables import _field_to_rest, _parse_schema_fields, _time_partitioning_to_rest
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import Clustering, RangePartitioning, TableMeta, TableSchema, TimePartitioning
from bqemulator.domain.errors import AlreadyExistsError, NotFoundError, UnsupportedFeatureError, ValidationError
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns, duckdb_type_to_bq_field
from fastapi import APIRouter, Depends, Request, Response

Context = Annotated[AppContext, Depends(get_context)]
router = APIRouter(prefix="/bigquery/v2")

# The REST interface keeps the names of the first SQL dialect.
OLD_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
# What DuckDB computes with, and BigQuery keeps as one type.
KEPT_AS = {"INTEGER": "BIGINT", "SMALLINT": "BIGINT", "TINYINT": "BIGINT", "HUGEINT": "BIGINT", "UBIGINT": "BIGINT"}
KEPT_AS |= {"UINTEGER": "BIGINT", "USMALLINT": "BIGINT", "UTINYINT": "BIGINT", "FLOAT": "DOUBLE", '"NULL"': "BIGINT"}
# By the digits of a partition's name.
UNITS = {"YEAR": "%Y", "MONTH": "%Y%m", "DAY": "%Y%m%d", "HOUR": "%Y%m%d%H"}
BYTES_PER_VALUE = 8
PAGE = 50


class Ref(NamedTuple):
    """A table, and the name of one of its partitions after a dollar sign."""

    project: str
    dataset: str
    table: str
    partition: str | None = None

    @classmethod
    def of(cls, body, project):
        table, _, partition = body["tableId"].partition("$")
        return cls(body.get("projectId") or project, body["datasetId"], table, partition or None)

    @property
    def key(self):
        return self[:3]

    @property
    def sql(self):
        return quoted_table_ref(*self.key)

    @property
    def body(self):
        return {"projectId": self.project, "datasetId": self.dataset, "tableId": self.table}

    def __str__(self):
        return f"{self.project}:{self.dataset}.{self.table}" + (f"${self.partition}" if self.partition else "")


# --- Layout and partitions


@dataclass(frozen=True)
class Partitioning:
    """How a table is split: by a unit of time, or by ranges of an integer."""

    field: str
    unit: str | None = None
    bounds: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, meta):
        if meta.time_partitioning:
            return cls(meta.time_partitioning.field.lower(), unit=meta.time_partitioning.type)
        if found := meta.range_partitioning:
            return cls(found.field.lower(), bounds=(found.start, found.end, found.interval))
        return None

    def __str__(self):
        if self.unit:
            return f"interval(type:{self.unit.lower()},field:{self.field})"
        start, end, interval = self.bounds
        return f"range(field:{self.field},start:{start},end:{end},interval:{interval})"

    def name_sql(self):
        """SQL of DuckDB for the name of the partition that a row is in."""
        field = f'"{self.field}"'
        if self.unit:
            return f"coalesce(strftime(CAST({field} AS TIMESTAMP), '{UNITS[self.unit]}'), '__NULL__')"
        start, end, interval = self.bounds
        bucket = f"CAST({start} + ({field} - {start}) // {interval} * {interval} AS VARCHAR)"
        outside = f"{field} < {start} OR {field} >= {end}"
        return f"CASE WHEN {field} IS NULL THEN '__NULL__' WHEN {outside} THEN '__UNPARTITIONED__' ELSE {bucket} END"

    def check_name(self, ref):
        digits = {"YEAR": 4, "MONTH": 6, "DAY": 8, "HOUR": 10}.get(self.unit)
        known = ref.partition.isdigit() and (
            len(ref.partition) == digits
            if self.unit
            else self.bounds[0] <= int(ref.partition) < self.bounds[1]
            and (int(ref.partition) - self.bounds[0]) % self.bounds[2] == 0
        )
        if not known:
            raise ValidationError(f"Invalid partition decorator: {ref} for partitioning specification {self}")


def partitioning_of(meta, ref):
    """The partitioning of a table of which one partition is asked for."""
    found = Partitioning.of(meta)
    if found is None:
        raise ValidationError(f"Table {ref} is not partitioned, so it has no partition to write")
    found.check_name(ref)
    return found


def column(schema, name):
    return next((field for field in schema.fields if field.name.lower() == name.lower()), None)


def layout(body, schema):
    """The partitioning and clustering that a body of REST asks for, as fields of `TableMeta`."""
    found = {"time_partitioning": None, "range_partitioning": None, "clustering": None}
    if asked := body.get("timePartitioning"):
        if "field" not in asked:
            raise UnsupportedFeatureError("partitions by the time of loading are not emulated")
        field = column(schema, asked["field"])
        if field is None:
            raise ValidationError("The field specified for partitioning cannot be found in the schema.")
        if field.type not in ("DATE", "TIMESTAMP", "DATETIME"):
            raise ValidationError(f"The field specified for partitioning has type {field.type}, which is no time")
        found["time_partitioning"] = TimePartitioning(
            type=asked.get("type", "DAY"),
            field=field.name,
            expiration_ms=asked.get("expirationMs"),
            require_partition_filter=asked.get("requirePartitionFilter", False),
        )
    if asked := body.get("rangePartitioning"):
        field = column(schema, asked["field"])
        if field is None:
            raise ValidationError("The field specified for partitioning cannot be found in the schema.")
        if field.type != "INTEGER":
            raise ValidationError(f"The field specified for range partitioning has type {field.type}, not INTEGER")
        bounds = {name: int(asked["range"][name]) for name in ("start", "end", "interval")}
        found["range_partitioning"] = RangePartitioning(field=field.name, **bounds)
    if asked := body.get("clustering"):
        for name in asked["fields"]:
            if column(schema, name) is None:
                message = "The field specified for clustering cannot be found in the schema."
                raise ValidationError(f"{message} Invalid field: {name}.")
        found["clustering"] = Clustering(fields=tuple(asked["fields"]))
    return found


def schema_of(body):
    def old(field):
        inner = {"fields": [old(one) for one in field["fields"]]} if "fields" in field else {}
        kind = field.get("type", "STRING").upper()
        return field | inner | {"type": OLD_NAMES.get(kind, kind), "mode": field.get("mode") or "NULLABLE"}

    return TableSchema(fields=_parse_schema_fields([old(field) for field in body.get("fields", [])]))


def schema_in_duckdb(ctx, relation):
    described = ctx.engine.execute(f"DESCRIBE {relation}").fetchall()
    return schema_of({"fields": [duckdb_type_to_bq_field(row[0], row[1]) for row in described]})


def columns_sql(schema):
    typed = bq_schema_to_duckdb_columns([_field_to_rest(field) for field in schema.fields])
    required = [" NOT NULL" if field.mode == "REQUIRED" else "" for field in schema.fields]
    return ", ".join(f'"{name}" {kind}{null}' for (name, kind), null in zip(typed, required, strict=True))


def keep_types(ctx, relation):
    """Widens the columns of a computed relation to what BigQuery would keep."""
    for name, kind, *_ in ctx.engine.execute(f"DESCRIBE {relation}").fetchall():
        kept = KEPT_AS.get(kind)
        if kind.startswith("DECIMAL("):
            scale = int(kind.split(",")[1].strip(" )"))
            kept = "DECIMAL(38, 9)" if scale <= 9 else None
        if kept and kept.replace(" ", "") != kind:
            ctx.engine.execute(f'ALTER TABLE {relation} ALTER "{name}" TYPE {kept}')


# --- The catalogue


def check_dataset(ctx, ref, where=""):
    if ctx.catalog.get_dataset(ref.project, ref.dataset) is None:
        raise NotFoundError(f"Not found: Dataset {ref.project}:{ref.dataset}{where}")


def find(ctx, ref, where=""):
    check_dataset(ctx, ref, where)
    meta = ctx.catalog.get_table(*ref.key)
    if meta is None:
        raise NotFoundError(f"Not found: Table {Ref(*ref.key)}{where}")
    return meta


def save(ctx, ref, **fields):
    """Writes a table down that is in DuckDB already; what is not given stays as it was."""
    now = ctx.clock.now()
    known = ctx.catalog.get_table(*ref.key)
    changed = {"last_modified_time": now, "etag": generate_etag(*ref.key, str(now))} | fields
    if known:
        return ctx.catalog.update_table(known.model_copy(update=changed))
    if "schema_" in changed:
        changed["schema"] = changed.pop("schema_")
    names = {"project_id": ref.project, "dataset_id": ref.dataset, "table_id": ref.table}
    return ctx.catalog.create_table(TableMeta(**{"creation_time": now} | changed | names))


def create(ctx, ref, body):
    """Makes an empty table as a body of REST describes it."""
    check_dataset(ctx, ref)
    if ctx.catalog.get_table(*ref.key):
        raise AlreadyExistsError(f"Already Exists: Table {ref}")
    schema = schema_of(body.get("schema") or {})
    if not schema.fields:
        raise UnsupportedFeatureError(f"{ref}: a table without columns is not emulated")
    planned = layout(body, schema)
    ctx.engine.execute(f"CREATE TABLE {ref.sql} ({columns_sql(schema)})")
    return save(ctx, ref, schema_=schema, **planned, **words(body))


def words(body):
    names = {"description": "description", "friendlyName": "friendly_name", "labels": "labels"}
    return {ours: body[theirs] for theirs, ours in names.items() if theirs in body}


def drop(ctx, ref):
    meta = find(ctx, ref)
    ctx.engine.execute(f"DROP {'VIEW' if meta.table_type == 'VIEW' else 'TABLE'} {ref.sql}")
    ctx.catalog.delete_table(*ref.key)


def rows_of(ctx, ref):
    return ctx.engine.execute(f"SELECT count(*) FROM {ref.sql}").fetchone()[0]


def rest(ctx, meta):
    ref = Ref(meta.project_id, meta.dataset_id, meta.table_id)
    milliseconds = lambda time: str(int(time.timestamp() * 1000))
    body = {
        "kind": "bigquery#table",
        "etag": meta.etag,
        "id": str(ref),
        "tableReference": ref.body,
        "type": meta.table_type,
        "location": "US",
        "schema": {"fields": [_field_to_rest(field) for field in meta.schema_.fields]},
        "creationTime": milliseconds(meta.creation_time),
        "lastModifiedTime": milliseconds(meta.last_modified_time),
        "labels": meta.labels,
    }
    if meta.description:
        body["description"] = meta.description
    if meta.friendly_name:
        body["friendlyName"] = meta.friendly_name
    if meta.time_partitioning:
        body["timePartitioning"] = _time_partitioning_to_rest(meta.time_partitioning)
    if found := meta.range_partitioning:
        bounds = {name: str(getattr(found, name)) for name in ("start", "end", "interval")}
        body["rangePartitioning"] = {"field": found.field, "range": bounds}
    if meta.clustering:
        body["clustering"] = {"fields": list(meta.clustering.fields)}
    if meta.table_type == "VIEW":
        body["view"] = {"query": meta.view_query, "useLegacySql": False}
    else:
        rows = rows_of(ctx, ref)
        body |= {"numRows": str(rows), "numBytes": str(rows * len(meta.schema_.fields) * BYTES_PER_VALUE)}
    return {name: value for name, value in body.items() if value not in ({}, None)}


# --- Routes

TABLES = "/projects/{project}/datasets/{dataset}/tables"


@router.post(TABLES)
async def insert(project: str, dataset: str, request: Request, ctx: Context):
    body = json.loads(await request.body())
    if "view" in body:
        raise UnsupportedFeatureError("views are made by CREATE VIEW here")
    ref = Ref(project, dataset, body["tableReference"]["tableId"])
    return rest(ctx, create(ctx, ref, body))


@router.get(TABLES)
async def list_tables(
    project: str, dataset: str, ctx: Context, maxResults: int = PAGE, pageToken: str | None = None
):
    check_dataset(ctx, Ref(project, dataset, ""))
    known = sorted(ctx.catalog.list_tables(project, dataset), key=lambda meta: meta.table_id)
    size, start = min(maxResults, PAGE), int(pageToken or 0)
    shown = ("kind", "id", "tableReference", "type", "labels", "creationTime", "timePartitioning")
    shown += ("rangePartitioning", "clustering")
    page = [rest(ctx, meta) for meta in known[start : start + size]]
    page = [{name: body[name] for name in shown if name in body} for body in page]
    body = {"kind": "bigquery#tableList", "tables": page, "totalItems": len(known)}
    return body | ({"nextPageToken": str(start + size)} if start + size < len(known) else {})


@router.get(TABLES + "/{table}")
async def get(project: str, dataset: str, table: str, ctx: Context):
    return rest(ctx, find(ctx, Ref(project, dataset, table)))


@router.patch(TABLES + "/{table}")
async def patch(project: str, dataset: str, table: str, request: Request, ctx: Context):
    """Changes words and labels, and adds columns that may be null."""
    ref, body = Ref(project, dataset, table), json.loads(await request.body())
    meta = find(ctx, ref)
    changed = words(body)
    if "labels" in changed:
        merged = meta.labels | changed["labels"]
        changed["labels"] = {name: value for name, value in merged.items() if value is not None}
    if "schema" in body:
        changed["schema_"] = schema_of(body["schema"])
        kept = [(field.name, field.type) for field in changed["schema_"].fields]
        for field in meta.schema_.fields:
            if (field.name, field.type) not in kept:
                message = f"Provided Schema does not match Table {ref}."
                raise ValidationError(f"{message} Field {field.name} is missing in new schema")
        for field in changed["schema_"].fields:
            if column(meta.schema_, field.name) is None:
                ctx.engine.execute(f"ALTER TABLE {ref.sql} ADD COLUMN {columns_sql(TableSchema(fields=(field,)))}")
    return rest(ctx, save(ctx, ref, **changed))


@router.delete(TABLES + "/{table}", status_code=204)
async def delete(project: str, dataset: str, table: str, ctx: Context):
    drop(ctx, Ref(project, dataset, table))
    return Response(status_code=204)
