//! Products of blocks in AMX's tiles.

use std::arch::asm;

use super::Configured;
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;
use crate::bf16::product::{BlockSum, TapSums, Tiles};
use crate::bf16::steps::RowStep;

/// The assembly that fetches the cache lines at some distances from an address into the first-level
/// cache. Fetching is never an access, whatever the address.
macro_rules! prefetch {
    ($address:literal, $($distance:literal),+) => {
        concat!($("prefetcht0 [{", $address, "} + ", $distance, "]\n"),+)
    };
}

/// The arguments of the assembly, with steps of type `S`.
#[repr(C)]
struct Arguments<S> {
    a: *const Bf16,
    a_stride: usize, // in bytes, as below
    b: *const Bf16,
    b_stride: usize,
    repeats: usize,
    steps: *const S,
    count: usize,
    c: *mut f32,
    fresh: usize,
}

impl Tiles for Configured {
    fn add(&self, sum: &BlockSum, fresh: bool, c: &mut [f32]) {
        if !sum.start(fresh, c) {
            return;
        }
        let bytes = BLOCK * size_of::<Bf16>();
        let (steps, a_stride, b_stride) = (sum.steps.list(), sum.a_stride * bytes, sum.b_stride * bytes);
        let arguments = Arguments {
            a: sum.a.as_ptr(),
            a_stride,
            b: sum.b.as_ptr(),
            b_stride,
            repeats: sum.repeats,
            steps: steps.as_ptr(),
            count: steps.len(),
            c: c.as_mut_ptr(),
            fresh: usize::from(fresh),
        };
        // SAFETY: `self` is the proof that the tiles are configured. `start` checked that
        // there is a step, that C has the length of a block and that all blocks of A and B are in
        // their slices. Rust uses no tiles.
        unsafe {
            asm!(
                "mov {i}, qword ptr [{arguments} + 56]",
                "cmp qword ptr [{arguments} + 64], 0",
                "je 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{i} + {row}*2]", // rows of C are twice as long
                "tileloadd tmm1, [{i} + {row}*2 + 64]",
                "tileloadd tmm2, [{i} + {row}*2 + 2048]",
                "tileloadd tmm3, [{i} + {row}*2 + 2112]",
                "3:",
                "mov {a}, qword ptr [{arguments}]",
                "mov {b}, qword ptr [{arguments} + 16]",
                "mov {repeats}, qword ptr [{arguments} + 32]",
                "4:",
                "mov {step}, qword ptr [{arguments} + 40]",
                "mov {count}, qword ptr [{arguments} + 48]",
                "5:",
                "mov {i:e}, dword ptr [{step}]",
                "mov {j:e}, dword ptr [{step} + 4]",
                "shl {i}, 11",
                "shl {j}, 11",
                "add {i}, {a}",
                "add {j}, {b}",
                "mov {ahead:e}, dword ptr [{step} + 8]",
                "shl {ahead}, 6",
                "add {ahead}, {a}",
                "tileloadd tmm4, [{i} + {row}*1]",
                prefetch!("ahead", 0, 64, 128),
                "tileloadd tmm6, [{j} + {row}*1]",
                prefetch!("ahead", 192, 256, 320),
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{i} + {row}*1 + 1024]",
                prefetch!("ahead", 384, 448, 512),
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{j} + {row}*1 + 1024]",
                prefetch!("ahead", 576, 640),
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {step}, 12",
                "dec {count}",
                "jnz 5b",
                "add {a}, qword ptr [{arguments} + 8]",
                "add {b}, qword ptr [{arguments} + 24]",
                "dec {repeats}",
                "jnz 4b",
                "mov {i}, qword ptr [{arguments} + 56]",
                "tilestored [{i} + {row}*2], tmm0",
                "tilestored [{i} + {row}*2 + 64], tmm1",
                "tilestored [{i} + {row}*2 + 2048], tmm2",
                "tilestored [{i} + {row}*2 + 2112], tmm3",
                arguments = in(reg) &raw const arguments,
                row = in(reg) 64_usize,
                a = out(reg) _,
                b = out(reg) _,
                i = out(reg) _,
                j = out(reg) _,
                step = out(reg) _,
                count = out(reg) _,
                repeats = out(reg) _,
                ahead = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    fn add_row(&self, sums: &TapSums, row: usize, band: usize, fresh: bool, c: &mut [f32]) {
        match sums.steps.row(row, band) {
            Some(steps) => add_three_taps(self, sums, steps, fresh, c),
            None => sums.add_each(self, row, band, fresh, c),
        }
    }
}

/// Adds the products of three taps, whose sums are `c`. A tile of A serves all three while it is in
/// a register, so that the operands come from the second-level cache once for all three. The tiles
/// 0 to 5 have half of the rows of the sums.
fn add_three_taps(_: &Configured, sums: &TapSums, steps: &[RowStep], fresh: bool, c: &mut [f32]) {
    if steps.is_empty() || sums.repeats == 0 {
        if fresh {
            c.fill(0.0);
        }
        return;
    }
    sums.check(c);
    let bytes = BLOCK * size_of::<Bf16>();
    for half in 0..2 {
        let arguments = Arguments {
            a: sums.a[half * BLOCK / 2..].as_ptr(),
            a_stride: sums.a_stride * bytes,
            b: sums.b.as_ptr(),
            b_stride: sums.b_stride * bytes,
            repeats: sums.repeats,
            steps: steps.as_ptr(),
            count: steps.len(),
            c: c[half * BLOCK / 2..].as_mut_ptr(),
            fresh: usize::from(fresh),
        };
        // SAFETY: the first argument is the proof that the tiles are configured. There is a step,
        // and `check` found that C has the length of three blocks and that all blocks of A and B
        // are in their slices.
        unsafe { add_half_row(&arguments) };
    }
}

/// Adds the products of three taps to the sums of half of the rows.
///
/// # Safety
/// The tiles of this thread are configured. There is a step and a repeat, and the arguments are
/// those of slices that have all their blocks.
unsafe fn add_half_row(arguments: &Arguments<RowStep>) {
    // SAFETY: the caller guarantees the tiles and all addresses. Rust uses no tiles.
    unsafe {
        asm!(
            "mov {i}, qword ptr [{arguments} + 56]",
            "cmp qword ptr [{arguments} + 64], 0",
            "je 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{i} + {row}*2]", // rows of C are twice as long
            "tileloadd tmm1, [{i} + {row}*2 + 64]",
            "tileloadd tmm2, [{i} + {row}*2 + 4096]",
            "tileloadd tmm3, [{i} + {row}*2 + 4160]",
            "tileloadd tmm4, [{i} + {row}*2 + 8192]",
            "tileloadd tmm5, [{i} + {row}*2 + 8256]",
            "3:",
            "mov {a}, qword ptr [{arguments}]",
            "mov {b}, qword ptr [{arguments} + 16]",
            "mov {repeats}, qword ptr [{arguments} + 32]",
            "4:",
            "mov {ahead}, {b}",
            "mov {step}, qword ptr [{arguments} + 40]",
            "mov {count}, qword ptr [{arguments} + 48]",
            "5:",
            "mov {i:e}, dword ptr [{step}]",
            "shl {i}, 11",
            "add {i}, {a}",
            "tileloadd tmm6, [{i} + {row}*1]",
            prefetch!("i", 2048, 2112, 2176, 2240, 2304, 2368, 2432, 2496),
            "mov {j:e}, dword ptr [{step} + 4]",
            "cmp {j:e}, -1",
            "je 6f",
            "shl {j}, 11",
            "add {j}, {b}",
            "lea {ahead}, [{j} + 2048]",
            "tileloadd tmm7, [{j} + {row}*1]",
            "tdpbf16ps tmm0, tmm6, tmm7",
            prefetch!("i", 2560, 2624, 2688, 2752, 2816, 2880, 2944, 3008),
            "tileloadd tmm7, [{j} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm6, tmm7",
            prefetch!("ahead", 0, 64, 128, 192, 256, 320, 384, 448),
            "6:",
            "mov {j:e}, dword ptr [{step} + 8]",
            "cmp {j:e}, -1",
            "je 7f",
            "shl {j}, 11",
            "add {j}, {b}",
            "tileloadd tmm7, [{j} + {row}*1]",
            "tdpbf16ps tmm2, tmm6, tmm7",
            prefetch!("ahead", 512, 576, 640, 704, 768, 832, 896, 960),
            "tileloadd tmm7, [{j} + {row}*1 + 1024]",
            "tdpbf16ps tmm3, tmm6, tmm7",
            prefetch!("ahead", 1024, 1088, 1152, 1216, 1280, 1344, 1408, 1472),
            "7:",
            "mov {j:e}, dword ptr [{step} + 12]",
            "cmp {j:e}, -1",
            "je 8f",
            "shl {j}, 11",
            "add {j}, {b}",
            "tileloadd tmm7, [{j} + {row}*1]",
            "tdpbf16ps tmm4, tmm6, tmm7",
            prefetch!("ahead", 1536, 1600, 1664, 1728, 1792, 1856, 1920, 1984),
            "tileloadd tmm7, [{j} + {row}*1 + 1024]",
            "tdpbf16ps tmm5, tmm6, tmm7",
            "8:",
            "add {step}, 16",
            "dec {count}",
            "jnz 5b",
            "add {a}, qword ptr [{arguments} + 8]",
            "add {b}, qword ptr [{arguments} + 24]",
            "dec {repeats}",
            "jnz 4b",
            "mov {i}, qword ptr [{arguments} + 56]",
            "tilestored [{i} + {row}*2], tmm0",
            "tilestored [{i} + {row}*2 + 64], tmm1",
            "tilestored [{i} + {row}*2 + 4096], tmm2",
            "tilestored [{i} + {row}*2 + 4160], tmm3",
            "tilestored [{i} + {row}*2 + 8192], tmm4",
            "tilestored [{i} + {row}*2 + 8256], tmm5",
            arguments = in(reg) std::ptr::from_ref(arguments),
            row = in(reg) 64_usize,
            a = out(reg) _,
            b = out(reg) _,
            i = out(reg) _,
            j = out(reg) _,
            step = out(reg) _,
            count = out(reg) _,
            repeats = out(reg) _,
            ahead = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
