"""Builds the native module and the C++ package with CMake and ninja. Everything else stands in pyproject.toml.

Environment variables read at build time:
    LATENTJAC_NATIVE: on (default) or off. off installs pure PyTorch, without a compiler.
    LATENTJAC_CUDA: auto (default: on when nvcc is found), on or off. A GPU is never looked for.
    LATENTJAC_BUILD_DIR: a folder to keep object files in, so that the next build is short. Without it
        every build starts in a fresh temporary folder, which a stale CMake cache cannot break.
    CUDAARCHS: architectures of the CUDA kernels, as CMake has them ("90-real"); those in CMakeLists.txt by default.
    LATENTJAC_PTXAS_VERBOSE: 1 prints registers and spills of every CUDA kernel.
    CXX, CUDACXX: the compilers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
PURE_HINT = "or install pure PyTorch with: LATENTJAC_NATIVE=off pip install ."


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, default).lower()
    if value not in allowed:
        raise SetupError(f"latentjac: {name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def source_hash() -> str:
    """The same hash is taken by latentjac.kernels.native, to notice a module built from older sources."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "csrc").rglob("*")):
        if path.suffix in {".h", ".cpp", ".cu", ".cuh"}:
            digest.update(path.relative_to(ROOT).as_posix().encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def find_compiler() -> str:
    """Path of a compiler that really compiles C++17, or one sentence saying what to do."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        found = shutil.which(name)
        if found and compiles_cxx17(found):
            return found
    raise SetupError(
        f"latentjac: no working C++17 compiler found (tried {', '.join(names)}): install one "
        f"(for example: apt-get install g++) and run again, {PURE_HINT}"
    )


def compiles_cxx17(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text("#include <string_view>\nint main() { if constexpr (true) return 0; }\n")
        command = [compiler, "-std=c++17", str(source), "-o", str(Path(folder) / "probe")]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def find_nvcc() -> str | None:
    """Path of nvcc if CUDA is wanted and found. Never asks whether a GPU is present."""
    wish = choice("LATENTJAC_CUDA", "auto", ("auto", "on", "off"))
    if wish == "off":
        return None
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [*(f"{home}/bin/nvcc" for home in homes), "nvcc", "/usr/local/cuda/bin/nvcc"]
    if os.environ.get("CUDACXX"):
        candidates = [os.environ["CUDACXX"]]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    if wish == "on":
        raise SetupError(
            "latentjac: LATENTJAC_CUDA=on, but nvcc was not found: install the CUDA toolkit and put nvcc on PATH "
            "(or set CUDACXX or CUDA_HOME), or build without CUDA with LATENTJAC_CUDA=off"
        )
    return None


def cuda_arguments(nvcc: str, compiler: str) -> list[str]:
    """What CMake is told where there are CUDA kernels."""
    arguments = [f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DCMAKE_CUDA_HOST_COMPILER={compiler}"]
    if os.environ.get("CUDAARCHS"):
        arguments.append(f"-DCMAKE_CUDA_ARCHITECTURES={os.environ['CUDAARCHS']}")
    return arguments


def find_tool(name: str) -> str:
    """Path of cmake or ninja: the one beside this Python first, so that an isolated build uses its own."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if not found:
        raise SetupError(f"latentjac: {name} was not found: run pip install {name} and build again, {PURE_HINT}")
    return found


class CMakeBuild(build_ext):
    """Builds latentjac._native out of CMakeLists.txt."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        compiler, nvcc = find_compiler(), find_nvcc()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        arguments = [
            "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}",
            f"-DCMAKE_CXX_COMPILER={compiler}",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLATENTJAC_SOURCE_HASH={source_hash()}",
            f"-DLATENTJAC_CUDA={'ON' if nvcc else 'OFF'}",
            f"-DLATENTJAC_PTXAS_VERBOSE={os.environ.get('LATENTJAC_PTXAS_VERBOSE', 'OFF')}",
        ]  # fmt: skip
        if nvcc:
            arguments += cuda_arguments(nvcc, compiler)
        with tempfile.TemporaryDirectory(prefix="latentjac-build-") as fresh:
            folder = self.kept_folder(arguments) or Path(fresh)
            cmake = find_tool("cmake")
            self.run_step([cmake, "-S", str(ROOT), "-B", str(folder), *arguments])
            self.run_step([cmake, "--build", str(folder), "--parallel", str(self.jobs(nvcc))])
            self.run_step([cmake, "--install", str(folder), "--prefix", str(folder / "install")])
            (built,) = (folder / "install").glob("_native*")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.put_package(folder / "install", target.parent)
            # A loaded module may be mapped from the old file: replace it, do not write into it.
            target.unlink(missing_ok=True)
            shutil.copy2(built, target)

    def copy_extensions_to_source(self) -> None:
        """Of an install for development, the C++ package too."""
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            self.put_package(built.parent, Path(self.get_finalized_command("build_py").get_package_dir("latentjac")))

    @staticmethod
    def put_package(built: Path, where: Path) -> None:
        shutil.rmtree(where / "cpp", ignore_errors=True)
        shutil.copytree(built / "cpp", where / "cpp")

    @staticmethod
    def kept_folder(arguments: list[str]) -> Path | None:
        """A folder of LATENTJAC_BUILD_DIR keyed by everything a CMake cache remembers, or None."""
        kept = os.environ.get("LATENTJAC_BUILD_DIR")
        if not kept:
            return None
        remembered = [value for value in arguments if "SOURCE_HASH" not in value]
        key = hashlib.sha256("\n".join([str(ROOT), sys.version, *remembered]).encode()).hexdigest()[:12]
        folder = Path(kept).resolve() / key
        shutil.rmtree(folder / "install", ignore_errors=True)
        return folder

    @staticmethod
    def jobs(nvcc: str | None) -> int:
        """One job of nvcc takes about 1 GB a job, so no more jobs than cores and never more than 8."""
        return int(os.environ.get("MAX_JOBS") or min(os.cpu_count() or 1, 8))

    @staticmethod
    def run_step(command: list[str]) -> None:
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SetupError(
                f"latentjac: building the native module failed in `{' '.join(command[:2])}` "
                "(its messages stand above): correct the compiler's complaint, "
                f"switch CUDA off with LATENTJAC_CUDA=off, {PURE_HINT}"
            ) from error


class FreshBuild(build):
    """Checks the tools before anything else, and starts from an empty build folder.

    setuptools copies whatever lies in build/lib into the wheel, also files that no longer exist in the sources.
    """

    def run(self) -> None:
        if self.distribution.ext_modules:
            find_compiler()
            find_nvcc()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


try:
    native = choice("LATENTJAC_NATIVE", "on", ("on", "off")) == "on"
except SetupError as error:
    raise SystemExit(f"error: {error}") from None
setup(
    ext_modules=[Extension("latentjac._native", sources=[])] if native else [],
    cmdclass={"build": FreshBuild, "build_ext": CMakeBuild},
)
