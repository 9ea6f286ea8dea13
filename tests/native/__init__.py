"""Builds and runs the checks of the CPU kernels in this folder under sanitizers.

`python tests/native` runs all of them (docs/native.md). Sources and flags of the kernels are those of CMakeLists.txt,
one instruction set at a time: `wide` is the code for AVX-512, vectors of 64 bytes and its tiles, on any processor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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
    """Flags of each instruction set that this processor runs, and of `wide`."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found: dict[str, list[str]] = {"baseline": []}
    for name, needed in (("avx2", "avx2"), ("avx512", "avx512vl")):
        if re.search(rf"\b{needed}\b", flags):
            found[name] = in_cmake(rf"set\(isa_flags_{name} (.*)\)")
    return {**found, "wide": WIDE}


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
        self.flags = ["-std=c++17", "-g1", "-fopenmp", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Wno-psabi",
                      "-DLATENTJAC_BASELINE_ALONE", f"-I{ROOT / 'csrc'}", f"-I{HERE}", optimize,
                      *(sanitize if sanitizers else [])]  # fmt: skip
        self.own_openmp = sanitizers == "thread" and "clang" not in compiler()

    def programs(self, names: list[str]) -> dict[str, Path]:
        """One program for each copy."""
        kernels = [ROOT / name for name in in_cmake(r"set\(kernel_sources([^)]*)\)")]
        options = [
            word for word in in_cmake(r"target_compile_options\(kernels_\$\{isa\} PRIVATE (.*)\)") if word[0] == "-"
        ]
        own = [path for path in sorted(HERE.glob("*.cpp")) if self.own_openmp or path.stem != "openmp_threads"]
        shared = [(source, []) for source in [ROOT / "csrc/cpu/dispatch.cpp", *own]]
        each = {
            name: [(source, ["-DLATENTJAC_ISA=baseline", *options, *copies()[name]]) for source in kernels]
            for name in names
        }
        # The longest first, so that no core waits for it at the end.
        jobs = [job for some in each.values() for job in some] + shared
        jobs.sort(key=lambda job: -job[0].stat().st_size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = dict(zip(map(repr, jobs), pool.map(lambda job: self._compile(*job), jobs), strict=True))
        return {
            name: self._link(f"checks-{name}", [objects[repr(job)] for job in [*each[name], *shared]]) for name in names
        }

    def _compile(self, source: Path, extra: list[str]) -> str:
        target = self.folder / f"{source.stem}-{abs(hash(tuple(extra))):x}.o"
        subprocess.run([compiler(), *self.flags, *extra, "-c", str(source), "-o", str(target)], check=True)
        return str(target)

    def _link(self, name: str, objects: list[str]) -> Path:
        sanitize = [f"-fsanitize={self.sanitizers}"] if self.sanitizers else []
        openmp = "-pthread" if self.own_openmp else "-fopenmp"
        program = self.folder / name
        subprocess.run([compiler(), *sanitize, openmp, *objects, "-o", str(program)], check=True)
        return program


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run checks, with two threads where the kernels choose."""
    settings = {"LATENTJAC_ISA": "baseline", "OMP_NUM_THREADS": "2", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(
        [str(program), *arguments], env={**os.environ, **settings}, capture_output=True, text=True, timeout=3600
    )
