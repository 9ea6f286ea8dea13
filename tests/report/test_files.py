"""Records of runs are strict JSON, whatever is in them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from latentjac.report import write_json


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def test_records_are_strict_json(tmp_path) -> None:
    record = {
        "psnr_db": float("inf"),
        "residuals": torch.tensor([1.0, float("nan"), float("-inf")]).tolist(),
        "photo": Path("caf\udce9.png"),
        "text": "ü",
        "levels": (0.5, 1),
    }
    path = write_json(tmp_path / "run.json", record)
    assert json.loads(path.read_bytes().decode(), parse_constant=refuse) == {
        "psnr_db": "Infinity",
        "residuals": [1.0, "NaN", "-Infinity"],
        "photo": "caf\\udce9.png",
        "text": "ü",
        "levels": [0.5, 1],
    }


def test_results_of_benchmarks_are_strict_json(tmp_path, monkeypatch) -> None:
    import record

    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    path = record.write("a", [{"ratio": float("nan")}])
    found = json.loads(path.read_text(), parse_constant=refuse)
    assert (found["name"], found["rows"]) == ("a", [{"ratio": "NaN"}])
