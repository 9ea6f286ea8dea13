"""Tables as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentjac.arguments import check_kind, check_path, check_text
from latentjac.files import write_bytes
from latentjac.report.extras import require_pyarrow


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write columns of equal length as a Parquet file.

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If an argument has a wrong type.
        ValueError: If columns differ in length, or one mixes types that no column of a table can hold.
        FileNotFoundError: If the folder does not exist.
    """
    name = "write_parquet"
    path = check_path(name, "path", path)
    check_kind(name, "columns", columns, dict, "a dict of lists")
    for key, values in columns.items():
        check_text(name, "key of columns", key)
        check_kind(name, f"columns[{key!r}]", values, list, "a list")
    if len({len(values) for values in columns.values()}) > 1:
        lengths = {key: len(values) for key, values in columns.items()}
        raise ValueError(f"{name}: columns must be of equal length, got {lengths}")
    require_pyarrow()
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    try:
        parquet.write_table(pyarrow.table(columns), sink)
    except (pyarrow.ArrowException, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}: columns must hold values of one type each, got {error}") from error
    return write_bytes(path, sink.getvalue().to_pybytes())
