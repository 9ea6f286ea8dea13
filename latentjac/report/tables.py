"""Tables as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentjac.files import write_bytes
from latentjac.report.extras import require_pyarrow


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write columns of equal length as a Parquet file.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return write_bytes(path, sink.getvalue().to_pybytes())
