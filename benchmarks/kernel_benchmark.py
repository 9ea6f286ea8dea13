"""Shared by the benchmarks of kernels: their command line, the rounds over shapes, and the result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from record import alternate, table, write

from latentjac import kernels


def command_line(doc: str, quick: str) -> argparse.ArgumentParser:
    """The options that all have.

    Args:
        doc: of the benchmark; its first line is shown.
        quick: what ``--quick`` leaves.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help=f"three rounds of {quick}, no file")
    return parser


def begin(parser: argparse.ArgumentParser, references: bool = False) -> argparse.Namespace:
    """Parse, prepare torch, and refuse to time what is not there.

    Args:
        parser: of :func:`command_line`.
        references: on a processor the reference implementations will do.
    """
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if not kernels.available(options.device) and not (references and options.device == "cpu"):
        why = kernels.build_info().why_not or "no GPU or built without CUDA"
        raise SystemExit(f"no native kernels for {options.device}: {why}")
    return options


def measure(
    shapes: Iterable[tuple], cases: Callable[..., dict[str, Callable[[], object]]], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Median seconds of each case of each shape: ``cases`` of its sizes and the device."""
    rounds, seconds = 3 if options.quick else 41, 4.0 if options.device == "cuda" else 20.0
    return {name: alternate(cases(*sizes, options.device), rounds, seconds, options.device) for name, *sizes in shapes}


def report(name: str, rows: list[dict[str, Any]], options: argparse.Namespace, **more: Any) -> None:
    """Print the rows and, if not quick, write them with the instruction set and what else is worth knowing."""
    print(table(rows))
    if options.quick:
        return
    file = f"{name}_{options.threads}_threads" if options.device == "cpu" else f"{name}_cuda"
    isa = os.environ.get("LATENTJAC_ISA", kernels.build_info().instruction_set)
    print(write(file, rows, options.device, instruction_set=isa, **more))
