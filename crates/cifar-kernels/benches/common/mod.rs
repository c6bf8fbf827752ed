//! Shared by the benchmarks.

use std::time::Duration;

use criterion::Criterion;

/// Images per batch.
pub(crate) const BATCH: usize = 128;

/// Ten samples and about two seconds per kernel, so that the whole suite takes minutes. Flags on
/// the command line override this.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// Returns values between −1 and 1, none of them subnormal, which would be slow on some processors.
pub(crate) fn values(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as f32 / 1024.0 - 0.9997).collect()
}
