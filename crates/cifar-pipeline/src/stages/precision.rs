//! What a precision means on this processor, for users.

use cifar_kernels::bf16::uses_amx;
use cifar_model::Precision;

use crate::{Reporter, Result};

/// Reports what `precision` means here, if it is not `f32`.
///
/// # Errors
/// For `bf16`: if the processor has AMX, but it cannot be used.
pub(super) fn note_precision(precision: Precision, reporter: &dyn Reporter) -> Result<()> {
    match (precision, precision.resolved()) {
        (Precision::Auto, Precision::F32) => {
            let why = uses_amx().err().map_or("AMX is not available".to_string(), |problem| problem.to_string());
            reporter.note(&format!("precision auto: computes in f32, since {why}"));
        }
        (_, Precision::Bf16) if uses_amx()? => reporter.note("precision bf16: computes with AMX"),
        (_, Precision::Bf16) => reporter.warn(
            "precision bf16: AMX is not available, so its arithmetic is emulated; the bits are the same, f32 is faster",
        ),
        _ => {}
    }
    Ok(())
}
