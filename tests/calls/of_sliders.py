"""Valid arguments of public functions: sliders, and directions from words and examples."""

from __future__ import annotations

from dataclasses import replace

import torch
from calls.things import Baseline, call
from networks import rand

import latentjac as lj
from latentjac import editing
from latentjac.editing import Linear

BASELINES: dict[str, Baseline] = {
    "Slider.make": lambda c: call(
        lj.Slider.make,
        model=c.model,
        point=c.point,
        direction=c.v[0],
        change=0.01,
        method=Linear(num_steps=1, diagnostics=False),
        carry=editing.AsIs(),
        tolerance=0.4,
    ),
    "Slider.make/mask": lambda c: call(
        lj.Slider.make,
        model=c.model,
        point=c.point,
        direction=c.v[0],
        change=0.01,
        method=Linear(num_steps=1, diagnostics=False),
        carry=editing.Transported(k=2, tol=0.5),
        mask=editing.Mask(c.mask, null_rank=0),
        others=c.v,
        tolerance=0.2,
        photo=c.picture,
    ),
    "Slider": lambda c: call(lj.Slider, **vars(c.slider)),
    "Slider.apply": lambda c: call(c.slider.apply, model=c.model, point=c.point, values=0.5),
    "Slider.apply/several": lambda c: call(
        c.slider.apply,
        model=c.model,
        point=[c.point, c.point],
        values=[[-0.5], [0.5, 1.0]],
        calibrate=False,
        carry=editing.AsIs(),
        mask=[editing.Mask(c.mask, null_rank=0), None],
        photo=[c.picture, c.picture],
    ),
    "Slider.distance_for": lambda c: call(c.slider.distance_for, value=0.5),
    "Slider.save": lambda c: call(c.slider.save, path=c.folder / "s.safetensors"),
    "Slider.load": lambda c: call(lj.Slider.load, path=c.saved_slider, model=c.model),
    "AsIs": lambda c: call(editing.AsIs),
    "Transported": lambda c: call(
        editing.Transported, layer="mid", k=2, tol=0.5, method="pseudoinverse", regularization=0.1
    ),
    "FromWords": lambda c: call(editing.FromWords, prompt="a", away="b", kind="difference"),
    "word_direction": lambda c: call(
        editing.word_direction, model=c.text, point=c.words, prompt="a", away="c", kind="difference"
    ),
    "word_direction/mask": lambda c: call(
        editing.word_direction,
        model=c.text,
        point=c.words,
        prompt="a",
        mask=editing.Mask(torch.eye(8, dtype=torch.bool), null_rank=0),
    ),
    "pair_direction": lambda c: call(
        editing.pair_direction,
        before=c.many,
        after=replace(c.many, sample=c.many.sample + rand(2, 3, 4, 4, seed=3)),
        kind="singular",
        mask=c.mask,
    ),
    "label_direction": lambda c: call(editing.label_direction, points=c.many, labels=[0.0, 1.0], ridge=0.5),
    "label_direction/tensor": lambda c: call(editing.label_direction, points=c.many, labels=torch.tensor([0.0, 1.0])),
}
