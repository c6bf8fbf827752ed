//! What a precision means on this processor, for users.

use cifar_kernels::Isa;
use cifar_kernels::bf16::uses_amx;
use cifar_model::Precision;

use crate::{Reporter, Result};

/// What a precision means on this processor.
pub(super) struct Meaning {
    /// In words.
    pub(super) words: String,
    /// Whether it is slower than `f32`.
    is_slow: bool,
}

/// Returns what `precision` means here; `None` for `f32`.
///
/// # Errors
/// For `bf16`: if the processor has AMX, but it cannot be used.
pub(super) fn meaning(precision: Precision) -> Result<Option<Meaning>> {
    let (words, is_slow) = match (precision, precision.resolved()) {
        (Precision::Auto, Precision::F32) => {
            let why = uses_amx().err().map_or("AMX is not available".to_string(), |problem| problem.to_string());
            (format!("auto: computes in f32, since {why}"), false)
        }
        (_, Precision::Bf16) if uses_amx()? => ("bf16: computes with AMX".to_string(), false),
        (_, Precision::Bf16) => {
            let slower = if cifar_kernels::isa()? == Isa::Portable { "about 30" } else { "two to three" };
            (format!("bf16: AMX is not available and is emulated, {slower} times slower than f32"), true)
        }
        _ => return Ok(None),
    };
    Ok(Some(Meaning { words, is_slow }))
}

/// Reports what `precision` means here, if it is not `f32`.
///
/// # Errors
/// As [`meaning`].
pub(super) fn note_precision(precision: Precision, reporter: &dyn Reporter) -> Result<()> {
    if let Some(Meaning { words, is_slow }) = meaning(precision)? {
        let text = format!("precision {words}");
        if is_slow { reporter.warn(&text) } else { reporter.note(&text) }
    }
    Ok(())
}
