"""What an installed latentjac does without torch: the kernels compute, and the C++ package is there.

Run by ``.ci/packages`` for interpreters that torch has no build of, in an environment with nothing but latentjac.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from array import array
from importlib.resources import files
from pathlib import Path

import latentjac
from latentjac import _native
from latentjac.built import cmake_dir


def check_a_kernel() -> None:
    """One product of the Jacobian of a gated activation, in arrays of Python: out = a * value + b * gate."""
    probes, rows, channels = 3, 5, 7
    count = rows * channels
    value, gate = (array("d", [shift + i / 8 for i in range(probes * count)]) for shift in (0.5, -2.0))
    a, b = (array("d", [shift - i / 4 for i in range(count)]) for shift in (1.0, 3.0))
    out = array("d", bytes(8 * probes * count))
    held = {"value": value, "gate": gate, "a": a, "b": b, "out": out}
    call = {name: numbers.buffer_info()[0] for name, numbers in held.items()}
    shapes = {"value_stride": channels, "gate_stride": channels, "probes": probes, "rows": rows, "channels": channels}
    _native.gated_tangent(2, {**call, **shapes, "dtype": 1})  # float64, two threads
    for i, found in enumerate(out):
        expected = a[i % count] * value[i] + b[i % count] * gate[i]
        assert abs(found - expected) <= 1e-12 * max(1.0, abs(expected)), (i, found, expected)


def main() -> None:
    """Check the native module and the library of kernels beside it."""
    assert importlib.util.find_spec("torch") is None, "this is for environments without torch"
    assert not latentjac.__file__.startswith(str(Path(__file__).parents[1])), "this is for what is installed"
    assert files("latentjac").joinpath("py.typed").is_file()
    assert _native.interface == 6
    check_a_kernel()
    printed = subprocess.run([sys.executable, "-m", "latentjac", "--cmake-dir"], capture_output=True, text=True)
    assert Path(printed.stdout.strip()) == cmake_dir(), printed.stderr
    sys.stdout.write(f"python {sys.version.split()[0]}: kernels for {_native.build_info()['isa_compiled']}\n")


if __name__ == "__main__":
    main()
