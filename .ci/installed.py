"""What an installed latentjac does, from outside of its sources: prints one line of JSON, or fails.

Run by ``.ci/packages`` and by cibuildwheel, in an environment without a compiler.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from importlib.resources import files

began = time.perf_counter()
import torch  # noqa: E402

with_torch = time.perf_counter()
import latentjac  # noqa: E402
from latentjac import kernels  # noqa: E402

latentjac.load  # noqa: B018  everything that a name brings in
imported = time.perf_counter()


def main() -> None:
    """Check the parts that a package can lack, and one result."""
    built = kernels.build_info()
    assert built.native, "the extension must be in the package"
    assert all(test.passed for test in kernels.self_test("cpu"))
    assert files("latentjac").joinpath("py.typed").is_file()
    assert kernels.cmake_dir().is_dir()
    model = latentjac.load("faces")
    point = latentjac.noise_point(model, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    first = latentjac.local_basis(model, point, k=2, tol=1e-2)
    between = time.perf_counter()
    again = latentjac.local_basis(model, point, k=2, tol=1e-2)
    end = time.perf_counter()
    assert torch.equal(first.v, again.v)
    assert first.status is latentjac.Status.CONVERGED
    line = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "latentjac": latentjac.__version__,
        "cuda kernels": built.cuda_built,
        "import seconds, torch": round(with_torch - began, 2),
        "import seconds, latentjac": round(imported - with_torch, 2),
        "first basis seconds": round(between - start, 2),
        "second basis seconds": round(end - between, 2),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
