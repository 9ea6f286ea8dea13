"""Valid arguments of public functions: papers, studies and reports."""

from __future__ import annotations

from dataclasses import replace

from calls.things import Baseline, call, seeded
from networks import rand
from PIL import Image

from latentjac import report, studies
from latentjac.papers import park2023

TINY = studies.Settings(samples=3, levels=(0.9, 0.5, 0.2), k=2, tol=0.5, steps=4, prompts=("a", "b", "c"))

BASELINES: dict[str, Baseline] = {
    "park2023.schedule": lambda c: call(park2023.schedule, scheduler=c.model.scheduler, num_inference_steps=3),
    "park2023.invert": lambda c: call(park2023.invert, model=c.model, image=c.picture, num_inference_steps=5),
    "park2023.invert/text": lambda c: call(
        park2023.invert,
        model=c.text,
        image=Image.new("RGB", (16, 16)),
        num_inference_steps=3,
        prompt="a",
        negative_prompt="b",
    ),
    "park2023.local_basis": lambda c: call(
        park2023.local_basis, model=c.model, point=c.of_park2023, k=2, layer="mid", max_seconds=60.0, generator=seeded()
    ),
    "Walk": lambda c: call(
        park2023.Walk,
        num_steps=2,
        prompt="a",
        layer="mid",
        linearity_tolerance=0.5,
        gain=0.5,
        generator=seeded(),
    ),
    # reports and studies
    **{
        f"{name}.run": lambda c, study=each: call(
            study.run,
            **{"models" if study.several else "model": [c.bent] * 2 if study.several else c.bent},
            settings=replace(TINY, samples=2, levels=(0.9, 0.2)) if study.name in ("rank", "linearity") else TINY,
        )
        for name, each in studies.STUDIES.items()
        if not each.text
    },
    "prompts.run": lambda c: call(
        studies.STUDIES["prompts"].run, model=c.text, settings=replace(TINY, levels=(0.9, 0.2))
    ),
    "Settings": lambda c: call(
        studies.Settings, samples=3, levels=(0.9, 0.5), k=2, tol=0.1, seed=0, steps=5, prompts=("a", "b", "c")
    ),
    "Settings.small": lambda c: call(studies.Settings.small),
    "contact_sheet": lambda c: call(
        report.contact_sheet, rows=[report.Row("a", "b", [c.picture])], heading="h", columns=["c"], cell=16, gap=2
    ),
    "direction_image": lambda c: call(report.direction_image, direction=rand(4, 4, 4)),
    "finding_figure": lambda c: call(report.finding_figure, finding=c.finding),
    "run_page": lambda c: call(report.run_page, record={"command": "edit"}, files=[("a.png", "a picture")]),
    "spectrum_plot": lambda c: call(report.spectrum_plot, basis=c.basis, title="t"),
    "versions": lambda c: call(report.versions),
    "video_gif": lambda c: call(report.video_gif, images=[c.picture, c.picture], side=8, milliseconds=80),
    "walk_gif": lambda c: call(report.walk_gif, images=[c.picture, c.picture], side=8, milliseconds=80, pause=100),
    "write_json": lambda c: call(report.write_json, path=c.folder / "a.json", content={"a": 1}),
    "write_parquet": lambda c: call(report.write_parquet, path=c.folder / "a.parquet", columns={"a": [1]}),
}
