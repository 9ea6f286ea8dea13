"""Builds and runs the checks of the CPU kernels in this folder under sanitizers.

`python tests/native` runs all of them (docs/developers/native.md). Sources and flags of the kernels are those of
CMakeLists.txt, one instruction set at a time: `wide` is the code for AVX-512, vectors of 64 bytes and its tiles, on any
processor.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WIDE = ["-DLATENTJAC_VECTOR_BYTES=64"]


def compiler() -> str:
    """A C++ compiler; what needs one fails without it."""
    for name in [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]:
        if shutil.which(name):
            return name
    raise RuntimeError("no C++ compiler to build the checks of the native kernels with")


def in_cmake(pattern: str) -> list[str]:
    """The words of one command of CMakeLists.txt, which has to be there."""
    (found,) = re.findall(pattern, (ROOT / "CMakeLists.txt").read_text())
    return found.split()


def copies() -> dict[str, list[str]]:
    """Flags of each instruction set that this processor runs, and of `wide` where AVX-512 is not among them."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found: dict[str, list[str]] = {"baseline": []}
    for name, needed in (("avx2", "avx2"), ("avx512", "avx512vl")):
        if re.search(rf"\b{needed}\b", flags):
            found[name] = in_cmake(rf"set\(isa_flags_{name} (.*)\)")
    return found if "avx512" in found else {**found, "wide": WIDE}


def supports(sanitizers: str, folder: Path) -> bool:
    """Whether the compiler makes programs for these sanitizers, and whether they run here."""
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text("int main() { return 0; }\n")
    command = [compiler(), f"-fsanitize={sanitizers}", str(source), "-o", str(program)]
    return all(subprocess.run(step, capture_output=True).returncode == 0 for step in (command, [str(program)]))


class Build:
    """The checks compiled for sanitizers ("" for none) in a folder; objects that all copies share are made once."""

    def __init__(self, folder: Path, sanitizers: str, optimize: str = "-O0") -> None:
        self.folder, self.sanitizers = folder, sanitizers
        sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-DLATENTJAC_SANITIZE"]
        self.flags = ["-std=c++17", optimize, "-g1", "-fPIC", "-fopenmp", "-fno-omit-frame-pointer",
                      "-Wall", "-Wextra", "-Wno-psabi", "-DLATENTJAC_BASELINE_ALONE",
                      f"-I{ROOT / 'csrc'}", f"-I{HERE}", *(sanitize if sanitizers else [])]  # fmt: skip
        self.own_openmp = sanitizers == "thread" and "clang" not in compiler()

    def programs(self, names: list[str]) -> dict[str, Path]:
        """The checks, one program for each copy."""
        own = [path for path in sorted(HERE.glob("*.cpp")) if self.own_openmp or path.stem != "openmp_threads"]
        shared = [(source, []) for source in [ROOT / "csrc/cpu/dispatch.cpp", *own]]
        each = {name: self._kernels(name) for name in names}
        objects = self._compile([*(job for some in each.values() for job in some), *shared])
        return {
            name: self._link(self.program(name).name, [objects[repr(job)] for job in [*each[name], *shared]])
            for name in names
        }

    def program(self, name: str) -> Path:
        """Where the program for a copy is, once there is one."""
        return self.folder / f"checks-{name}"

    def extension(self, name: str, include: list[Path]) -> Path:
        """The Python module with one copy; `include` has pybind11."""
        (self.folder / "build_record.h").write_text(
            "".join(
                f'#define LATENTJAC_{word} ""\n'
                for word in ("SOURCE_HASH", "CXX_FLAGS", "CUDA_VERSION", "CUDA_ARCHITECTURES")
            )
        )
        found = [f"-I{path}" for path in (self.folder, sysconfig.get_path("include"), *include)]
        binding = [(path, found) for path in sorted((ROOT / "csrc").glob("*.cpp"))]
        jobs = [*self._kernels(name), (ROOT / "csrc/cpu/dispatch.cpp", []), *binding]
        return self._link("_native.so", [*self._compile(jobs).values()], "-shared")

    def _kernels(self, name: str) -> list[tuple[Path, list[str]]]:
        options = in_cmake(r"target_compile_options\(kernels_\$\{isa\} PRIVATE (.*)\)")
        flags = ["-DLATENTJAC_ISA=baseline", *(word for word in options if word[0] == "-"), *copies()[name]]
        return [(path, flags) for path in sorted((ROOT / "csrc/cpu").glob("*.cpp")) if path.stem != "dispatch"]

    def _compile(self, jobs: list[tuple[Path, list[str]]]) -> dict[str, str]:
        """Object files by job; the longest first, so that no core waits for it at the end."""
        jobs = sorted(jobs, key=lambda job: -job[0].stat().st_size)
        targets = [str(self.folder / f"{i}.o") for i in range(len(jobs))]

        def compile_one(number: int) -> None:
            source, extra = jobs[number]
            command = [compiler(), *self.flags, *extra, "-c", str(source), "-o", targets[number]]
            subprocess.run(command, check=True)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, range(len(jobs))))
        return dict(zip(map(repr, jobs), targets, strict=True))

    def _link(self, name: str, objects: list[str], *extra: str) -> Path:
        sanitize = [f"-fsanitize={self.sanitizers}"] if self.sanitizers else []
        openmp = "-pthread" if self.own_openmp else "-fopenmp"
        target = self.folder / name
        subprocess.run([compiler(), *sanitize, openmp, *extra, *objects, "-o", str(target)], check=True)
        return target


def fuzz(folder: Path, copy: str, seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """Random calls from Python, of a module under the address and undefined-behaviour sanitizers (fuzz.py)."""
    include = Path(importlib.util.find_spec("torch").origin).parent / "include"  # has pybind11
    module = Build(folder, "address,undefined", "-O1").extension(copy, [include])
    libraries = [
        subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    # Python and torch keep memory until the end.
    settings = {"LD_PRELOAD": ":".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2",
                "LATENTJAC_ISA": "baseline"}  # fmt: skip
    command = [sys.executable, str(HERE / "fuzz.py"), str(module), str(seconds), str(seed)]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run checks, with two threads where the kernels choose."""
    settings = {"LATENTJAC_ISA": "baseline", "OMP_NUM_THREADS": "2", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(
        [str(program), *arguments], env={**os.environ, **settings}, capture_output=True, text=True, timeout=3600
    )
