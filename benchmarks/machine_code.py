"""What the compiler makes of the CUDA kernels: registers, spills, shared memory, and which instructions. Needs no GPU.

    python benchmarks/machine_code.py                          # all kernels, two minutes; writes machine_code.json
    python benchmarks/machine_code.py gated norm_linear        # these sources alone, printed, nothing written
    python benchmarks/machine_code.py gram --keep listings     # the listings too: listings/gram.sm_90a.sass

Sources, architectures and flags are those of CMakeLists.txt. Registers come from ptxas, instructions from nvdisasm: it
comes with a toolkit, or alone in the package nvidia-cuda-nvdisasm (nvidia/cu*/bin); without it they are left out. Run
this after every change of a kernel: does a load become narrow, does something spill?
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from record import save, table
from sass import counts, kernels

ROOT = Path(__file__).resolve().parent.parent
TYPES = {"float": "float32", "double": "float64", "__half": "float16", "__nv_bfloat16": "bfloat16", "Tf32": "tf32"}
TRUTH = {"true": True, "false": False}
# The template arguments of each kernel, by what its name begins with; "" is not shown.
PARAMETERS = {
    "gated": ("type", "", "values a load"),
    "norm_linear": ("type", "", "values a load", "probes"),
    "norm": ("type", "", "values a load"),
    "gram_ranges": ("type", "packed", "columns / 8"),
    "combine_rows": ("type", "result", "packed"),
    "attention": ("type", "channels", "whole", "M", "G"),
}
Row = dict[str, Any]


# ---- The compiler ----


def built() -> tuple[list[Path], list[str]]:
    """Sources, all of the folder of CUDA, and architectures with machine code, as CMakeLists.txt has them."""
    text = (ROOT / "CMakeLists.txt").read_text()
    (pattern,) = re.findall(r"csrc/cuda/\*\.cu", text)
    return sorted(ROOT.glob(pattern)), [f"sm_{name}" for name in re.findall(r"(\d+\w?)-real", text)]


def compile_source(nvcc: str, source: Path, architecture: str, cubin: Path) -> str:
    """Compile one source as CMake does for a release; what ptxas says."""
    flags = ["-std=c++17", "-O3", "-DNDEBUG", f"-I{ROOT / 'csrc'}", "-Xptxas=-v"]
    return run([nvcc, *flags, "-cubin", f"-arch={architecture}", "-o", str(cubin), str(source)]).stderr


def run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """The output of a command that has to succeed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done


def version(tool: str) -> str:
    """Name and version of one of CUDA's tools."""
    found = re.search(r"V(\d[\d.]*)", run([tool, "--version"]).stdout)
    return f"{Path(tool).name} {found[1] if found else '(unknown)'}"


def tile_bytes(source: Path, names: list[str], folder: Path) -> dict[str, int]:
    """Shared memory of the kernels whose tiles have a size of their own, by name.

    It is dynamic, so nvcc does not say it. A host compiler makes an array of each size, against the headers that let
    the tests run kernels on the CPU.
    """
    memories = dict(re.findall(r"__global__[^{;]*?(\w+)\([^)]*\) \{[^}]*?using Tiles = (\w+)<C>;", source.read_text()))
    arrays, tiled = [], []
    for name in names:
        match = re.match(r"(?:void )?(\w+)<(Config<.*>) ?>\(", name)
        if match and match[1] in memories:
            arrays.append(f"char bytes_{len(arrays)}[{memories[match[1]]}<{match[2]}>::kBytes];")
            tiled.append(name)
    if not arrays:
        return {}
    probe = folder / f"{source.stem}.probe.cpp"
    probe.write_text("\n".join([f'#include "{source}"', "using namespace latentjac::cuda;", *arrays, ""]))
    include = [f"-I{ROOT / 'tests' / 'cuda_on_cpu'}", f"-I{ROOT / 'csrc'}"]
    compiler, built_probe = os.environ.get("CXX") or "c++", str(probe.with_suffix(".o"))
    run([compiler, "-std=c++17", "-w", "-c", *include, str(probe), "-o", built_probe])
    symbols = re.findall(r"(\w+) \w bytes_(\d+)$", run(["nm", "-S", built_probe]).stdout, re.MULTILINE)
    return {tiled[int(number)]: int(size, 16) for size, number in symbols}


# ---- What it says ----


def resources(text: str) -> dict[str, dict[str, int]]:
    """What ``ptxas -v`` says of each kernel, by mangled name: bytes, and registers of a thread."""
    found: dict[str, dict[str, int]] = {}
    kernel: dict[str, int] = {}
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            kernel = found.setdefault(match[1], {})
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernel |= dict(zip(("stack", "spill stores", "spill loads"), map(int, match.groups()), strict=True))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernel |= {"registers": int(match[1]), "static shared": int(shared[1]) if shared else 0}
    return found


def demangled(names: Iterable[str]) -> list[str]:
    """Names as C++ writes them, without the namespaces that all share."""
    text = run(["c++filt"], "\n".join(names)).stdout
    return re.sub(r"latentjac::|cuda::|\(anonymous namespace\)::", "", text).splitlines()


def form(name: str) -> Row:
    """A kernel's name as words: the kernel, its type, and what else its template arguments say."""
    found = re.match(r"(?:void )?(\w+?)(?:_kernel|_tiles)?(?:<(.*)>)?\(", name)
    if found is None:
        raise ValueError(f"not a kernel's name: {name}")
    kernel, inner = found[1], (found[2] or "").strip().removeprefix("Config<").removesuffix(">")
    if not inner:
        return {"kernel": kernel}
    arguments = [TRUTH.get(a, TYPES.get(a, int(a) if a.isdecimal() else a)) for a in inner.split(", ")]
    names = next((names for start, names in PARAMETERS.items() if kernel.startswith(start)), ())
    if len(names) != len(arguments):  # a kernel that PARAMETERS does not know
        return {"kernel": kernel, "type": arguments[0], "arguments": inner}
    return {"kernel": kernel, **{key: value for key, value in zip(names, arguments, strict=True) if key}}


def inspect(source: Path, architecture: str, nvcc: str, nvdisasm: str | None, folder: Path) -> list[Row]:
    """The kernels of one source on one architecture."""
    cubin = folder / f"{source.stem}.{architecture}.cubin"
    said = resources(compile_source(nvcc, source, architecture, cubin))
    found = {}
    if nvdisasm:
        listing = run([nvdisasm, "-c", str(cubin)]).stdout
        cubin.with_suffix(".sass").write_text(listing)
        found = {name: counts(code) for name, code in kernels(listing).items()}
    names = demangled(said)
    tiles = tile_bytes(source, names, folder)
    return [
        {
            "source": source.name,
            **form(name),
            **({"shared memory": tiles[name]} if name in tiles else {}),
            architecture: said[mangled] | found.get(mangled, {}),
        }
        for mangled, name in zip(said, names, strict=True)
    ]


def joined(rows: list[Row]) -> list[Row]:
    """One row for each kernel, with all its architectures, sorted by name."""
    found: dict[str, Row] = {}
    for row in rows:
        own = {key: value for key, value in row.items() if not key.startswith("sm_")}
        found.setdefault(json.dumps(own), own).update(row)
    return [found[key] for key in sorted(found)]


# ---- Tables ----


def spilled(code: Row) -> int:
    return code["spill stores"] + code["spill loads"]


def architectures_of(row: Row) -> list[str]:
    return [name for name in row if name.startswith("sm_")]


def both(row: Row, value: Callable[[Row], Any]) -> str:
    """A value on each architecture; once where they agree."""
    values = [str(value(row[name])) for name in architectures_of(row)]
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def count(code: Row, start: str, where: str = "everywhere") -> int:
    """How many instructions there are whose kind begins so."""
    return sum(n for name, n in code[where].items() if name.startswith(start))


def widths(code: Row, *heads: str) -> str:
    """Loads or stores as they stand in the code, widest first: "16 B: 5, 4 B: 1"."""
    found: Counter[int] = Counter()
    for name, n in code["everywhere"].items():
        head, _, bits = name.partition(".")
        if head in heads:
            found[int(bits) // 8] += n
    return ", ".join(f"{width} B: {found[width]}" for width in sorted(found, reverse=True)) or "none"


def variant(row: Row) -> str:
    """What tells forms of a kernel apart beside their type."""
    if "columns / 8" in row:
        return f"32 x {8 * row['columns / 8']}"
    if "result" in row:
        return f"into {row['result']}"
    if "whole" in row:
        return f"{row['channels'] if row['whole'] else 'any'} channels"
    return f"{row['values a load']} a load" if "values a load" in row else ""


def general(row: Row, **more: Any) -> Row:
    """The columns that all tables have."""
    return {
        "kernel": row["kernel"],
        "type": row.get("type", "float64"),
        **more,
        "registers": both(row, lambda code: code["registers"]),
        "spilled bytes": both(row, spilled),
    }


def memory(row: Row) -> Row:
    """How wide a kernel loads and stores, which is what limits its speed."""
    code = row[architectures_of(row)[-1]]
    if "everywhere" not in code:
        return {}
    return {"global loads": widths(code, "LDG", "LD"), "global stores": widths(code, "STG", "ST")}


def products(row: Row) -> Row:
    """What a kernel of tiles does between two barriers."""
    code = row[architectures_of(row)[-1]]
    if "everywhere" not in code:
        return {}
    return {
        "products": count(code, "HMMA"),
        "copies of 16 B": count(code, "LDGSTS.128"),
        "matrix loads": count(code, "LDSM"),
        "other shared loads": count(code, "LDS."),
        "barriers": count(code, "BAR"),
    }


def spills(row: Row) -> Row:
    """What a kernel keeps in memory for want of registers, and how often it goes there in loops."""
    shown = general(row, form=variant(row))
    if all("everywhere" in row[name] for name in architectures_of(row)):
        shown["in loops"] = both(row, lambda code: count(code, "LDL", "in loops") + count(code, "STL", "in loops"))
    return shown


def merged(rows: list[Row]) -> list[Row]:
    """Rows that differ in their type alone, as one."""
    found: dict[str, Row] = {}
    for row in rows:
        same = found.setdefault(json.dumps(row | {"type": ""}), row | {"type": ""})
        same["type"] += (", " if same["type"] else "") + row["type"]
    return list(found.values())


def tables(rows: list[Row]) -> dict[str, list[Row]]:
    """The tables of docs/developers/gpu-status.md; without forms that load one value at a time and do not spill."""
    wide = [row for row in rows if row.get("values a load", 4) > 1 and row.get("packed", True)]

    def named(*starts: str) -> list[Row]:
        return [row for row in wide if row["kernel"].startswith(starts)]

    parts = {
        "elementwise": [general(row) | memory(row) for row in named("gated", "norm")],
        "solver": [general(row, form=variant(row)) | memory(row) for row in named("gram", "combine_rows", "jacobi")],
        "attention": [
            general(row, channels=variant(row).split()[0], M=row["M"], G=row["G"])
            | {"shared memory": row["shared memory"]}
            | products(row)
            for row in wide
            if "whole" in row
        ],
        "spills": [spills(row) for row in rows if any(spilled(row[name]) for name in architectures_of(row))],
    }
    return {name: merged(part) for name, part in parts.items()}


# ---- Main ----


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="of csrc/cuda, such as gated; all of them by default")
    parser.add_argument("--nvcc", default=os.environ.get("CUDACXX") or shutil.which("nvcc"), help="path of nvcc")
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm"), help="path of nvdisasm")
    parser.add_argument("--keep", type=Path, help="folder to leave machine code and listings in")
    options = parser.parse_args()
    if not options.nvcc:
        parser.error("nvcc was not found: put it on PATH or say --nvcc PATH")
    sources, architectures = built()
    if unknown := set(options.sources) - {source.stem for source in sources}:
        parser.error(f"sources must be of {', '.join(s.stem for s in sources)}; got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = joined(
            [
                row
                for source in sources
                if not options.sources or source.stem in options.sources
                for architecture in architectures
                for row in inspect(source, architecture, options.nvcc, options.nvdisasm, folder)
            ]
        )
    shown = tables(rows)
    for name, part in shown.items():
        print(f"\n{name}\n{table(part)}" if part else f"\n{name}: none")
    if options.sources:
        return
    tools = [version(tool) for tool in (options.nvcc, options.nvdisasm) if tool]
    print(save("machine_code", {"tools": tools, "date": time.strftime("%Y-%m-%d"), **shown, "rows": rows}))


if __name__ == "__main__":
    main()
