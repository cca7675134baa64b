"""Jobs of the BigQuery emulator: loads and queries, their results by pages, and the routes of `/jobs` and `/queries`.

A job has ended when its insertion is answered: what went wrong is in its status, as with Google's.
"""

import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pyarrow
import pyarrow.parquet
from bqemulator.domain.errors import (
    AlreadyExistsError,
    DomainError,
    NotFoundError,
    UnsupportedFeatureError,
    ValidationError,
)
from bqemulator.jobs.executor import build_response_schema
from bqemulator.storage.arrow_bridge import arrow_table_to_bq_rows
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

import bigquery_tables as tables
from bigquery_sql import Done, Session, split
from bigquery_tables import Context, Ref
from bigquery_writes import Destination, check_schema

router = APIRouter(prefix="/bigquery/v2")
INT64_TIMES = Query(default=False, alias="formatOptions.useInt64Timestamp")


@dataclass
class Job:
    """A job as it is shown, its rows, and the status of HTTP that its failure would have."""

    body: dict
    done: Done | None = None
    failure: DomainError | None = None


JOBS: dict[tuple[str, str], Job] = {}


def known_job(project, name):
    job = JOBS.get((project, name))
    if job is None:
        raise NotFoundError(f"Not found: Job {project}:US.{name}")
    return job


# --- Loads


def local_file(ctx, uri):
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    file = Path(ctx.settings.gcs_local_root) / bucket / name
    if not uri.startswith("gs://") or ".." in file.parts:
        raise ValidationError(f"Source URI must be a Google Cloud Storage location: {uri}", location="sourceUris")
    if not file.is_file():
        raise NotFoundError(f"Not found: URI {uri}")
    return file


def unreadable(uri, reason):
    return ValidationError(f"Error while reading data, error message: {reason} File: {uri}", location=uri)


def parquet_schema(uri, file):
    try:
        schema = pyarrow.parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(uri, error) from error
    fields = build_response_schema(schema)
    for field, entry in zip(schema, fields, strict=True):
        if entry["mode"] == "NULLABLE" and not field.nullable:
            entry["mode"] = "REQUIRED"
    return tables.schema_of({"fields": fields})


def check_modes(ref, known, schema):
    for field in known.fields:
        found = tables.column(schema, field.name)
        if field.mode == "REQUIRED" and found is not None and found.mode != "REQUIRED":
            changed = f"Field {field.name} has changed mode from REQUIRED to NULLABLE"
            raise ValidationError(f"Provided Schema does not match Table {Ref(*ref.key)}. {changed}")


def stage_json(ctx, uri, file, schema):
    """The lines of a file, by DuckDB's own reading of their values."""
    for number, line in enumerate(file.read_text().splitlines()):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise unreadable(uri, f"JSON parsing error in row {number}: {error}.") from error
        for name in row:
            if tables.column(schema, name) is None:
                raise unreadable(uri, f"JSON parsing error in row {number}: No such field: {name}.")
    typed = tables.bq_schema_to_duckdb_columns([tables._field_to_rest(field) for field in schema.fields])
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in typed)
    reader = f"read_json(?, format = 'newline_delimited', columns = {{{columns}}})"
    ctx.engine.execute(f'INSERT INTO temp."_load" BY NAME FROM {reader}', [str(file)])


def stage_parquet(ctx, file, found, schema):
    chosen = ", ".join(f'"{tables.column(schema, one.name).name}"' for one in found.fields)
    read = ", ".join(f'"{one.name}"' for one in found.fields)
    ctx.engine.execute(f'INSERT INTO temp."_load" ({chosen}) SELECT {read} FROM read_parquet(?)', [str(file)])


def load(ctx, project, config):
    """Runs a load, and returns its statistics."""
    ref = Ref.of(config["destinationTable"], project)
    tables.check_dataset(ctx, ref)
    known = ctx.catalog.get_table(*ref.key)
    create = config.get("createDisposition", "CREATE_IF_NEEDED")
    if known is None and create == "CREATE_NEVER":
        raise NotFoundError(f"Not found: Table {Ref(*ref.key)}")
    source, disposition = config.get("sourceFormat", "CSV"), config.get("writeDisposition", "WRITE_APPEND")
    if source not in ("PARQUET", "NEWLINE_DELIMITED_JSON"):
        raise UnsupportedFeatureError(f"loads of {source} are not emulated")
    if config.get("schemaUpdateOptions"):
        raise UnsupportedFeatureError("schemaUpdateOptions are not emulated")
    uris = config.get("sourceUris") or []
    files = {uri: local_file(ctx, uri) for uri in uris}
    if not files:
        raise ValidationError("Load configuration must specify at least one source URI")
    parquet = {uri: parquet_schema(uri, file) for uri, file in files.items()} if source == "PARQUET" else {}
    overwrites = known is None or (disposition == "WRITE_TRUNCATE" and not ref.partition)
    if config.get("schema"):
        schema = tables.schema_of(config["schema"])
    elif overwrites and parquet:
        schema = next(iter(parquet.values()))
    elif known:
        schema = known.schema_
    else:
        raise ValidationError("No schema specified on job or table.")
    for found in parquet.values():
        check_schema(ref, schema, found)
        check_modes(ref, schema, found)
    ctx.engine.execute(f'CREATE OR REPLACE TEMP TABLE "_load" ({tables.columns_sql(schema)})')
    try:
        for uri, file in files.items():
            try:
                stage_parquet(ctx, file, parquet[uri], schema) if parquet else stage_json(ctx, uri, file, schema)
            except DomainError:
                raise
            except Exception as error:
                raise unreadable(uri, error) from error
        rows = ctx.engine.execute('SELECT count(*) FROM temp."_load"').fetchone()[0]
        Destination(ref, disposition, config, create).take(ctx, 'temp."_load"', schema)
    finally:
        ctx.engine.execute('DROP TABLE IF EXISTS temp."_load"')
    return {
        "inputFiles": str(len(files)),
        "inputFileBytes": str(sum(file.stat().st_size for file in files.values())),
        "outputRows": str(rows),
        "outputBytes": str(rows * len(schema.fields) * tables.BYTES_PER_VALUE),
        "badRecords": "0",
    }


# --- Queries


def session_of(ctx, project, config):
    default = config.get("defaultDataset")
    default = Ref(default.get("projectId") or project, default["datasetId"], "") if default else None
    limit = config.get("maximumBytesBilled")
    if config.get("useLegacySql", True):
        raise UnsupportedFeatureError("legacy SQL is not emulated: set useLegacySql to false")
    limit = int(limit) if limit not in (None, "") else None
    return Session(ctx, project, default, config.get("queryParameters"), limit)


def destination_of(project, config):
    asked = config.get("destinationTable")
    if not asked:
        return None
    disposition = config.get("writeDisposition", "WRITE_EMPTY")
    return Destination(Ref.of(asked, project), disposition, config, config.get("createDisposition", "CREATE_IF_NEEDED"))


async def query(ctx, project, config, ended):
    """Runs a query or a script. `ended` is told of each statement of a script."""
    statements = split(config.get("query", ""))
    if not statements:
        raise ValidationError("Required parameter is missing: query", location="query")
    session, script = session_of(ctx, project, config), len(statements) > 1
    session.in_script = script
    destination = destination_of(project, config)
    if script and destination:
        raise ValidationError("configuration.query.destinationTable cannot be set for scripts")
    all_done = Done("SCRIPT")
    try:
        for statement in statements:
            try:
                done = await session.run(statement, destination)
            except DomainError as error:
                if script:
                    ended(statement, None, error)
                raise
            if not script:
                return done
            ended(statement, done, None)
            all_done.processed += done.processed
            all_done.billed += done.billed
            all_done.rows = done.rows if done.rows is not None else all_done.rows
    finally:
        session.close()
    return all_done


def query_statistics(done):
    statistics = {
        "totalBytesProcessed": str(done.processed),
        "totalBytesBilled": str(done.billed),
        "totalSlotMs": "1",
        "billingTier": 1,
        "cacheHit": False,
        "statementType": done.kind,
    }
    if done.read:
        statistics["referencedTables"] = [ref.body for ref in done.read]
    if done.affected is not None:
        statistics |= {"numDmlAffectedRows": str(done.affected), "dmlStats": done.dml}
    if done.ddl:
        statistics["ddlOperationPerformed"] = done.ddl
        if done.target:
            statistics["ddlTargetTable"] = done.target.body
    return statistics


# --- Jobs


def error_body(error):
    body = {"reason": error.bq_reason, "message": error.message}
    return body | ({"location": error.location} if error.location else {})


def job_body(project, name, config, begun, statistics, failure=None, parent=None):
    now = datetime.datetime.now(datetime.UTC)
    milliseconds = lambda time: str(int(time.timestamp() * 1000))
    status = {"state": "DONE"}
    if failure:
        status |= {"errorResult": error_body(failure), "errors": [error_body(failure)]}
    times = {"creationTime": milliseconds(begun), "startTime": milliseconds(begun), "endTime": milliseconds(now)}
    if "query" in config:
        processed = statistics.get("query", {}).get("totalBytesProcessed", "0")
        times |= {"totalBytesProcessed": processed, "totalSlotMs": "1"}
    return {
        "kind": "bigquery#job",
        "etag": uuid4().hex,
        "id": f"{project}:US.{name}",
        "selfLink": f"/bigquery/v2/projects/{project}/jobs/{name}?location=US",
        "jobReference": {"projectId": project, "jobId": name, "location": "US"},
        "configuration": config | {"jobType": "LOAD" if "load" in config else "QUERY"},
        "status": status,
        "statistics": times | statistics | ({"parentJobId": parent} if parent else {}),
        "user_email": "emulated@example.com",
    }


async def run_job(ctx, project, name, config):
    """Runs a job and keeps it under its name, which nothing else can have after that, even if it failed."""
    if (project, name) in JOBS:
        raise AlreadyExistsError(f"Already Exists: Job {project}:US.{name}")
    begun = datetime.datetime.now(datetime.UTC)
    done, failure, statistics, children = None, None, {}, []

    def ended(statement, child, error):
        own = f"script_job_{uuid4().hex}_{len(children)}"
        counts = {"query": query_statistics(child)} if child else {}
        body = job_body(project, own, {"query": {"query": statement}}, begun, counts, error, parent=name)
        children.append(own)
        JOBS[project, own] = Job(body, child, error)

    try:
        if "load" in config:
            statistics = {"load": load(ctx, project, config["load"])}
        elif "query" in config:
            done = await query(ctx, project, config["query"], ended)
            statistics = {"query": query_statistics(done)}
        else:
            raise UnsupportedFeatureError("only loads and queries are emulated")
    except UnsupportedFeatureError:
        raise
    except DomainError as error:
        failure = error
    if children:
        statistics["numChildJobs"] = str(len(children))
    JOBS[project, name] = Job(job_body(project, name, config, begun, statistics, failure), done, failure)
    return JOBS[project, name]


async def dry_run(ctx, project, config):
    """What a query would cost. It leaves no job, and what is wrong with it is answered as a failed request."""
    statements = split(config["query"].get("query", ""))
    session = session_of(ctx, project, config["query"])
    if len(statements) == 1:
        done = await session.plan(statements[0])
        statistics = query_statistics(done) | {"totalBytesBilled": "0", "schema": {"fields": done.fields}}
    else:
        # Only that it is one: its statements are not planned, since they see what those before them did.
        statistics = {"statementType": "SCRIPT", "totalBytesBilled": "0"}
    body = job_body(project, "", config, datetime.datetime.now(datetime.UTC), {"query": statistics})
    del body["jobReference"]["jobId"]
    return body


# --- Rows


def cell(value, field, int64_times):
    """A value as Google writes it: times as seconds in the manner of Java, unless microseconds are asked for."""
    if value is None:
        return None
    if isinstance(value, list):
        one = field | {"mode": "NULLABLE"}
        return [{"v": cell(item["v"], one, int64_times)} for item in value]
    if isinstance(value, dict):
        pairs = zip(value["f"], field["fields"], strict=True)
        return {"f": [{"v": cell(item["v"], inner, int64_times)} for item, inner in pairs]}
    match field["type"]:
        case "TIMESTAMP" if not int64_times:
            digits = f"{Decimal(value).scaleb(-6).normalize():E}"
            mantissa, _, exponent = digits.partition("E")
            return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}" if int(exponent) else mantissa
        case "NUMERIC" | "BIGNUMERIC":
            text = f"{Decimal(value):f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case "FLOAT":
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(value, value)
    return value


def page(rows, fields, start, size, int64_times):
    found = arrow_table_to_bq_rows(rows, offset=start, limit=size)
    pairs = [zip(row["f"], fields, strict=True) for row in found]
    return [{"f": [{"v": cell(item["v"], field, int64_times)} for item, field in row]} for row in pairs]


def page_size(asked, total):
    # Small pages, so that their seams are met in tests; and not many, for Google's hold thousands of rows.
    size = max(tables.PAGE, total // 8)
    return size if asked is None else min(asked, size)


def results(project, name, job, start, asked, int64_times, kind):
    if job.failure:
        raise job.failure
    if job.done is None:
        raise ValidationError(f"Job {project}:US.{name} is no query")
    done = job.done
    size = page_size(asked, done.rows.num_rows if done.rows is not None else 0)
    body = {
        "kind": kind,
        "jobReference": job.body["jobReference"],
        "jobComplete": True,
        "cacheHit": False,
        "totalBytesProcessed": str(done.processed),
    }
    if done.affected is not None:
        body |= {"numDmlAffectedRows": str(done.affected), "dmlStats": done.dml}
    if done.rows is None:
        return body | {"totalRows": "0"}
    body["schema"] = {"fields": done.fields}
    body["totalRows"] = str(done.rows.num_rows)
    body["rows"] = page(done.rows, done.fields, start, size, int64_times)
    if start + size < done.rows.num_rows:
        body["pageToken"] = f"after-{start + size}"
    return body


def start_of(token, index=0):
    if token is None:
        return index
    if not token.startswith("after-") or not token[6:].isdigit():
        raise ValidationError("Invalid value for pageToken", location="pageToken")
    return int(token[6:])


# --- Routes


@router.post("/projects/{project}/jobs")
async def insert_job(project: str, request: Request, ctx: Context):
    body = json.loads(await request.body())
    config = body.get("configuration") or {}
    if config.get("dryRun"):
        return await dry_run(ctx, project, config)
    name = (body.get("jobReference") or {}).get("jobId") or f"job_{uuid4().hex}"
    return (await run_job(ctx, project, name, config)).body


@router.post("/projects/{project}/queries")
async def query_at_once(project: str, request: Request, ctx: Context):
    body = json.loads(await request.body())
    config = {"query": {name: value for name, value in body.items() if name not in ("kind", "maxResults", "dryRun")}}
    if body.get("dryRun"):
        planned = await dry_run(ctx, project, config)
        counts = planned["statistics"]["query"]
        return {
            "kind": "bigquery#queryResponse",
            "jobReference": planned["jobReference"],
            "jobComplete": True,
            "schema": counts["schema"],
            "totalBytesProcessed": counts["totalBytesProcessed"],
            "cacheHit": False,
        }
    name = f"job_{uuid4().hex}"
    job = await run_job(ctx, project, name, config)
    times = str((body.get("formatOptions") or {}).get("useInt64Timestamp", False)).lower() == "true"
    found = results(project, name, job, 0, body.get("maxResults"), times, "bigquery#queryResponse")
    return JSONResponse(found)


@router.get("/projects/{project}/jobs")
async def list_jobs(project: str, ctx: Context, parentJobId: str | None = None):
    found = [job.body for (owner, _), job in JOBS.items() if owner == project]
    found = [body for body in found if body["statistics"].get("parentJobId") == parentJobId]
    shown = [body | {"state": body["status"]["state"]} for body in reversed(found)]
    return {"kind": "bigquery#jobList", "jobs": shown}


@router.get("/projects/{project}/jobs/{name}")
async def get_job(project: str, name: str, ctx: Context):
    return known_job(project, name).body


@router.post("/projects/{project}/jobs/{name}/cancel")
async def cancel_job(project: str, name: str, ctx: Context):
    return {"kind": "bigquery#jobCancelResponse", "job": known_job(project, name).body}


@router.get("/projects/{project}/queries/{name}")
async def get_query_results(
    project: str,
    name: str,
    ctx: Context,
    maxResults: int | None = None,
    startIndex: int = 0,
    pageToken: str | None = None,
    times: bool = INT64_TIMES,
):
    job, start = known_job(project, name), start_of(pageToken, startIndex)
    found = results(project, name, job, start, maxResults, times, "bigquery#getQueryResultsResponse")
    # FastAPI would look at every cell again, for what is no JSON.
    return JSONResponse(found)


@router.get(tables.TABLES + "/{table}/data")
async def list_rows(
    project: str,
    dataset: str,
    table: str,
    ctx: Context,
    maxResults: int | None = None,
    startIndex: int = 0,
    pageToken: str | None = None,
    times: bool = INT64_TIMES,
):
    ref = Ref(project, dataset, table)
    if tables.find(ctx, ref).table_type == "VIEW":
        raise ValidationError(f"Cannot list a table of type VIEW: {ref}")
    total = tables.rows_of(ctx, ref)
    start, size = start_of(pageToken, startIndex), page_size(maxResults, total)
    rows = ctx.engine.fetch_arrow(f"FROM {ref.sql} LIMIT {size} OFFSET {start}")
    body = {"kind": "bigquery#tableDataList", "totalRows": str(total)}
    body["rows"] = page(rows, build_response_schema(rows.schema), 0, size, times)
    return body | ({"pageToken": f"after-{start + size}"} if start + size < total else {})
