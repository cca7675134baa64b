"""Statements of the BigQuery emulator: what they read, what they cost, and what they do to DuckDB and the catalogue."""

from dataclasses import dataclass, field

import pyarrow
import sqlglot
from bqemulator.api.routes.jobs import _schema_from_create_table
from bqemulator.catalog.ddl_sync import sync_created_schema
from bqemulator.domain.errors import (
    AlreadyExistsError,
    DomainError,
    InvalidQueryError,
    UnsupportedFeatureError,
    ValidationError,
)
from bqemulator.jobs.error_mapper import translate_runtime_error
from bqemulator.jobs.executor import build_response_schema, classify_statement_type
from bqemulator.row_access.identity import CallerIdentity
from bqemulator.sql.inner_query import rewrite_and_translate_statement
from bqemulator.sql.parameters import bind_parameters
from bqemulator.sql.table_rewriter import rewrite_table_refs
from bqemulator.sql.translator import SQLTranslator
from sqlglot import exp

import bigquery_tables as tables
from bigquery_dialect import is_temporary, made_by, mended, options, parse, partition_by, prepared
from bigquery_tables import Ref
from bigquery_writes import Destination
from statements import statements

HERE = " was not found in location US"
MEBIBYTE = 1 << 20
# What Google bills at least for each table that a query reads.
LEAST_BILLED = 10 * MEBIBYTE
NOBODY = CallerIdentity(principal="user:anonymous@emulated", is_authenticated=False)
CONTROL = {"DECLARE", "SET", "IF", "LOOP", "WHILE", "FOR", "REPEAT", "CALL", "EXECUTE", "RETURN", "RAISE"}
WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable)
translator = SQLTranslator()


class BytesBilledLimitExceeded(DomainError):
    http_status = 400
    bq_reason = "bytesBilledLimitExceeded"
    grpc_status_name = "INVALID_ARGUMENT"


@dataclass
class Done:
    """What a statement did."""

    kind: str
    rows: pyarrow.Table | None = None
    affected: int | None = None
    dml: dict | None = None
    processed: int = 0
    billed: int = 0
    read: list[Ref] = field(default_factory=list)
    ddl: str | None = None
    target: Ref | None = None
    schema: list | None = None

    @property
    def fields(self):
        return self.schema or (build_response_schema(self.rows.schema) if self.rows is not None else [])


def split(script):
    """The statements of a script, which has no control flow."""
    try:
        found = statements(script)
    except sqlglot.errors.TokenError as error:
        raise InvalidQueryError(f"Syntax error: {error}", location="query") from error
    for _, words in found:
        if words[0] in CONTROL or (words[0] == "BEGIN" and words[1:] not in ([], ["TRANSACTION"])):
            raise UnsupportedFeatureError(f"control flow of scripts is not emulated: {words[0]}")
    return ["BEGIN TRANSACTION" if words == ["BEGIN"] else text for text, words in found]


def kind_of(tree, statement):
    # The stock package looks at the first word, which in a query may be a parenthesis.
    return "SELECT" if isinstance(tree, exp.Query) else classify_statement_type(statement)


class Session:
    """Runs the statements of a job in their order. `close` takes back what was not committed, and temporary tables."""

    def __init__(self, ctx, project, default=None, parameters=None, limit=None):
        self.ctx, self.project, self.default = ctx, project, default
        self.parameters, self.limit = parameters, limit
        self.temporary, self.in_transaction, self.in_script = {}, False, False

    def close(self):
        if self.in_transaction:
            self.ctx.engine.execute("ROLLBACK")
        for name in self.temporary:
            self.ctx.engine.execute(f'DROP TABLE IF EXISTS temp."{name}"')

    # --- Names

    def ref(self, table):
        """A table as it is written, in the job's project and default dataset where it does not say."""
        dataset, project = table.db, table.catalog
        if "." in dataset and not project:
            project, _, dataset = dataset.partition(".")
        if not dataset and self.default:
            dataset, project = self.default.dataset, self.default.project
        if not dataset:
            example = f'Table "{table.name}" must be qualified with a dataset (e.g. dataset.table).'
            raise ValidationError(example, location=table.name)
        return Ref(project or self.project, dataset, table.name)

    def qualify(self, tree):
        """Writes every table's full name into the tree, and returns those that it reads or changes."""
        named = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)} | self.temporary.keys()
        made = made_by(tree)
        found = []
        for table in list(tree.find_all(exp.Table)):
            if "INFORMATION_SCHEMA" in table.sql().upper():
                raise UnsupportedFeatureError("INFORMATION_SCHEMA is not emulated")
            if table.args.get("version"):
                raise UnsupportedFeatureError("FOR SYSTEM_TIME AS OF is not emulated")
            if isinstance(table.this, exp.Func):
                continue
            if not table.db and table.name.lower() in named:
                continue
            if table is made and is_temporary(tree):
                continue
            ref = self.ref(table)
            for part, name in (("this", ref.table), ("db", ref.dataset), ("catalog", ref.project)):
                table.set(part, exp.to_identifier(name, quoted=True))
            if table is not made:
                found.append(ref)
        return list(dict.fromkeys(found))

    # --- Costs

    def base_tables(self, refs):
        """The tables that hold rows, those behind views among them."""
        found = {}
        for ref in refs:
            meta = tables.find(self.ctx, ref, HERE)
            if meta.table_type == "VIEW":
                within = Session(self.ctx, ref.project)
                found |= self.base_tables(within.qualify(parse(meta.view_query)))
            else:
                found[ref] = tables.rows_of(self.ctx, ref) * len(meta.schema_.fields) * tables.BYTES_PER_VALUE
        return found

    def cost(self, done, refs):
        """All columns of all rows: this emulator prunes nothing."""
        done.read = refs
        sizes = self.base_tables(refs)
        done.processed = sum(sizes.values())
        done.billed = sum(-(-max(size, LEAST_BILLED) // MEBIBYTE) * MEBIBYTE for size in sizes.values())
        if self.limit is not None and done.billed > self.limit:
            message = f"Query exceeded limit for bytes billed: {self.limit}. {done.billed} or higher required."
            raise BytesBilledLimitExceeded(message)

    # --- Statements

    async def translate(self, tree):
        given = {"project_id": self.project, "ctx": self.ctx, "caller": NOBODY, "translator": translator}
        try:
            sql = await rewrite_and_translate_statement(prepared(tree).sql("bigquery"), **given)
            return mended(rewrite_table_refs(sql, self.project))
        except DomainError:
            raise
        except Exception as error:
            # Not 500: a client would try that again.
            raise UnsupportedFeatureError(f"this statement is not translated: {error}") from error

    def fetch(self, sql):
        try:
            sql, values = bind_parameters(sql, self.parameters)
            return self.ctx.engine.fetch_arrow(sql, values or None)
        except DomainError:
            raise
        except Exception as error:
            raise translate_runtime_error(error, duckdb_sql=sql) from error

    async def plan(self, statement):
        """What a dry run tells: the cost, and the columns of a query."""
        tree = parse(statement)
        done = Done(kind_of(tree, statement))
        self.cost(done, self.qualify(tree))
        query = tree.expression if isinstance(tree, exp.Create) else tree
        if isinstance(query, exp.Query):
            described = self.fetch(f"DESCRIBE {await self.translate(query)}").to_pylist()
            columns = [tables.duckdb_type_to_bq_field(row["column_name"], row["column_type"]) for row in described]
            done.schema = columns
        elif isinstance(tree, WRITES):
            self.fetch(f"EXPLAIN {await self.translate(tree)}")
        return done

    async def run(self, statement, destination=None):
        """Runs a statement. A query's rows also go to a destination: a `Destination`."""
        tree = parse(statement)
        done = Done(kind_of(tree, statement))
        if isinstance(tree, (exp.Transaction, exp.Commit, exp.Rollback)):
            return self.transaction(tree)
        if isinstance(tree, exp.Drop) and tree.args.get("kind") in ("TABLE", "VIEW"):
            return self.drop(tree, done)
        if isinstance(tree, exp.Create) and tree.args.get("kind") == "SCHEMA":
            self.fetch(await self.translate(tree))
            sync_created_schema(statement, self.project, self.ctx)
            return done
        refs = self.qualify(tree)
        self.cost(done, refs)
        if isinstance(tree, exp.Create):
            await self.create(tree, done)
        elif isinstance(tree, exp.Query):
            sql = await self.translate(tree)
            done.rows = destination.write(self, sql) if destination else self.fetch(sql)
        elif isinstance(tree, exp.Alter):
            await self.alter(tree, done)
        elif isinstance(tree, WRITES):
            await self.write(tree, done)
        else:
            raise UnsupportedFeatureError(f"not emulated: {statement[:80]}")
        return done

    def transaction(self, tree):
        if isinstance(tree, exp.Transaction) == self.in_transaction:
            what = "Nested transactions are not supported" if self.in_transaction else "There is no transaction"
            raise InvalidQueryError(what, location="query")
        if not self.in_script:
            raise InvalidQueryError("Transaction control statements are supported only in scripts or sessions")
        self.in_transaction = isinstance(tree, exp.Transaction)
        kinds = {exp.Transaction: "BEGIN", exp.Commit: "COMMIT", exp.Rollback: "ROLLBACK"}
        self.ctx.engine.execute(kinds[type(tree)])
        return Done(f"{kinds[type(tree)]}_TRANSACTION")

    async def write(self, tree, done):
        """INSERT, UPDATE, DELETE, MERGE and TRUNCATE, with the counts of rows."""
        target = tree.expressions[0] if isinstance(tree, exp.TruncateTable) else tree.this
        target = target.this if isinstance(target, exp.Schema) else target
        temporary = not target.db
        if not temporary:
            done.target = self.ref(target)
            if tables.find(self.ctx, done.target, HERE).table_type == "VIEW":
                raise ValidationError(f"Table {done.target} is a view, and cannot be changed")
        sql = await self.translate(tree)
        if isinstance(tree, exp.Merge):
            self.check_matches(sql)
            actions = self.fetch(f"{sql} RETURNING merge_action").column(0).to_pylist()
            counts = {kind: actions.count(kind) for kind in ("INSERT", "UPDATE", "DELETE")}
        elif isinstance(tree, exp.TruncateTable):
            counts = {"DELETE": tables.rows_of(self.ctx, done.target)}
            self.fetch(sql)
        else:
            kind = {exp.Insert: "INSERT", exp.Update: "UPDATE", exp.Delete: "DELETE"}[type(tree)]
            counts = {kind: self.fetch(sql).column(0)[0].as_py()}
        names = {"INSERT": "insertedRowCount", "UPDATE": "updatedRowCount", "DELETE": "deletedRowCount"}
        done.dml = {names[kind]: str(count) for kind, count in counts.items() if count}
        done.affected = sum(counts.values())
        if not temporary:
            tables.save(self.ctx, done.target)

    def check_matches(self, sql):
        """Google refuses a MERGE that could change a row twice. DuckDB would do so."""
        tree = sqlglot.parse_one(sql, read="duckdb")
        if not any(when.args.get("matched") for when in tree.args["whens"].expressions):
            return
        target, source = tree.this, tree.args["using"]
        row = f"{target.alias_or_name}.rowid"
        pairs = f"FROM {target.sql('duckdb')} JOIN {source.sql('duckdb')} ON {tree.args['on'].sql('duckdb')}"
        with_ = tree.args.get("with_")
        sql = f"{with_.sql('duckdb') if with_ else ''} SELECT 1 {pairs} GROUP BY {row} HAVING count(*) > 1 LIMIT 1"
        if self.fetch(sql).num_rows:
            message = "UPDATE/MERGE must match at most one source row for each target row"
            raise InvalidQueryError(message, location="query")

    def drop(self, tree, done):
        if not tree.this.db and tree.this.name.lower() in self.temporary:
            self.ctx.engine.execute(f'DROP TABLE temp."{tree.this.name}"')
            self.temporary.pop(tree.this.name.lower())
            return done
        done.target = self.ref(tree.this)
        meta = self.ctx.catalog.get_table(*done.target.key)
        done.ddl = "DROP" if meta else "SKIP"
        if meta and meta.table_type != tree.args["kind"]:
            raise ValidationError(f"{done.target} is a {meta.table_type}, and no {tree.args['kind']}")
        if meta or not tree.args.get("exists"):
            tables.drop(self.ctx, done.target)
        return done

    async def alter(self, tree, done):
        done.target, done.ddl = self.ref(tree.this), "ALTER"
        tables.find(self.ctx, done.target, HERE)
        actions = tree.args.get("actions") or []
        if all(isinstance(action, exp.AlterSet) for action in actions):
            properties = [one for action in actions for one in action.find_all(exp.Property)]
            tables.save(self.ctx, done.target, **tables.words(options(properties)))
        else:
            self.fetch(await self.translate(tree))
            known = tables.find(self.ctx, done.target).schema_
            fields = tables.schema_in_duckdb(self.ctx, done.target.sql).fields
            fields = tuple(tables.column(known, one.name) or one for one in fields)
            tables.save(self.ctx, done.target, schema_=known.model_copy(update={"fields": fields}))

    async def create(self, tree, done):
        if is_temporary(tree):
            return await self.create_temporary(tree, done)
        done.target = ref = self.ref(made_by(tree))
        if self.in_transaction:
            raise InvalidQueryError("DDL statements are not supported in a transaction, except for temporary tables")
        tables.check_dataset(self.ctx, ref, HERE)
        known = self.ctx.catalog.get_table(*ref.key)
        kind, replace = tree.args["kind"], tree.args.get("replace")
        done.ddl = "REPLACE" if known and replace else "CREATE"
        if known and not replace:
            if not tree.args.get("exists"):
                raise AlreadyExistsError(f"Already Exists: Table {ref}")
            done.ddl = "SKIP"
            return None
        if known and known.table_type != kind:
            what = f"because it is currently a {known.table_type}."
            raise ValidationError(f"{ref} is not allowed for this operation {what}")
        properties = tree.args["properties"].expressions if tree.args.get("properties") else []
        body = options(properties)
        if kind == "VIEW":
            query = await self.translate(tree.expression)
            self.fetch(f"CREATE OR REPLACE VIEW {ref.sql} AS {query}")
            schema = tables.schema_in_duckdb(self.ctx, ref.sql)
            text = tree.expression.sql("bigquery")
            tables.save(self.ctx, ref, table_type="VIEW", schema_=schema, view_query=text, **tables.words(body))
        elif tree.expression is not None:
            body |= partition_by(properties)
            Destination(ref, "WRITE_TRUNCATE", body, replaced=True).write(self, await self.translate(tree.expression))
        elif isinstance(tree.this, exp.Schema):
            if known:
                tables.drop(self.ctx, ref)
            body |= partition_by(properties) | {"schema": {"fields": _schema_from_create_table(tree)}}
            tables.create(self.ctx, ref, body)
        else:
            raise UnsupportedFeatureError("CREATE TABLE is emulated with columns or AS only")
        return None

    async def create_temporary(self, tree, done):
        if not self.in_script:
            raise InvalidQueryError("Use of CREATE TEMPORARY TABLE requires a script or session", location="query")
        if tree.expression is None:
            raise UnsupportedFeatureError("CREATE TEMP TABLE is emulated with AS only")
        name = made_by(tree).name
        if name.lower() in self.temporary and not tree.args.get("replace"):
            raise AlreadyExistsError(f"Already Exists: Table {name}")
        self.fetch(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {await self.translate(tree.expression)}')
        tables.keep_types(self.ctx, f'temp."{name}"')
        self.temporary[name.lower()] = True
        done.ddl = "CREATE"
