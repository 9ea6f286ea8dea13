"""Train a model of drawn avatars and write it as a diffusers pipeline folder.

Every image is drawn anew, so nothing is ever seen twice. Stops and resumes at any time.

    python training/train_avatars.py --work runs/avatars --minutes 60
    python training/train_avatars.py --work runs/avatars --cool-down 500 --export DIR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from avatars import draw, sample_factors
from loop import image_parser, parse, train


def batches(batch: int, size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Endless avatars in [-1, 1], drawn on the device from torch's own generator."""
    while True:
        factors = sample_factors(torch.default_generator, batch)
        # Quantised like every picture that a user brings along.
        pictures = draw({name: values.to(device) for name, values in factors.items()}, size)
        yield (pictures * 255).round() / 127.5 - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw avatars and train on them."""
    args = parse(image_parser(__doc__), arguments)
    train(args, batches(args.batch, args.size, torch.device(args.device)))


if __name__ == "__main__":
    main()
