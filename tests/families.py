"""A small pipeline of every family, one row each: how it is built, what it is given, and how diffusers is called.

Rows stand in ``family_rows``, by kind of network. A new family of ``latentjac.models.adapters`` is a row there;
``family_checks.py`` does the rest, and ``benchmarks/check_families.py`` writes what it finds into docs/families.md.
"""

from __future__ import annotations

import json

from family_rows import controlled, moving, packed, pictured_transformers, pictured_unets, transformers, unets
from small_pipeline import Small

from latentjac.models import adapters
from latentjac.models.adapters import FAMILIES, name_of

# How a page writes what `Model.conditioning` is given here.
SHOWN = {
    "image": '"photo.jpg"',
    "control": '"photo.jpg"',
    "mask": '"mouth.png"',
    "image_prompt": '"photo.jpg"',
    "image_embedding": "own",
    "negative_image_embedding": "away",
}
SMALL: dict[str, Small] = {
    **unets.ROWS,
    **pictured_unets.ROWS,
    **controlled.ROWS,
    **transformers.ROWS,
    **packed.ROWS,
    **pictured_transformers.ROWS,
    **moving.ROWS,
}


def uncovered() -> set[str]:
    """Names of families without a row."""
    return {name_of(family) for family in FAMILIES} - {row.family for row in SMALL.values()}


def example(name: str, *, folder: bool) -> str:
    """Lines for docs/families.md: from a hub id or, where folders are not read, from a pipeline, to an edit.

    Args:
        name: Of a row.
        folder: Whether a folder of such a pipeline is read.
    """
    row = SMALL[name]
    source = f'"owner/{name}"' if folder else f'diffusers.DiffusionPipeline.from_pretrained("owner/{name}")'
    given = {key: SHOWN.get(key, repr(value)) for key, value in row.given.items()}
    if row.prompt is not None:
        given = {"prompt": json.dumps(row.prompt), **given}
    if row.scale != 1:
        given["guidance_scale"] = repr(row.scale)
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    under = f"conditioning=model.conditioning({arguments})" if given else ""
    is_sound = getattr(adapters, row.family).media == "sound"
    return "\n".join(
        [
            *([row.opened] if row.opened else []),
            f"model = latentjac.load({'pipeline' if row.opened else source})",
            f"point = latentjac.noise_point(model{', ' if under else ''}{under})",
            "basis = latentjac.local_basis(model, point, k=2, tol=0.1)",
            "edit = latentjac.edit(model, point, basis.v[0], distance=(-2, 2))",
            'waves = latentjac.diffusion.render(model, edit.samples[0], "np")'
            if is_sound
            else 'edit.images[0].save("left.png")',
        ]
    )
