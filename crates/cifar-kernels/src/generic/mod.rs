//! The kernels, written once over the operations of [`Simd`](crate::arms::Simd).
//!
//! Functions here take raw pointers where several threads write parts of one output; the safe entries in the crate's
//! root check every length first and say, at the call, why no pointer leaves its slice.

pub(crate) mod activation;
pub(crate) mod batch_norm;
pub(crate) mod im2col;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod scratch;
pub(crate) mod shared;
pub(crate) mod winograd;

/// Calls `function(arm, arguments…)` for the arm in use.
macro_rules! on_arm {
    ($function:path, $($argument:expr),* $(,)?) => {
        match crate::arm()? {
            #[cfg(target_arch = "x86_64")]
            crate::Arm::Avx512 => match crate::arms::Avx512::new() {
                Some(s) => $function(s, $($argument),*),
                None => unreachable!("the arm in use was checked"),
            },
            #[cfg(target_arch = "x86_64")]
            crate::Arm::Avx2 => match crate::arms::Avx2::new() {
                Some(s) => $function(s, $($argument),*),
                None => unreachable!("the arm in use was checked"),
            },
            _ => $function(crate::arms::Portable, $($argument),*),
        }
    };
}
pub(crate) use on_arm;
