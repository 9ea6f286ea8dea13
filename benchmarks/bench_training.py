"""A training step of a MeanFlow loss, whose target holds the derivative of the network along its flow.

    python benchmarks/bench_training.py                # some minutes on two quiet cores
    python benchmarks/bench_training.py --quick        # one round, no file

u(z, t, r) is the transformer of DiT-XL/2 with all its blocks, narrow, and one step is forward and backward of
``|u - (v - (t - r) du)|^2``, where du is the derivative of u along (v, 1, 0) and has no gradient. Times are of the
processor, in alternation; memory is the most that a process of its own took beyond what it had before its first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from record import peak_bytes, table, times, write
from topologies import traced

import latentjac
from latentjac.linearization.autodiff import differentiable

Tensor = torch.Tensor
MIB = 2**20


class Training:
    """The network, a batch, and the ways to a step.

    Args:
        batch: Samples.
        size: Height and width of one.
    """

    def __init__(self, batch: int, size: int) -> None:
        p = traced("dit", "narrow", "whole", size=size)
        self.network = p.network.requires_grad_(True)
        labels = torch.zeros(batch, dtype=torch.int64)
        channels = p.x.shape[1]  # of the network's results the rest are variances
        self.u = lambda z, t, r: p.f(z, 1000 * (t - r)[:, 0], labels)[:, :channels]
        generator = torch.Generator().manual_seed(2)
        self.z, self.v = torch.randn(2, batch, *p.x.shape[1:], generator=generator)
        self.r, self.t = torch.rand(batch, 2, generator=generator).sort(dim=1).values.split(1, dim=1)
        self.point = self.z, self.t, self.r
        self.along = self.v, torch.ones_like(self.t), torch.zeros_like(self.r)
        self.moving: Any = None

    def finish(self, u: Tensor, du: Tensor | None) -> None:
        """Gradients of the loss; without a derivative, of that of a plain flow."""
        target = self.v if du is None else self.v - (self.t - self.r)[:, :, None, None] * du.detach()
        self.network.zero_grad()
        (u - target).square().mean().backward()

    def plain(self) -> None:
        """Without the derivative: what a step costs beside it."""
        self.finish(self.u(*self.point), None)

    def one_call(self) -> None:
        """Value and derivative by one torch.func.jvp, through which the gradient goes."""
        with differentiable():
            self.finish(*torch.func.jvp(self.u, self.point, self.along))

    def apart(self) -> None:
        """The derivative by torch.func.jvp without gradients, the value by a plain call."""
        with differentiable(), torch.no_grad():
            du = torch.func.jvp(self.u, self.point, self.along)[1]
        self.finish(self.u(*self.point), du)

    def ours(self) -> None:
        """The derivative by a linearization that moves along."""
        if self.moving is None:
            self.moving = latentjac.linearize(self.u, self.point)
        else:
            self.moving.rebase(self.point)
        du = self.moving.jvp(tuple(part[None] for part in self.along))[0]
        self.finish(self.u(*self.point), du)


WAYS: dict[str, Callable[[Training], None]] = {
    "without the derivative": Training.plain,
    "torch.func.jvp, value and derivative": Training.one_call,
    "torch.func.jvp beside a plain call": Training.apart,
    "latentjac beside a plain call": Training.ours,
}


def memory(way: str, options: argparse.Namespace) -> float:
    """MiB of three steps, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--batch", str(options.batch), "--size", str(options.size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def gradients(training: Training, way: str) -> Tensor:
    """Of all weights, after a step."""
    WAYS[way](training)
    return torch.cat([weight.grad.flatten() for weight in training.network.parameters() if weight.grad is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0, help="most time of the rounds, beyond three")
    parser.add_argument("--way", choices=list(WAYS), help="print the memory of this one alone")
    parser.add_argument("--quick", action="store_true", help="one round, no file")
    options = parser.parse_args()
    training = Training(options.batch, options.size)
    if options.way:
        before = peak_bytes()
        for _ in range(3):
            WAYS[options.way](training)
        print(json.dumps((peak_bytes() - before) / MIB))
        return

    plain, reference, *_ = WAYS
    expected = gradients(training, reference)
    errors = {way: float((gradients(training, way) - expected).norm() / expected.norm()) for way in WAYS}
    rounds = 1 if options.quick else options.rounds
    calls = {way: (lambda step=step: step(training)) for way, step in WAYS.items()}
    found = times(calls, rounds, options.seconds, clock=time.process_time)
    seconds = {way: statistics.median(values) for way, values in found.items()}
    rows = [
        {
            "a step": way,
            "processor_s": seconds[way],
            "beside the first": seconds[way] / seconds[plain],
            "MiB": round(memory(way, options)),
            "gradients differ by": "" if way == plain else errors[way],
        }
        for way in WAYS
    ]
    print(table(rows))
    if not options.quick:
        print(write("training", rows, batch=options.batch, size=options.size, rounds=rounds))


if __name__ == "__main__":
    main()
