"""The job script of docs/batch.md for submitit, with processes of this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from batch.instant import write_spec

import latentjac
from latentjac import batch

if os.environ.get("LATENTJAC_REQUIRE_SUBMITIT") != "1":
    pytest.importorskip("submitit")
PAGE = (Path(latentjac.__file__).parents[1] / "docs" / "batch.md").read_text()


@pytest.mark.slow
def test_the_script_of_the_page(tmp_path: Path) -> None:
    write_spec(tmp_path, 8)
    (found,) = re.findall(r"^<!-- py submitit -->\n```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    script = found.replace("/shared", str(tmp_path)).replace("/16", "/2").replace("range(1, 17)", "range(1, 3)")
    script = script.replace('logs")', 'logs", cluster="local")').replace("gpus_per_node=1, cpus_per_task=8, ", "")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(script, names)
    assert [job.state for job in names["jobs"]] == ["FINISHED"] * 2
    status = batch.open(tmp_path / "run").status()
    assert (status.items, status.done, status.with_errors) == (8, 8, 0)
    assert {part.name[:12] for part in (tmp_path / "run" / "table").iterdir()} == {"0001-of-0002", "0002-of-0002"}
