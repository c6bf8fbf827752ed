//! The product of two blocks by the multiply-adds of AVX-512.

use std::arch::asm;

use super::emulation::{Emulation, FLUSHING, MultiplyAdd};
use crate::Isa;
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;

/// The products by AVX-512.
pub(in crate::bf16) type Avx512Unit = Emulation<Avx512>;

/// The multiply-adds of AVX-512.
#[derive(Debug, Clone, Copy)]
pub(in crate::bf16) struct Avx512;

impl MultiplyAdd for Avx512 {
    const ISA: Isa = Isa::Avx512;

    #[inline(always)]
    unsafe fn add_block(a: &[f32; BLOCK], b: &[Bf16], c: &mut [f32]) {
        // SAFETY: the caller guarantees the instructions and the lengths.
        unsafe { add_block(a, b, c) }
    }
}

/// Adds the product of two blocks to `c`. Eight rows of a tile of C are computed at a time.
///
/// # Safety
/// The processor has AVX-512 F. All slices have the length of a block.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_block(a: &[f32; BLOCK], b: &[Bf16], c: &mut [f32]) {
    let mut environment = [0u32, FLUSHING, 0xffff_0000];
    // SAFETY: the loops read 4 KiB of A and 2 KiB of B, and read and write 4 KiB of C. The caller
    // guarantees these lengths. The environment is restored at the end.
    unsafe {
        asm!(
            "stmxcsr dword ptr [{e}]",
            "ldmxcsr dword ptr [{e} + 4]",
            "vpbroadcastd zmm18, dword ptr [{e} + 8]",
            "mov {tiles:e}, 2",
            "2:",
            "mov {rows:e}, 4",
            "3:",
            "vpxord zmm0, zmm0, zmm0",
            "vpxord zmm1, zmm1, zmm1",
            "vpxord zmm2, zmm2, zmm2",
            "vpxord zmm3, zmm3, zmm3",
            "vpxord zmm4, zmm4, zmm4",
            "vpxord zmm5, zmm5, zmm5",
            "vpxord zmm6, zmm6, zmm6",
            "vpxord zmm7, zmm7, zmm7",
            "vpxord zmm8, zmm8, zmm8",
            "vpxord zmm9, zmm9, zmm9",
            "vpxord zmm10, zmm10, zmm10",
            "vpxord zmm11, zmm11, zmm11",
            "vpxord zmm12, zmm12, zmm12",
            "vpxord zmm13, zmm13, zmm13",
            "vpxord zmm14, zmm14, zmm14",
            "vpxord zmm15, zmm15, zmm15",
            "mov {pairs:e}, 16",
            "4:",
            "vmovdqu64 zmm16, zmmword ptr [{b}]",
            "vpandd zmm17, zmm16, zmm18", // the second of each pair
            "vpslld zmm16, zmm16, 16",    // the first
            "vfmadd231ps zmm0, zmm16, dword ptr [{a}]{{1to16}}",
            "vfmadd231ps zmm1, zmm16, dword ptr [{a} + 128]{{1to16}}",
            "vfmadd231ps zmm2, zmm16, dword ptr [{a} + 256]{{1to16}}",
            "vfmadd231ps zmm3, zmm16, dword ptr [{a} + 384]{{1to16}}",
            "vfmadd231ps zmm4, zmm16, dword ptr [{a} + 512]{{1to16}}",
            "vfmadd231ps zmm5, zmm16, dword ptr [{a} + 640]{{1to16}}",
            "vfmadd231ps zmm6, zmm16, dword ptr [{a} + 768]{{1to16}}",
            "vfmadd231ps zmm7, zmm16, dword ptr [{a} + 896]{{1to16}}",
            "vfmadd231ps zmm8, zmm17, dword ptr [{a} + 4]{{1to16}}",
            "vfmadd231ps zmm9, zmm17, dword ptr [{a} + 132]{{1to16}}",
            "vfmadd231ps zmm10, zmm17, dword ptr [{a} + 260]{{1to16}}",
            "vfmadd231ps zmm11, zmm17, dword ptr [{a} + 388]{{1to16}}",
            "vfmadd231ps zmm12, zmm17, dword ptr [{a} + 516]{{1to16}}",
            "vfmadd231ps zmm13, zmm17, dword ptr [{a} + 644]{{1to16}}",
            "vfmadd231ps zmm14, zmm17, dword ptr [{a} + 772]{{1to16}}",
            "vfmadd231ps zmm15, zmm17, dword ptr [{a} + 900]{{1to16}}",
            "add {a}, 8",
            "add {b}, 64",
            "dec {pairs:e}",
            "jnz 4b",
            "vaddps zmm0, zmm0, zmm8",
            "vaddps zmm1, zmm1, zmm9",
            "vaddps zmm2, zmm2, zmm10",
            "vaddps zmm3, zmm3, zmm11",
            "vaddps zmm4, zmm4, zmm12",
            "vaddps zmm5, zmm5, zmm13",
            "vaddps zmm6, zmm6, zmm14",
            "vaddps zmm7, zmm7, zmm15",
            "vaddps zmm0, zmm0, zmmword ptr [{c}]",
            "vaddps zmm1, zmm1, zmmword ptr [{c} + 128]",
            "vaddps zmm2, zmm2, zmmword ptr [{c} + 256]",
            "vaddps zmm3, zmm3, zmmword ptr [{c} + 384]",
            "vaddps zmm4, zmm4, zmmword ptr [{c} + 512]",
            "vaddps zmm5, zmm5, zmmword ptr [{c} + 640]",
            "vaddps zmm6, zmm6, zmmword ptr [{c} + 768]",
            "vaddps zmm7, zmm7, zmmword ptr [{c} + 896]",
            "vmovups zmmword ptr [{c}], zmm0",
            "vmovups zmmword ptr [{c} + 128], zmm1",
            "vmovups zmmword ptr [{c} + 256], zmm2",
            "vmovups zmmword ptr [{c} + 384], zmm3",
            "vmovups zmmword ptr [{c} + 512], zmm4",
            "vmovups zmmword ptr [{c} + 640], zmm5",
            "vmovups zmmword ptr [{c} + 768], zmm6",
            "vmovups zmmword ptr [{c} + 896], zmm7",
            "add {a}, 896", // eight rows further, at the first pair
            "sub {b}, 1024",
            "add {c}, 1024",
            "dec {rows:e}",
            "jnz 3b",
            "sub {a}, 4096",
            "add {b}, 1024",
            "sub {c}, 4032", // the first row, 16 columns further
            "dec {tiles:e}",
            "jnz 2b",
            "ldmxcsr dword ptr [{e}]",
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            c = inout(reg) c.as_mut_ptr() => _,
            e = in(reg) environment.as_mut_ptr(),
            tiles = out(reg) _,
            rows = out(reg) _,
            pairs = out(reg) _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _,
            out("zmm17") _, out("zmm18") _,
            options(nostack),
        );
    }
}
