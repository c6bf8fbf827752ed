//! Selects the implementation of the products.

use super::product::PortableUnit;
pub(super) use super::product::Unit;
#[cfg(target_arch = "x86_64")]
use super::product::{Amx, Avx2Unit, Avx512Unit};
use crate::error::Result;
use crate::isa::isa;

/// The implementation that computes the products.
#[derive(Debug, Clone, Copy)]
pub(super) enum Selected {
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512Unit),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2Unit),
    Portable(PortableUnit),
}

/// Calls `function(unit, arguments…)` for the selected implementation.
macro_rules! on_unit {
    ($function:path, $($argument:expr),* $(,)?) => {
        match crate::bf16::unit::selected()? {
            #[cfg(target_arch = "x86_64")]
            crate::bf16::unit::Selected::Amx(unit) => $function(unit, $($argument),*),
            #[cfg(target_arch = "x86_64")]
            crate::bf16::unit::Selected::Avx512(unit) => $function(unit, $($argument),*),
            #[cfg(target_arch = "x86_64")]
            crate::bf16::unit::Selected::Avx2(unit) => $function(unit, $($argument),*),
            crate::bf16::unit::Selected::Portable(unit) => $function(unit, $($argument),*),
        }
    };
}
pub(super) use on_unit;

/// Returns the fastest implementation of the current ISA.
pub(super) fn selected() -> Result<Selected> {
    #[cfg(target_arch = "x86_64")]
    match isa()? {
        crate::Isa::Avx512 => {
            if let Some(amx) = Amx::new().map_err(|problem| crate::KernelError::Isa { problem })? {
                return Ok(Selected::Amx(amx));
            }
            if let Some(unit) = Avx512Unit::new() {
                return Ok(Selected::Avx512(unit));
            }
        }
        crate::Isa::Avx2 => {
            if let Some(unit) = Avx2Unit::new() {
                return Ok(Selected::Avx2(unit));
            }
        }
        crate::Isa::Portable => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    isa()?;
    Ok(Selected::Portable(PortableUnit))
}

/// Returns whether the kernels of this module compute with AMX: the ISA is AVX-512, and processor
/// and operating system support AMX.
///
/// # Errors
/// As [`isa()`](crate::isa()). Also if the processor has AMX, but Linux does not permit its use, or
/// its results differ from those of the other implementations. Then the kernels of this module
/// return the same error.
///
/// ```
/// use cifar_kernels::{Isa, bf16, with_isa};
///
/// assert!(!with_isa(Isa::Portable, bf16::uses_amx)??);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn uses_amx() -> Result<bool> {
    #[cfg(target_arch = "x86_64")]
    return Ok(matches!(selected()?, Selected::Amx(_)));
    #[cfg(not(target_arch = "x86_64"))]
    return selected().map(|_| false);
}
