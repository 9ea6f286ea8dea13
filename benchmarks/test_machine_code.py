"""What machine_code.py reads out of the compiler's words and of a listing, on short samples; nvcc only where it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import machine_code
import pytest
import sass

needs_binutils = pytest.mark.skipif(not (shutil.which("c++filt") and shutil.which("c++")), reason="no compiler here")

PTXAS = """\
ptxas info    : 0 bytes gmem, 20 bytes cmem[2]
ptxas info    : Compiling entry function '_Z5firstv' for 'sm_80'
ptxas info    : Function properties for _Z5firstv
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8 bytes cumulative stack size, 440 bytes cmem[0]
ptxas info    : Compile time = 27.070 ms
ptxas info    : Compiling entry function '_Z6secondv' for 'sm_80'
ptxas info    : Function properties for _Z6secondv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 2048 bytes smem, 440 bytes cmem[0]
"""

# A load before the loop; a loop with a wide load, a spill, a narrow store and a division out of line; behind the end a
# block that comes back to a place before the loop, a function, and the branch to itself that ends every kernel.
LISTING = """\
	.section	.text._Z6kernelv,"ax",@progbits
.text._Z6kernelv:
        /*0000*/                   LDG.E R2, desc[UR4][R2.64] ;
        /*0010*/              @!P0 BRA `(.L_x_3) ;
.L_x_0:
        /*0020*/                   BSSY B0, `(.L_x_2) ;
.L_x_1:
        /*0030*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0040*/                   LDL R0, [R1] ;
        /*0050*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0060*/              @P1  STG.E.U16 desc[UR4][R2.64], R4 ;
        /*0070*/               @P0 BRA `(.L_x_1) ;
.L_x_2:
        /*0080*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0090*/                   EXIT ;
.L_x_3:
        /*00a0*/                   STS.64 [R0], R2 ;
        /*00b0*/                   BRA `(.L_x_0) ;
        .type           $__internal_0_$__cuda_sm20_div_s64,@function
$__internal_0_$__cuda_sm20_div_s64:
        /*00c0*/                   LDS R0, [R2] ;
        /*00d0*/                   RET.REL.NODEC R4 `(_Z6kernelv) ;
.L_x_4:
        /*00e0*/                   BRA `(.L_x_4);
	.section	.text._Z5otherv,"ax",@progbits
.text._Z5otherv:
        /*0000*/                   EXIT ;
"""


def test_registers_and_spills_of_each_kernel() -> None:
    assert machine_code.resources(PTXAS) == {
        "_Z5firstv": {"stack": 8, "spill stores": 12, "spill loads": 16, "registers": 64, "static shared": 0},
        "_Z6secondv": {"stack": 0, "spill stores": 0, "spill loads": 0, "registers": 32, "static shared": 2048},
    }


def test_instructions_everywhere_and_in_loops() -> None:
    listed = sass.kernels(LISTING)
    assert list(listed) == ["_Z6kernelv", "_Z5otherv"]
    inside = {"64-bit division": 1, "LDG.128": 1, "LDL": 1, "STG.16": 1}
    outside = {"BAR": 1, "LDG.32": 1, "LDS.32": 1, "STS.64": 1}
    assert sass.counts(listed["_Z6kernelv"]) == {"everywhere": inside | outside, "in loops": inside}
    assert sass.counts(listed["_Z5otherv"]) == {"everywhere": {}, "in loops": {}}


def test_a_jump_table_can_close_a_loop() -> None:
    switch = """\
.text._Z6switchv:
.L_x_0:
        /*0000*/                   LDG.E.64 R2, desc[UR4][R2.64] ;
        /*0010*/                   BRX R12 -0x10    (*"BRANCH_TARGETS .L_x_0,.L_x_1"*);
.L_x_1:
        /*0020*/                   STG.E.64 desc[UR4][R2.64], R2 ;
        /*0030*/                   EXIT ;
"""
    (code,) = sass.kernels(switch).values()
    assert code.in_loops() == [True, True, False, False]


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("LDG.E", "LDG.32"),
        ("LDG.E.U8.CONSTANT", "LDG.8"),
        ("LDG.E.64", "LDG.64"),
        ("STG.E.EF.128", "STG.128"),
        ("LD.E.64", "LD.64"),
        ("LDGSTS.E.BYPASS.128", "LDGSTS.128"),
        ("LDS.S16", "LDS.16"),
        ("LDSM.16.MT88.4", "LDSM"),
        ("HMMA.16816.F32.BF16", "HMMA.16816.F32.BF16"),
        ("DMMA.8x8x4", "DMMA.8x8x4"),
        ("LDL.LU", "LDL"),
        ("BAR.SYNC.DEFER_BLOCKING", "BAR"),
        ("LDGDEPBAR", None),
        ("HFMA2.MMA", None),
        ("CALL.REL.NOINC", None),
    ],
)
def test_kinds_of_instructions(opcode: str, expected: str | None) -> None:
    assert sass.kind(opcode) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "void gated_tangent_kernel<__half, float, 4>(GatedTangent)",
            {"kernel": "gated_tangent", "type": "float16", "values a load": 4},
        ),
        (
            "void attention_tangent_tiles<Config<__nv_bfloat16, 64, true, 2, 1> >(Problem)",
            {"kernel": "attention_tangent", "type": "bfloat16", "channels": 64, "whole": True, "M": 2, "G": 1},
        ),
        (
            "void gram_ranges<double, false, 2>(Gram, Ranges, double*)",
            {"kernel": "gram_ranges", "type": "float64", "packed": False, "columns / 8": 2},
        ),
        ("gram_sum(Gram, long, double const*, bool)", {"kernel": "gram_sum"}),
        ("void new_kernel<Kind, 8>(float*)", {"kernel": "new", "type": "Kind", "arguments": "Kind, 8"}),
    ],
)
def test_names_of_forms(name: str, expected: dict) -> None:
    assert machine_code.form(name) == expected


@needs_binutils
def test_names_are_demangled_without_their_namespaces() -> None:
    here = "_ZN9latentjac4cuda40_GLOBAL__N__3770c847_8_gated_cu_c8d354c3"
    mangled = here + "20gated_tangent_kernelIffLi4EEEvNS_12GatedTangentE"
    assert machine_code.demangled([mangled]) == ["void gated_tangent_kernel<float, float, 4>(GatedTangent)"]


@needs_binutils
def test_shared_memory_of_tiles(tmp_path: Path) -> None:
    source = tmp_path / "sample.cu"
    source.write_text("""\
#include <cuda_runtime.h>
namespace latentjac { namespace cuda { namespace {
template <typename T, int W> struct Config { static constexpr int kValues = sizeof(T) * W; };
template <typename C> struct SampleTiles { static constexpr int kBytes = 3 * C::kValues; };
template <typename C>
__global__ void __launch_bounds__(128) sample_tiles(int p) {
  using Tiles = SampleTiles<C>;
}
__global__ void plain(int p) {}
}}}
""")
    names = ["void sample_tiles<Config<double, 64> >(int)", "plain(int)"]
    assert machine_code.tile_bytes(source, names, tmp_path) == {names[0]: 1536}


def row(dtype: str, values: int, registers: int, spill: int = 0, listed: bool = True) -> dict:
    code = {"registers": 32, "spill stores": 0, "spill loads": 0}
    kinds = {"LDG.128": 2, "LDG.32": 1, "LDL": 3, "STG.64": 1}
    if listed:
        code |= {"everywhere": kinds, "in loops": {"LDL": 2}}
    newer = code | {"registers": registers, "spill stores": spill, "spill loads": spill}
    return {"kernel": "gated_tangent", "type": dtype, "values a load": values, "sm_80": code, "sm_90a": newer}


def test_tables_join_types_and_architectures() -> None:
    rows = [row("bfloat16", 4, 32), row("float16", 4, 32), row("float32", 4, 40), row("float32", 1, 30, spill=4)]
    shown = machine_code.tables(rows)
    moves = {"global loads": "16 B: 2, 4 B: 1", "global stores": "8 B: 1"}
    first = {"kernel": "gated_tangent", "type": "bfloat16, float16", "registers": "32", "spilled bytes": "0"}
    assert shown["elementwise"] == [first | moves, first | moves | {"type": "float32", "registers": "32 / 40"}]
    (spilled,) = shown["spills"]
    assert spilled["form"] == "1 a load"
    assert spilled["spilled bytes"] == "0 / 8"
    assert spilled["in loops"] == "2"
    assert shown["solver"] == shown["attention"] == []


def test_without_a_listing_its_columns_are_left_out() -> None:
    shown = machine_code.tables([row("float32", 4, 40, spill=4, listed=False)])
    assert list(shown["elementwise"][0]) == ["kernel", "type", "registers", "spilled bytes"]
    assert "in loops" not in shown["spills"][0]


def test_all_sources_are_looked_at() -> None:
    sources, architectures = machine_code.built()
    assert {"attention_primal", "gram", "jacobi"} < {source.stem for source in sources}
    assert architectures == ["sm_80", "sm_90a"]


@pytest.mark.skipif(not (shutil.which("nvcc") and shutil.which("c++filt")), reason="no nvcc here")
def test_a_kernel_compiled_here(tmp_path: Path) -> None:
    source = machine_code.ROOT / "csrc" / "cuda" / "jacobi.cu"
    (found,) = machine_code.inspect(source, "sm_80", shutil.which("nvcc"), shutil.which("nvdisasm"), tmp_path)
    assert found["kernel"] == "jacobi"
    assert 0 < found["sm_80"]["registers"] <= 64
