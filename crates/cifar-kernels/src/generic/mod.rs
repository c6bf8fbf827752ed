//! The kernels, written once over the operations of [`Simd`](crate::isa::Simd).
//!
//! Functions here use raw pointers where several threads write parts of one output. The safe entry
//! points in the crate root check every length first.

pub(crate) mod activation;
pub(crate) mod batch_norm;
pub(crate) mod destination;
pub(crate) mod im2col;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod scratch;
pub(crate) mod shared;
pub(crate) mod winograd;

/// Calls `function(isa, arguments…)` for the current ISA.
macro_rules! on_isa {
    ($function:path, $($argument:expr),* $(,)?) => {
        match crate::isa()? {
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx512 => match crate::isa::Avx512::new() {
                Some(s) => $function(s, $($argument),*),
                None => unreachable!("the ISA in use was checked"),
            },
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx2 => match crate::isa::Avx2::new() {
                Some(s) => $function(s, $($argument),*),
                None => unreachable!("the ISA in use was checked"),
            },
            _ => $function(crate::isa::Portable, $($argument),*),
        }
    };
}
pub(crate) use on_isa;
