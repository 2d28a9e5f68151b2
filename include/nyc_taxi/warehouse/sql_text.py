"""Names and values as SQL text, for statements that cannot take bound values."""


def quoted(*name: str) -> str:
    """A name as a quoted SQL identifier; several parts, such as a schema and a table, are joined with dots."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)


def literal(value: str | int | None) -> str:
    """A value as an SQL literal."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
