#!/usr/bin/env python3
"""Checks SQL with ZetaSQL, the analyzer that BigQuery is made with, compiled to WebAssembly: names and types, and what
BigQuery's grammar does not have. It runs nothing.

It reads a document from standard input:

    {"tables": {"raw.earthquakes": {"id": "STRING", "time": "TIMESTAMP"}},
     "statements": [{"name": "models/a.sql", "sql": "select ...", "creates": "silver.a", "columns": [["id", "STRING"]]}]}

`sql` may be a script. What a statement creates, by CREATE or because `creates` says where the rows of a query go, is
there for those after it. `columns` are those that a query should have, in their order. Each error is printed as
`name: message`, and the exit code is then 1.
"""

import json
import sys

import sqlglot
import zetasql.core.wasm_client as client
import zetasql.types as types
from zetasql.api import Analyzer, CatalogBuilder, TableBuilder
from zetasql.api.type_factory import TypeFactory
from zetasql.core.exceptions import ZetaSQLError
from zetasql.types import AnalyzerOptions, LanguageOptions, TypeKind, ZetaSQLBuiltinFunctionOptions

from statements import statements

KINDS = {name: getattr(TypeKind, f"TYPE_{name}") for name in ("INT64", "STRING", "BYTES", "BOOL", "DATE", "TIME")}
KINDS |= {name: getattr(TypeKind, f"TYPE_{name}") for name in ("DATETIME", "TIMESTAMP", "GEOGRAPHY", "NUMERIC")}
KINDS |= {name: getattr(TypeKind, f"TYPE_{name}") for name in ("BIGNUMERIC", "JSON", "INTERVAL")}
KINDS["FLOAT64"] = TypeKind.TYPE_DOUBLE
NAMES = {kind: name for name, kind in KINDS.items()}


def cached(Config=client.Config):
    # Compiling the analyzer takes half a minute; the compiled one is kept in the user's cache folder.
    config = Config()
    config.cache = True
    return config


client.Config = cached


def options():
    language = LanguageOptions.maximum_features()
    # As BigQuery: no INT32 or DOUBLE, and GEOGRAPHY.
    language.product_mode = types.ProductMode.PRODUCT_EXTERNAL
    # BigQuery takes QUALIFY without WHERE, which needs the word to be reserved.
    language.reserved_keywords = ["QUALIFY"]
    return AnalyzerOptions(
        language_options=language,
        error_message_mode=types.ErrorMessageMode.ERROR_MESSAGE_ONE_LINE,
        prune_unused_columns=False,
    )


OPTIONS = options()


class Catalog:
    """Tables by their paths: the columns of each, by type."""

    def __init__(self, tables):
        self.tables = {}
        for path, columns in tables.items():
            self.add(path.split("."), {name: simple(kind) for name, kind in columns.items()})

    def add(self, path, columns):
        within = self.tables
        for part in path[:-1]:
            within = within.setdefault(part, {})
        table = TableBuilder(path[-1])
        for name, kind in columns.items():
            table = table.add_column(name, kind)
        within[path[-1]] = table.build()

    def build(self):
        functions = ZetaSQLBuiltinFunctionOptions(language_options=OPTIONS.language_options)
        return nested(CatalogBuilder("bigquery").with_builtin_functions(functions).build(), self.tables)


def nested(catalog, tables):
    inner = {name: found for name, found in tables.items() if isinstance(found, dict)}
    catalog.table = [found for name, found in tables.items() if name not in inner]
    catalog.catalog = [nested(CatalogBuilder(name).build(), found) for name, found in inner.items()]
    return catalog


def simple(kind):
    return TypeFactory.create_simple_type(KINDS[kind.upper()])


def analyze(sql, creates, catalog):
    """Analyzes a script, and adds what it creates to the catalogue. Returns the columns of its last statement."""
    columns = {}
    for statement, _ in statements(sql):
        resolved = Analyzer(OPTIONS, catalog.build()).analyze_statement(statement)
        columns = {one.name: one.column.type for one in getattr(resolved, "output_column_list", None) or []}
        path = getattr(resolved, "name_path", None) or (creates and creates.split("."))
        if columns and path:
            catalog.add(path, columns)
    return {name: NAMES.get(kind.type_kind, str(kind.type_kind)) for name, kind in columns.items()}


def differences(found, described):
    described = {name: kind.upper() for name, kind in described}
    for name, kind in described.items():
        if found.get(name) != kind:
            yield f"{name} is described as {kind} and is {found.get(name, 'not there')}"
    for name in found:
        if name not in described:
            yield f"{name} is not described"
    if found == described and list(found) != list(described):
        yield "the columns are described in another order"


def sentence(error):
    """An error in one line, with the place that comes after what it explains."""
    whole = getattr(error, "raw_error", str(error))
    return " ".join(whole.partition(", Message: ")[2].split()) or str(error)


def main():
    document = json.load(sys.stdin)
    catalog, wrong = Catalog(document["tables"]), False
    for one in document["statements"]:
        try:
            found = analyze(one["sql"], one.get("creates"), catalog)
            errors = list(differences(found, one["columns"])) if "columns" in one else []
        except (ZetaSQLError, sqlglot.errors.TokenError) as error:
            errors = [sentence(error)]
        for error in errors:
            print(f"{one['name']}: {error}")
        wrong = wrong or bool(errors)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
