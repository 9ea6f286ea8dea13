"""Items that are computed together give what they give alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch.instant import items_of
from networks import build_scheduler, build_tiny_unet, point_at, rand
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import tasks
from latentjac.batch.together import groups, joined

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    """A network with classes."""
    return latentjac.load(build_tiny_unet(size=8, num_class_embeds=3).double(), build_scheduler())


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and seeds by turns, with classes."""
    folder = tmp_path_factory.mktemp("items")
    rows = []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        source = f'"photo": "{i}.png"' if i % 2 else f'"seed": {i}'
        rows.append(f'{{"id": "{i}", {source}, "class": {i % 3}}}\n')
    (folder / "items.jsonl").write_text("".join(rows))
    return folder / "items.jsonl"


SPEC = {
    "invert": {"num_inference_steps": 4, "grid": "own"},
    "sample": {"num_inference_steps": 4},
    "bases": {"t": 0.5, "k": 2, "tol": 0.1},
    "measures": {"effective_rank": {"probes": 2, "steps": 2}},
    "edits": [
        {"distance": [-1, 2], "directions": [2, 1], "num_steps": 3},
        {"method": "h-space", "distance": 5},
        {"method": "geodesic", "distance": [0.5, 0.5], "directions": [1, 2], "compose": True, "k": 2, "num_steps": 2},
    ],
}


def test_a_run_gives_the_same_for_any_batch_size(
    model: latentjac.Model, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = tasks.local_basis

    def counted(model: Any, point: latentjac.Point, *rest: Any, **options: Any) -> latentjac.LocalBasis:
        sizes.append(len(point.sample))
        return real(model, point, *rest, **options)

    monkeypatch.setattr(tasks, "local_basis", counted)
    found = {}
    for size in (1, 4):
        spec = {"items": str(items), **SPEC}
        found[size] = batch.Run(spec, tmp_path / str(size), model=model, batch_size=size, shard="1/1").run()
    assert sizes == [1, 1, 1, 1, 2, 2]  # photos and seeds have other levels
    alone, together = (found[size].table().to_pylist() for size in (1, 4))
    assert {row["status"] for row in alone} == {"ok"}
    for one, other in zip(alone, together, strict=True):
        for name in set(one) - {"seconds", "jvps", "vjps", "pictures", "basis", "part"}:
            expected = (
                pytest.approx(one[name], rel=1e-5, abs=1e-6) if isinstance(one[name], (float, list)) else one[name]
            )
            assert other[name] == expected, name
    for id in map(str, range(4)):
        a, b = (found[size].basis(id) for size in (1, 4))
        torch.testing.assert_close(b.v, a.v, rtol=1e-5, atol=1e-7)
        for drawn, other in zip(*(found[size].pictures(id) for size in (1, 4)), strict=True):
            pixels = [np.asarray(Image.open(file), dtype=int) for file in (drawn, other)]
            assert abs(pixels[0] - pixels[1]).max() <= 1
    costs = {size: sum(row["jvps"] or 0 for row in rows) for size, rows in ((1, alone), (4, together))}
    assert costs[1] <= costs[4] <= 1.5 * costs[1]


@pytest.mark.parametrize("step", ["bases", "edit"])
def test_one_bad_item_fails_alone(
    step: str, model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"bases": "local_basis", "edit": "edit"}[step]
    real, sizes = getattr(tasks, name), []
    bad = latentjac.noise_point(
        model, num_inference_steps=2, class_label=0, generator=torch.Generator().manual_seed(1)
    ).sample

    def failing(model: Any, points: Any, *rest: Any, **options: Any) -> Any:
        samples = points.sample if isinstance(points, latentjac.Point) else torch.cat([p.sample for p in points])
        sizes.append(len(samples))
        if any(torch.equal(row, bad[0]) for row in samples):
            raise ValueError(f"{name}: sample must not be that of seed 1")
        return real(model, points, *rest, **options)

    monkeypatch.setattr(tasks, name, failing)
    spec = {"items": str(items_of(tmp_path, 4)), "sample": {"num_inference_steps": 2, "class_label": 0},
            "bases": {"t": 1.0, "k": 1, "tol": 0.1}, "edits": [{"method": "linear", "num_steps": 1}]}  # fmt: skip
    results = batch.Run(spec, tmp_path / "run", model=model, batch_size=4, shard="1/1").run()
    rows = [row for row in results.table().to_pylist() if row["step"] == step.replace("bases", "basis")]
    assert [row["status"] for row in rows] == ["ok", "error", "ok", "ok"]
    assert sizes == [4, 2, 1, 1, 2]


def test_points_of_other_levels_or_conditionings_are_apart(model: latentjac.Model) -> None:
    x = rand(1, *model.sample_shape)
    plain = point_at(x).with_prompt(model, class_label=1)
    other = point_at(x, 499).with_prompt(model, class_label=1)
    guided = point_at(x).with_prompt(model, class_label=1, negative_class_label=0, guidance_scale=2.0)
    second = point_at(2 * x).with_prompt(model, class_label=2)
    assert groups([plain, other, guided, second]) == [[0, 3], [1], [2]]
    both = joined([plain, second])
    assert torch.equal(both.sample, torch.cat([x, 2 * x]))
    assert both.rows(slice(1, 2)).conditioning == second.conditioning
