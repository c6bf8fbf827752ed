//! The products by AMX, the matrix unit of Intel's Xeon processors since 2023: whether this process
//! may use it, and the configuration of its tiles.

mod products;

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::Unit;
use super::check::has_the_arithmetic;
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
