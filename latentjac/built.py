"""Where the built parts of an installation are; without torch, for which the build of a program in C++ need not wait.

Run from the root of a checkout, ``import latentjac`` finds the source folder, which may lack them. Then those of an
installed latentjac distribution are taken.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

_HERE = Path(__file__).parent
_ENDINGS = (".so", ".pyd")


def is_module(path: Path) -> bool:
    """Whether a file is the native module."""
    return path.name.startswith("_native.") and path.suffix in _ENDINGS and path.is_file()


def installed_module() -> Path | None:
    """The native module of an installed latentjac, when the package itself came from a source folder."""
    for distribution in importlib.metadata.distributions(name="latentjac"):
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if is_module(path):
                return path
    return None


def cmake_dir() -> Path:
    """Folder of the CMake package of the kernels, for programs in C++ and C: ``-Dlatentjac_DIR=$(...)``.

    Returns:
        The folder with ``latentjacConfig.cmake``; ``python -m latentjac --cmake-dir`` prints it.

    Raises:
        FileNotFoundError: this latentjac was installed without native code.
    """
    module = next(filter(is_module, sorted(_HERE.glob("_native.*"))), None) or installed_module()
    folder = (_HERE if module is None else module.parent) / "cpp" / "lib" / "cmake" / "latentjac"
    if not (folder / "latentjacConfig.cmake").is_file():
        raise FileNotFoundError(
            f"cmake_dir: the C++ package must have been built with latentjac, got no latentjacConfig.cmake in "
            f"{str(folder)!r}: install latentjac with a C++17 compiler and without LATENTJAC_NATIVE=off"
        )
    return folder
