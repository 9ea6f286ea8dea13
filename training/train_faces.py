"""Train the built-in face model and write it as a diffusers pipeline folder.

Stops and resumes at any time.

    python training/train_faces.py --data faces64.zip --work runs/faces --minutes 60
    python training/train_faces.py --data faces64.zip --work runs/faces --cool-down 400 --export DIR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from data import load_faces
from loop import image_parser, parse, train


def batches(faces: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Endless shuffled, randomly mirrored batches in [-1, 1]."""
    while True:
        order = torch.randperm(len(faces), device=faces.device)
        for i in range(0, len(order) - size + 1, size):
            x = faces[order[i : i + size]].float() / 127.5 - 1
            mirror = torch.rand(size, device=x.device) < 0.5
            yield torch.where(mirror.view(-1, 1, 1, 1), x.flip(-1), x)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the photos and train on them."""
    parser = image_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="zip of square JPEG faces")
    args = parse(parser, arguments)
    faces = load_faces(args.data, "train", args.size)
    if len(faces) < args.batch:
        parser.error(f"--batch: expected at most the {len(faces)} training images, got {args.batch}")
    train(args, batches(faces.to(args.device), args.batch))


if __name__ == "__main__":
    main()
