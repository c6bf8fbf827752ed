//! What a precision means on this processor, for users.

use cifar_kernels::Isa;
use cifar_kernels::bf16::uses_amx;
use cifar_model::Precision;

use crate::{Reporter, Result};

/// Returns what `precision` means here; `None` for `f32`.
///
/// # Errors
/// For `bf16`: if the processor has AMX, but it cannot be used.
pub(super) fn precision_in_words(precision: Precision) -> Result<Option<String>> {
    Ok(match (precision, precision.resolved()) {
        (Precision::Auto, Precision::F32) => {
            let why = uses_amx().err().map_or("AMX is not available".to_string(), |problem| problem.to_string());
            Some(format!("auto: computes in f32, since {why}"))
        }
        (_, Precision::Bf16) if uses_amx()? => Some("bf16: computes with AMX".into()),
        (_, Precision::Bf16) if cifar_kernels::isa()? == Isa::Avx512 => {
            Some("bf16: AMX is not available and is emulated, two to four times slower than f32".into())
        }
        (_, Precision::Bf16) => {
            Some("bf16: AMX is not available and is emulated, about 30 times slower than f32".into())
        }
        _ => None,
    })
}

/// Reports what `precision` means here, if it is not `f32`.
///
/// # Errors
/// As [`precision_in_words`].
pub(super) fn note_precision(precision: Precision, reporter: &dyn Reporter) -> Result<()> {
    match precision_in_words(precision)? {
        Some(words) if words.contains("emulated") => reporter.warn(&format!("precision {words}")),
        Some(words) => reporter.note(&format!("precision {words}")),
        None => {}
    }
    Ok(())
}
