//! Plain loops, compiled for the vector instructions at hand.

/// Runs `work`, and what is inlined into it, as compiled for the widest vector instructions of this processor.
///
/// Its results do not depend on them: the compiler neither reorders nor fuses floating-point operations.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
