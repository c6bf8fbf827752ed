//! The products by AMX, the matrix unit of Intel's Xeon processors since 2023.
//!
//! Sums of four tiles stay in the tiles 0 to 3, so that each tile of A and B is used twice.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::check::has_the_arithmetic;
use super::{BlockSum, Tiles, Unit};
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;
use crate::bf16::steps::Step;
use crate::{ISA_VARIABLE, Isa};

/// Proof that this process may use AMX, and that AMX returns the bits of the other implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bf16) struct Amx(());

impl Amx {
    /// Returns the proof, or `None` if the processor or the operating system has no AMX.
    ///
    /// # Errors
    /// If the operating system refuses to let the process use AMX, or the results differ.
    pub(in crate::bf16) fn new() -> Result<Option<Self>, String> {
        static PROCESS: OnceLock<Result<Option<Amx>, String>> = OnceLock::new();
        PROCESS
            .get_or_init(|| {
                if !is_supported() {
                    return Ok(None);
                }
                request_permission()?;
                let amx = Self(());
                if has_the_arithmetic(amx) {
                    return Ok(Some(amx));
                }
                Err(format!(
                    "AMX rounds differently on this processor than its emulation; compute in f32, or set \
                     {ISA_VARIABLE}=avx2, which emulates AMX, more slowly than f32"
                ))
            })
            .clone()
    }

    /// Creates the proof where tests emulate the instructions.
    #[cfg(test)]
    pub(in crate::bf16) fn emulated() -> Self {
        Self(())
    }
}

impl Unit for Amx {
    type Tiles = Configured;

    fn begin(self) -> Configured {
        Configured::new(self)
    }

    fn isa(self) -> Isa {
        if Isa::Avx512.is_available() { Isa::Avx512 } else { Isa::Portable }
    }
}

/// Returns whether the processor has AMX with bf16, and the operating system saves its registers.
fn is_supported() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    const SAVED: u32 = 1 << 17 | 1 << 18;
    if !cfg!(target_os = "linux") || __cpuid_count(0, 0).eax < 7 {
        return false;
    }
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & BF16_AND_TILES != BF16_AND_TILES {
        return false;
    }
    let saved: u32;
    // SAFETY: the instruction exists if OSXSAVE is set, and only writes the two registers.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    saved & SAVED == SAVED
}

/// Asks Linux for the permission to use tiles, which it gives once per process and before the first
/// use.
fn request_permission() -> Result<(), String> {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call changes only what the process may use. It reads and writes no memory
    // of the process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    if result == 0 {
        return Ok(());
    }
    Err(format!(
        "the processor has AMX, but Linux does not permit its use (arch_prctl: error {}); \
         compute in f32, or set {ISA_VARIABLE}=avx2, which emulates AMX, more slowly than f32",
        -result
    ))
}

/// The shapes of all tiles: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Proof that the tiles of this thread are configured. They are released at the end.
#[derive(Debug)]
pub(in crate::bf16) struct Configured {
    /// The value stays on its thread.
    thread: PhantomData<*const ()>,
}

impl Configured {
    fn new(_: Amx) -> Self {
        // SAFETY: the argument is the proof that the process may use tiles. The instruction reads
        // the 64 bytes of the configuration. Rust uses no tiles that could change.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags, readonly));
        }
        Self { thread: PhantomData }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the process may use tiles, and no other code of this thread does.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// The arguments of the assembly.
#[repr(C)]
struct Arguments {
    a: *const Bf16,
    a_stride: usize, // in bytes, as below
    b: *const Bf16,
    b_stride: usize,
    repeats: usize,
    steps: *const Step,
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
                "tileloadd tmm4, [{i} + {row}*1]",
                "tileloadd tmm6, [{j} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{i} + {row}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{j} + {row}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {step}, 8",
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
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
