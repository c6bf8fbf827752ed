//! The product of two blocks by the multiply-adds of AVX2.

use std::arch::asm;

use super::emulation::{Emulation, FLUSHING, MultiplyAdd};
use crate::Isa;
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;

/// The products by AVX2.
pub(in crate::bf16) type Avx2Unit = Emulation<Avx2>;

/// The multiply-adds of AVX2.
#[derive(Debug, Clone, Copy)]
pub(in crate::bf16) struct Avx2;

impl MultiplyAdd for Avx2 {
    const ISA: Isa = Isa::Avx2;

    #[inline(always)]
    unsafe fn add_block(a: &[f32; BLOCK], b: &[Bf16], c: &mut [f32]) {
        // SAFETY: the caller guarantees the instructions and the lengths.
        unsafe { add_block(a, b, c) }
    }
}

/// Adds the product of two blocks to `c`. Four rows and eight columns are computed at a time, in
/// eight chains of additions, as many as keep two units of a latency of four busy.
///
/// # Safety
/// The processor has AVX2 and FMA. All slices have the length of a block.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_block(a: &[f32; BLOCK], b: &[Bf16], c: &mut [f32]) {
    let mut environment = [0u32, FLUSHING, 0xffff_0000];
    // SAFETY: the loops read 4 KiB of A and 2 KiB of B, and read and write 4 KiB of C. The caller
    // guarantees these lengths. The environment is restored at the end.
    unsafe {
        asm!(
            "stmxcsr dword ptr [{e}]",
            "ldmxcsr dword ptr [{e} + 4]",
            "vpbroadcastd ymm10, dword ptr [{e} + 8]",
            "mov {tiles:e}, 2",
            "2:",
            "mov {halves:e}, 2",
            "3:",
            "mov {rows:e}, 8",
            "4:",
            "vxorps ymm0, ymm0, ymm0",
            "vxorps ymm1, ymm1, ymm1",
            "vxorps ymm2, ymm2, ymm2",
            "vxorps ymm3, ymm3, ymm3",
            "vxorps ymm4, ymm4, ymm4",
            "vxorps ymm5, ymm5, ymm5",
            "vxorps ymm6, ymm6, ymm6",
            "vxorps ymm7, ymm7, ymm7",
            "mov {pairs:e}, 16",
            "5:",
            "vmovdqu ymm8, ymmword ptr [{b}]",
            "vpand ymm9, ymm8, ymm10", // the second of each pair
            "vpslld ymm8, ymm8, 16",   // the first
            "vbroadcastss ymm11, dword ptr [{a}]",
            "vfmadd231ps ymm0, ymm8, ymm11",
            "vbroadcastss ymm12, dword ptr [{a} + 128]",
            "vfmadd231ps ymm1, ymm8, ymm12",
            "vbroadcastss ymm13, dword ptr [{a} + 256]",
            "vfmadd231ps ymm2, ymm8, ymm13",
            "vbroadcastss ymm14, dword ptr [{a} + 384]",
            "vfmadd231ps ymm3, ymm8, ymm14",
            "vbroadcastss ymm11, dword ptr [{a} + 4]",
            "vfmadd231ps ymm4, ymm9, ymm11",
            "vbroadcastss ymm12, dword ptr [{a} + 132]",
            "vfmadd231ps ymm5, ymm9, ymm12",
            "vbroadcastss ymm13, dword ptr [{a} + 260]",
            "vfmadd231ps ymm6, ymm9, ymm13",
            "vbroadcastss ymm14, dword ptr [{a} + 388]",
            "vfmadd231ps ymm7, ymm9, ymm14",
            "add {a}, 8",
            "add {b}, 64",
            "dec {pairs:e}",
            "jnz 5b",
            "vaddps ymm0, ymm0, ymm4",
            "vaddps ymm1, ymm1, ymm5",
            "vaddps ymm2, ymm2, ymm6",
            "vaddps ymm3, ymm3, ymm7",
            "vaddps ymm0, ymm0, ymmword ptr [{c}]",
            "vaddps ymm1, ymm1, ymmword ptr [{c} + 128]",
            "vaddps ymm2, ymm2, ymmword ptr [{c} + 256]",
            "vaddps ymm3, ymm3, ymmword ptr [{c} + 384]",
            "vmovups ymmword ptr [{c}], ymm0",
            "vmovups ymmword ptr [{c} + 128], ymm1",
            "vmovups ymmword ptr [{c} + 256], ymm2",
            "vmovups ymmword ptr [{c} + 384], ymm3",
            "add {a}, 384", // four rows further, at the first pair
            "sub {b}, 1024",
            "add {c}, 512",
            "dec {rows:e}",
            "jnz 4b",
            "sub {a}, 4096",
            "add {b}, 32",
            "sub {c}, 4064", // the first row, 8 columns further
            "dec {halves:e}",
            "jnz 3b",
            "add {b}, 960", // the second tile
            "dec {tiles:e}",
            "jnz 2b",
            "ldmxcsr dword ptr [{e}]",
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            c = inout(reg) c.as_mut_ptr() => _,
            e = in(reg) environment.as_mut_ptr(),
            tiles = out(reg) _,
            halves = out(reg) _,
            rows = out(reg) _,
            pairs = out(reg) _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _,
            options(nostack),
        );
    }
}
