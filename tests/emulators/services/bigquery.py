#!/usr/bin/env python3
"""bqemulator, which translates BigQuery's SQL for DuckDB, and what the stock package lacks and Strata relies on:

- loads of Parquet by name (without case) and of JSON lines, into a partition (`table$20250723`, `table$2018`) or a
  whole table, all rows or none, with Google's refusals: a missing object, another type, rows of another partition;
- names of jobs that can be had once (409), each project with names of its own;
- a failed job is DONE with `status.errorResult`; `jobs.query` and `getQueryResults` answer its failure as HTTP's;
- queries into a table, with partitioning, clustering and dispositions; `CREATE OR REPLACE` with them;
- scripts with transactions and temporary tables, without control flow;
- an error where MERGE would change a row twice, which DuckDB does;
- bytes billed by the size of the tables that are read, and `maximumBytesBilled`;
- counts of rows inserted, updated and deleted, and the other statistics of a job;
- tables by ranges of an integer; labels and descriptions; messages that name tables as Google does;
- results by pages, times in either format.

What it does not emulate it refuses with 501. It answers one request at a time, and jobs end before they are answered:
neither concurrent changes nor a running job are to be seen here. Partitions are not pruned, so bytes are those of whole
tables.

usage: bigquery.py --port PORT --objects FOLDER      the folder has a folder for each bucket
"""

import argparse
import asyncio
import logging
from pathlib import Path

import duckdb_extension_spatial
import structlog

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

from bqemulator import server  # noqa: E402
from bqemulator.api import app as api  # noqa: E402
from bqemulator.config import LogLevel, Settings  # noqa: E402
from bqemulator.domain import errors  # noqa: E402
from bqemulator.storage.engine import DuckDBEngine  # noqa: E402
from fastapi import APIRouter  # noqa: E402

import bigquery_jobs  # noqa: E402
import bigquery_tables  # noqa: E402


def load_spatial(self):
    # The stock package would download it.
    folder = Path(duckdb_extension_spatial.__file__).parent
    self._connection.execute(f"LOAD '{next(folder.rglob('spatial.duckdb_extension'))}'")


def named_as_google_does(self):
    names = ".".join(name for name in (self.dataset_id, self.resource_id) if name)
    return f"{self.kind.capitalize()} {self.project_id}:{names}"


class OneAtATime:
    """DuckDB has one connection here, which a transaction of one request must not share with another's."""

    def __init__(self, app):
        self.app, self.lock = app, asyncio.Lock()

    async def __call__(self, scope, receive, send):
        async with self.lock:
            await self.app(scope, receive, send)


def create_app(context):
    app = api.create_app(context)
    app.add_middleware(OneAtATime)
    return app


class NoGrpc:
    async def start(self):
        pass

    async def stop(self, grace):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=Path, required=True)
    given = parser.parse_args()
    DuckDBEngine._load_spatial = load_spatial
    errors.ResourceRef.format = named_as_google_does
    api.tables_router, api.jobs_router = bigquery_tables.router, bigquery_jobs.router
    for absent in ("tabledata", "routines", "models", "row_access_policies", "upload"):
        setattr(api, f"{absent}_router", APIRouter())
    server.create_app = create_app
    server.build_grpc_server = lambda _context: (NoGrpc(), 0)
    settings = Settings(
        rest_port=given.port,
        gcs_local_root=given.objects,
        enable_format_extensions=False,
        log_level=LogLevel.WARNING,
    )
    server.run_forever(settings)


if __name__ == "__main__":
    main()
