"""Evaluations recorded and replayed, beside the same launched one by one, on a GPU.

    python benchmarks/bench_forwards.py
    python benchmarks/bench_forwards.py --device cpu --quick      # nothing is recorded there: does it run?

The built-in model, and the U-Net of Stable Diffusion 1.5 with random weights. One to sixteen samples at once, as
ways up and down and walks ask for them.
"""

from __future__ import annotations

import argparse
from typing import Any

import record
import torch
from topologies import TOPOLOGIES, random_network

import latentjac
from latentjac.diffusion import predict
from latentjac.models.forwards import Forwards

COUNTS = (1, 4, 16)


def stable_diffusion(quick: bool) -> tuple[latentjac.Model, latentjac.Conditioning]:
    """A U-Net of random weights, and texts for it."""
    from diffusers import DDIMScheduler

    topology = TOPOLOGIES["sd15"]
    settings = topology.settings("narrow" if quick else "full")
    network = random_network(topology.network, settings, torch.float32)
    text = torch.randn(1, 77, settings["cross_attention_dim"])
    return latentjac.Model(network, DDIMScheduler()), latentjac.Conditioning({"text": text})


def measured(
    name: str, model: latentjac.Model, under: latentjac.Conditioning, count: int, rounds: int, device: str
) -> dict[str, Any]:
    """A row: seconds of an evaluation, launched and replayed."""
    x = torch.randn(count, *model.sample_shape, device=device, dtype=model.dtype)
    replayed, launched = Forwards(), Forwards()
    launched._refused = True

    def evaluate(forwards: Forwards) -> None:
        model._forwards = forwards
        predict(model, x, 500, under)

    for _ in range(4):
        evaluate(replayed)
    cases = {"launched": lambda: evaluate(launched), "replayed": lambda: evaluate(replayed)}
    found = record.alternate(cases, rounds, 20.0, device)
    return {
        "network": name,
        "samples": count,
        "recorded": replayed.num_recorded,
        "launched, ms": 1e3 * found["launched"],
        "replayed, ms": 1e3 * found["replayed"],
        "times faster": found["launched"] / found["replayed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, few rounds, no file")
    args = parser.parse_args()

    models = {
        "faces": (latentjac.load("faces"), latentjac.Conditioning()),
        "Stable Diffusion 1.5": stable_diffusion(args.quick),
    }
    rows = []
    for name, (model, under) in models.items():
        model.to(args.device)
        rounds, counts = (3, COUNTS[:1]) if args.quick else (20, COUNTS)
        rows += [measured(name, model, under.to(args.device), count, rounds, args.device) for count in counts]
        print(record.table(rows), flush=True)
    if not args.quick:
        record.write(f"forwards_{args.device}", rows, device=args.device)


if __name__ == "__main__":
    main()
