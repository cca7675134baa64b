"""Where the rows of a query or a load go in the BigQuery emulator: what may be there, and what becomes of it."""

from bqemulator.domain.errors import AlreadyExistsError, NotFoundError, ValidationError

import bigquery_tables as tables
from bigquery_tables import Partitioning, Ref


class Destination:
    """A table that a query's rows, or those of a load, go to: what may be there already, and what becomes of it."""

    def __init__(self, ref, disposition, body, create="CREATE_IF_NEEDED", replaced=False):
        self.ref, self.disposition, self.body, self.create = ref, disposition, body, create
        self.replaced = replaced

    def write(self, session, sql):
        """Runs a query of DuckDB and keeps its rows."""
        session.fetch(f'CREATE OR REPLACE TEMP TABLE "_result" AS {sql}')
        try:
            tables.keep_types(session.ctx, 'temp."_result"')
            self.take(session.ctx, 'temp."_result"', tables.schema_in_duckdb(session.ctx, 'temp."_result"'))
            return session.fetch('FROM temp."_result"')
        finally:
            session.ctx.engine.execute('DROP TABLE IF EXISTS temp."_result"')

    def take(self, ctx, rows, schema):
        """Moves rows of a temporary table into the destination, all or none."""
        ref = self.ref
        tables.check_dataset(ctx, ref)
        known = ctx.catalog.get_table(*ref.key)
        if known is None and self.create == "CREATE_NEVER":
            raise NotFoundError(f"Not found: Table {Ref(*ref.key)}")
        if known and known.table_type == "VIEW":
            raise ValidationError(f"{ref} is not allowed for this operation because it is currently a VIEW.")
        planned = tables.layout(self.body, schema)
        self.check_layout(known, planned)
        if known is None and ref.partition:
            raise NotFoundError(f"Not found: Table {Ref(*ref.key)}")
        if known and self.disposition == "WRITE_EMPTY" and tables.rows_of(ctx, ref):
            raise AlreadyExistsError(f"Already Exists: Table {ref}")
        where = ""
        if ref.partition:
            found = tables.partitioning_of(known, ref)
            where = f" WHERE {found.name_sql()} = '{ref.partition}'"
            count = f"SELECT count(*) FROM {rows} WHERE {found.name_sql()} != '{ref.partition}'"
            if ctx.engine.execute(count).fetchone()[0]:
                message = "Some rows belong to different partitions rather than destination partition"
                raise ValidationError(f"{message} {ref}")
        whole = known is None or (self.disposition == "WRITE_TRUNCATE" and not ref.partition)
        if not whole:
            check_schema(ref, known.schema_, schema)
        ctx.engine.execute("BEGIN")
        try:
            if whole:
                ctx.engine.execute(f"CREATE OR REPLACE TABLE {ref.sql} ({tables.columns_sql(schema)})")
            elif self.disposition == "WRITE_TRUNCATE":
                ctx.engine.execute(f"DELETE FROM {ref.sql}{where}")
            ctx.engine.execute(f"INSERT INTO {ref.sql} BY NAME FROM {rows}")
        except Exception as error:
            ctx.engine.execute("ROLLBACK")
            raise ValidationError(f"Error while writing {ref}: {error}") from error
        ctx.engine.execute("COMMIT")
        changed = tables.words(self.body)
        if self.replaced:
            changed = {"description": None, "labels": {}, "creation_time": ctx.clock.now()} | changed
        if whole:
            asked = self.replaced or known is None
            planned = {name: value for name, value in planned.items() if asked or value}
            changed |= {"schema_": schema} | planned
        tables.save(ctx, ref, **changed)

    def check_layout(self, known, planned):
        """Neither a load nor a query changes how a table is split, and CREATE OR REPLACE does not either."""
        if known is None:
            return
        asked = any(planned[name] for name in ("time_partitioning", "range_partitioning"))
        before = Partitioning.of(known)
        after = Partitioning.of(known.model_copy(update=planned))
        if self.replaced and before != after:
            message = "Cannot replace a table with a different partitioning spec."
            specs = f"New partitioning spec is {after} and existing spec is {before}"
            raise ValidationError(f"{message} Instead, DROP the table, and then recreate it. {specs}")
        if asked and before != after:
            message = f"Incompatible table partitioning specification. Expects partitioning specification {before}"
            raise ValidationError(f"{message}, but input partitioning specification is {after}")


def check_schema(ref, known, schema):
    """Whether rows of a schema fit a table that stays. Names of columns have no case."""
    refused = f"Provided Schema does not match Table {Ref(*ref.key)}."
    for field_ in schema.fields:
        there = tables.column(known, field_.name)
        if there is None:
            raise ValidationError(f"{refused} Cannot add fields (field: {field_.name})")
        if there.type != field_.type or (there.mode == "REPEATED") != (field_.mode == "REPEATED"):
            changed = f"Field {field_.name} has changed type from {there.type} to {field_.type}"
            raise ValidationError(f"{refused} {changed}")
    for field_ in known.fields:
        if field_.mode == "REQUIRED" and tables.column(schema, field_.name) is None:
            raise ValidationError(f"{refused} Field {field_.name} is missing in new schema")
