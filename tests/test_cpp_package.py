"""Programs in C++ and C outside of Python, built against the installed package of the kernels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentjac import kernels

EXAMPLES = Path(__file__).parents[1] / "examples" / "cpp"

pytestmark = pytest.mark.skipif(not kernels.build_info().native, reason="no native module here")


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cmake() -> str:
    found = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    assert found, "the extra 'test' has cmake"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    without_torch = "import sys, runpy; sys.modules['torch'] = None; runpy.run_module('latentjac', run_name='__main__')"
    package = run(sys.executable, "-c", without_torch, "--cmake-dir").strip()
    assert package == str(kernels.cmake_dir())
    run(cmake(), "-S", EXAMPLES, "-B", folder, f"-Dlatentjac_DIR={package}")
    run(cmake(), "--build", folder)
    return folder


def test_programs_in_cpp_and_in_c(built: Path) -> None:
    assert f"attention on {kernels.build_info().instruction_set}" in run(built / "attention")
    out = run(built / "norm")
    assert "<u, J t>" in out
    assert "refused: latentjac_norm_linear: groups must divide the channels, 12, got 5" in out


@pytest.mark.parametrize(
    ("language", "asked", "message"),
    [
        ("CXX", "find_package(latentjac 5.0 REQUIRED)", "compatible with requested version"),
        ("C", "set(latentjac_STATIC ON)\nfind_package(latentjac REQUIRED)", "static library needs CXX"),
    ],
)
def test_what_cannot_be_linked_is_not_found(tmp_path: Path, language: str, asked: str, message: str) -> None:
    program = f"cmake_minimum_required(VERSION 3.20)\nproject(other LANGUAGES {language})\n{asked}\n"
    (tmp_path / "CMakeLists.txt").write_text(program)
    done = subprocess.run(
        [cmake(), "-S", tmp_path, "-B", tmp_path / "build", f"-Dlatentjac_DIR={kernels.cmake_dir()}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())


def test_the_python_module_exports_nothing_of_the_library() -> None:
    """Or a program that embeds Python and links the library would have its symbols taken for those of the module."""
    symbols = run("nm", "-D", "--defined-only", "-C", kernels.build_info().path)
    assert "PyInit__native" in symbols
    assert "latentjac::cpu" not in symbols
    assert "latentjac_norm_primal" not in symbols
