//! Whether there is enough memory, when buffers wait for reuse.

use cifar_data::{Result, memory};

/// Refuses `what` if it needs more than there is. An earlier run of this process may have left buffers that
/// nobody uses; the system counts them as taken. They are freed before `what` is refused.
///
/// # Errors
/// Those of [`cifar_data::memory::check`].
pub fn check_memory(what: &str, needed: u64, remedy: &str) -> Result<()> {
    memory::check(what, needed, remedy).or_else(|_| {
        cifar_kernels::release_buffers();
        memory::check(what, needed, remedy)
    })
}
