"""Draw a photo's edits along the singular vectors of x0, and along the sparse directions of the same span.

A row a direction; from the left: the singular vector both ways, the reconstruction, the sparse direction both ways.

    python training/draw_sparse.py --photo latentjac/assets/face.jpg --out docs/images/sparse-faces.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from measures import sheet

import latentjac
from latentjac.report import write_png

MAGNIFIED, GAP = 2, 6


def rows_of(model: latentjac.Model, photo: Path, k: int, t: float, distance: float) -> torch.Tensor:
    """Pictures ``[k, 5, 3, H, W]`` in [0, 1]."""
    point = latentjac.invert(model, photo, t=t).at(t)
    basis = latentjac.local_basis(model, point, k, "x0", tol=1e-4)
    sparse = latentjac.geometry.sparse_directions(basis)
    ends = [-distance, distance]
    method = latentjac.editing.Linear()
    edits = [latentjac.edit(model, point, v, ends, method=method) for v in (basis.v, sparse.v)]
    left, right = (model.codec.decode(edit.samples.flatten(0, 1)).unflatten(0, (k, 2)) for edit in edits)
    middle = latentjac.sample(model, point, output_type="pt").expand(k, 1, -1, -1, -1)
    return torch.cat([left, middle, right], dim=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Edit and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--model", default="faces")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--t", type=float, default=0.6)
    parser.add_argument("--distance", type=float, default=4.0, help="in noise standard deviations (default 4)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    pictures = rows_of(latentjac.load(args.model), args.photo, args.k, args.t, args.distance)
    pictures = torch.nn.functional.pad(pictures, (GAP // 2,) * 4, value=1.0)
    colours = (pictures.clamp(0, 1) * 255).round().byte().flatten(0, 1).movedim(1, -1).numpy()
    drawn = sheet(colours, 5)
    write_png(args.out, drawn.resize((drawn.width * MAGNIFIED, drawn.height * MAGNIFIED)))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
