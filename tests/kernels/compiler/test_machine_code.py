"""Instructions are counted from disassembly by name, whatever comes before and after the name."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from moebench.kernels.compiler import machine_code
from moebench.kernels.compiler.machine_code import CodeCounters, all_counters, worst
from moebench.kernels.hardware.gpus import PROCESSORS


@dataclass(frozen=True, eq=False)
class Compiled:
    """Fake of the attributes that are read from Triton's compiled kernel."""

    asm: dict[str, str | bytes]
    metadata: SimpleNamespace


SASS = """
 Function up:
  REG:236 STACK:144 SHARED:1024 LOCAL:0 CONSTANT[0]:840 TEXTURE:0 SURFACE:0 SAMPLER:0
        Function : up
        /*0000*/                   LDC R1, c[0x0][0x28] ;                    /* 0x00000a00ff017b82 */
                                                                             /* 0x000ff00000000800 */
        /*0070*/              @!P0 EXIT ;                                    /* 0x000000000000094d */
        /*0080*/               @P0 HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4] ; /* 0x0000000402187981 */
        /*0090*/          @UP0 UTMALDG.3D [UR8], [UR4] ;                      /* 0x0000000402187981 */
        /*00a0*/                   LDGSTS.E.BYPASS.128 [R1], [R2] ;           /* 0x0000000402187981 */
        /*1ab0*/                   STL.64 [R1+0x10], R2 ;                     /* 0x0000000402187981 */
"""
GCN = """
	v_mfma_f32_32x32x8_bf16 a[0:15], v[0:1], v[2:3], a[0:15]
	v_mfma_f32_32x32x8_bf16 a[0:15], v[0:1], v[2:3], a[0:15]
	buffer_load_dword v1, s[0:3], 0 offen lds
	buffer_load_dword v2, v1, s[0:3], 0 offen
	scratch_store_dwordx4 off, v[0:3], off
	s_endpgm
; codeLenInByte = 48
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 16
    .vgpr_count:     168
"""


def test_amd_code_is_read_from_its_text() -> None:
    metadata = SimpleNamespace(shared=32768, num_warps=4)
    found = all_counters(Compiled({"amdgcn": GCN}, metadata), PROCESSORS["gfx942"])
    assert found == CodeCounters(
        warps=4,
        occupancy=2,
        registers=168,
        shared_bytes=32768,
        code_bytes=48,
        spill_bytes=16,
        tensor_core={"v_mfma_f32_32x32x8_bf16": 2},
        bulk_copies={"buffer_load_dword_lds": 1},
        spills={"scratch_store_dwordx4": 1},
    )


def test_nvidia_code_is_read_from_its_disassembly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "_dumped", lambda *_: SASS)
    metadata = SimpleNamespace(shared=65536, num_warps=8, tmem_size=0)
    found = all_counters(Compiled({"cubin": b""}, metadata), PROCESSORS["sm_90"])
    assert found == CodeCounters(
        warps=8,
        occupancy=1,
        registers=236,
        shared_bytes=65536,  # the 1024 are the system's
        code_bytes=6 * 16,
        spill_bytes=144,
        tensor_core={"HGMMA": 1},
        bulk_copies={"LDGSTS": 1, "UTMALDG": 1},
        spills={"STL": 1},
    )


def test_the_worst_of_several_is_not_the_last() -> None:
    small = CodeCounters(warps=4, occupancy=8, registers=32, shared_bytes=0, code_bytes=64, tensor_core={"HMMA": 1})
    large = CodeCounters(warps=8, occupancy=1, registers=255, shared_bytes=9, code_bytes=32, tensor_core={"HMMA": 2})
    found = worst([large, small])
    assert (found.occupancy, found.registers, found.code_bytes) == (1, 255, 64)
    assert found.tensor_core == {"HMMA": 3}
