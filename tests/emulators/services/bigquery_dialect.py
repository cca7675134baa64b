"""BigQuery's SQL as trees: what its clauses say, and what the stock package's translation for DuckDB needs mended."""

import sqlglot
from bqemulator.domain.errors import InvalidQueryError, UnsupportedFeatureError
from sqlglot import exp

WEEK = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")


def parse(statement):
    try:
        tree = sqlglot.parse_one(statement, read="bigquery")
    except sqlglot.errors.ParseError as error:
        found = error.errors[0] if error.errors else {}
        where = f" at [{found.get('line')}:{found.get('col')}]" if found else ""
        raise InvalidQueryError(f"Syntax error: {found.get('description', error)}{where}", location="query") from error
    if isinstance(tree, exp.Delete) and not tree.this:
        # DELETE without FROM, which is read as MySQL's.
        tree.set("this", tree.args["tables"][0])
        tree.set("tables", None)
    return tree


def made_by(tree):
    """The table that CREATE makes."""
    if not isinstance(tree, exp.Create):
        return None
    return tree.this.this if isinstance(tree.this, exp.Schema) else tree.this


def is_temporary(tree):
    properties = tree.args.get("properties") if isinstance(tree, exp.Create) else None
    return any(isinstance(one, exp.TemporaryProperty) for one in properties.expressions) if properties else False


def prepared(tree):
    """A statement with what the stock package would translate wrongly put in a form that it does not."""
    for window in tree.find_all(exp.Window):
        if isinstance(window.this, exp.CountIf):
            # The stock package wraps it in COALESCE, which is no window function.
            window.set("this", exp.Count(this=exp.If(this=window.this.this, true=exp.Literal.number(1))))
    for trunc in list(tree.find_all(exp.DateTrunc)):
        unit = trunc.args["unit"]
        first = "MONDAY" if unit.name == "ISOWEEK" else unit.name.upper() if isinstance(unit, exp.WeekStart) else None
        if first in WEEK:
            # The stock package starts every week on Sunday.
            day = trunc.this.sql("bigquery")
            passed = f"MOD(EXTRACT(DAYOFWEEK FROM {day}) + {6 - WEEK.index(first)}, 7)"
            trunc.replace(parse(f"SELECT DATE_SUB({day}, INTERVAL {passed} DAY)").expressions[0])
    for update in tree.find_all(exp.Update):
        for assignment in update.expressions:
            assignment.this.set("table", None)
    for insert in tree.find_all(exp.Insert):
        if isinstance(insert.this, exp.Var):
            raise UnsupportedFeatureError("INSERT ROW is not emulated: name the columns")
    return tree


def mended(sql):
    """SQL of DuckDB with what the stock package translates to something else than BigQuery's.

    NUMERIC has 38 digits, 9 of them after the point, and not 18 and 3; a FLOAT64 becomes the INT64 or NUMERIC that is
    next to it, the larger of two in size, and NUMERIC the next FLOAT64: DuckDB takes the even one, or multiplies and
    divides by 10^9 in floats.
    """
    tree = sqlglot.parse_one(sql, read="duckdb")
    for kind in tree.find_all(exp.DataType):
        if kind.this == exp.DataType.Type.DECIMAL and kind.sql("duckdb") in ("DECIMAL", "DECIMAL(18, 3)"):
            kind.set("expressions", [exp.DataTypeParam(this=exp.Literal.number(size)) for size in (38, 9)])
    # From the inside out: a cast may hold another.
    for cast in reversed(list(tree.find_all(exp.Cast))):
        value, name, to = cast.this.sql("duckdb"), cast.key.replace("trycast", "try_cast"), cast.to.sql("duckdb")
        floats = f"typeof({value}) IN ('DOUBLE', 'FLOAT')"
        match to:
            case "BIGINT":
                case, whole = floats, f"{name}(round(CAST({value} AS DOUBLE)) AS BIGINT)"
            case "DECIMAL(38, 9)":
                case, whole = floats, f"{name}(printf('%.30f', CAST({value} AS DOUBLE)) AS {to})"
            case "DOUBLE":
                case, whole = f"typeof({value}) LIKE 'DECIMAL%'", f"{name}(CAST({value} AS TEXT) AS DOUBLE)"
            case _:
                continue
        replaced = sqlglot.parse_one(f"CASE WHEN {case} THEN {whole} ELSE {name}({value} AS {to}) END", read="duckdb")
        if cast is tree:
            tree = replaced
        cast.replace(replaced)
    return tree.sql("duckdb")


def options(properties):
    """The texts and labels of OPTIONS (...), as a body of REST."""
    body = {}
    for one in properties:
        if type(one) is not exp.Property:
            continue
        value = one.args.get("value")
        match one.this.name.lower():
            case "description":
                body["description"] = value.name
            case "friendly_name":
                body["friendlyName"] = value.name
            case "labels":
                body["labels"] = {pair.expressions[0].name: pair.expressions[1].name for pair in value.expressions}
            # The emulator does not live that long.
            case "expiration_timestamp":
                pass
            case other:
                raise UnsupportedFeatureError(f"the option {other} is not emulated")
    return body


def partition_by(properties):
    """PARTITION BY and CLUSTER BY, as a body of REST."""
    body = {}
    for one in properties:
        if isinstance(one, exp.ClusterProperty):
            body["clustering"] = {"fields": [found.name for found in one.expressions]}
        elif isinstance(one, exp.PartitionedByProperty):
            by = one.this
            if isinstance(by, exp.RangeBucket):
                start, end, step = (by.expression.args[name].name for name in ("start", "end", "step"))
                bounds = {"start": start, "end": end, "interval": step}
                body["rangePartitioning"] = {"field": by.this.name, "range": bounds}
            elif isinstance(by, (exp.Identifier, exp.Column)):
                body["timePartitioning"] = {"type": "DAY", "field": by.name}
            else:
                unit = by.args["unit"].name.upper() if by.args.get("unit") else "DAY"
                body["timePartitioning"] = {"type": unit, "field": by.find(exp.Column).name}
    return body
