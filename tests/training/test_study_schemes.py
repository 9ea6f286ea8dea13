"""The study of schemes: differences of Fréchet distances, with intervals from groups of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
import study_schemes
from measures import frechet_distance

from latentjac.files import read_json


def test_the_same_samples_are_as_near_and_others_differ_by_the_difference_of_distances() -> None:
    rng = np.random.default_rng(0)
    real, first = rng.normal(size=(200, 4)), rng.normal(size=(120, 4))
    assert study_schemes.farther_by(first, first, real) == {"mean": 0.0, "low": 0.0, "high": 0.0}
    farther = study_schemes.farther_by(first + 2, first, real)
    assert farther["mean"] == pytest.approx(frechet_distance(first + 2, real) - frechet_distance(first, real))
    assert 0 < farther["low"] < farther["mean"] < farther["high"]
    assert farther["mean"] == pytest.approx(16, rel=0.2)  # four means that are 2 away


def test_one_part_leaves_the_rows_of_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_schemes, "avatars", lambda count: [{"of": "avatars", "count": count}])
    monkeypatch.setattr(study_schemes, "faces", lambda data, count: [{"of": str(data), "count": count}])
    study_schemes.main(["--data", "a.zip", "--avatars", "2", "--samples", "24", "--tables", str(tmp_path)])
    study_schemes.main(["--only", "avatars", "--avatars", "5", "--tables", str(tmp_path)])
    found = read_json("test", tmp_path / "schemes.json")
    assert found["rows"] == [{"of": "avatars", "count": 5}]
    assert found["avatars"] == 5
    assert found["faces"] == [{"of": "a.zip", "count": 24}]
    assert found["samples"] == 24
    with pytest.raises(SystemExit):
        study_schemes.main(["--only", "faces", "--tables", str(tmp_path)])
