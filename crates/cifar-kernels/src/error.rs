//! What a kernel refuses.

/// The result of a kernel.
pub type Result<T> = std::result::Result<T, KernelError>;

/// Why a kernel refused its arguments. Nothing was written then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The dimensions make no sense together.
    #[error("{op}: {problem}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was found and what is expected.
        problem: String,
    },
    /// A slice has another length than the shape says.
    #[error("{op}: `{argument}` has {found} elements, expected {expected}")]
    Length {
        /// The operation.
        op: &'static str,
        /// The slice.
        argument: &'static str,
        /// Its length.
        found: usize,
        /// What the shape says.
        expected: usize,
    },
    /// A label has no class.
    #[error("softmax_cross_entropy: label {label} of row {row} is not below {classes}")]
    Label {
        /// The row.
        row: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The arm that was asked for cannot be used.
    #[error("{problem}")]
    Arm {
        /// Who asked for what, and what is there.
        problem: String,
    },
    /// A number lies outside of its range.
    #[error("{op}: `{argument}` is {found}, allowed is {allowed}")]
    Range {
        /// The operation.
        op: &'static str,
        /// The number.
        argument: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        allowed: &'static str,
    },
}

/// Refuses a slice whose length is not `expected`.
pub(crate) fn check_len<T>(op: &'static str, argument: &'static str, slice: &[T], expected: usize) -> Result<()> {
    if slice.len() == expected {
        Ok(())
    } else {
        Err(KernelError::Length { op, argument, found: slice.len(), expected })
    }
}

/// The product of dimensions that must all be at least 1.
pub(crate) fn product(op: &'static str, dims: &[usize]) -> Result<usize> {
    let product = dims.iter().try_fold(1usize, |p, d| p.checked_mul(*d)).filter(|p| *p <= isize::MAX as usize / 8);
    match product {
        Some(0) => Err(KernelError::Shape { op, problem: format!("{dims:?} has a dimension of 0") }),
        Some(product) => Ok(product),
        None => Err(KernelError::Shape { op, problem: format!("{dims:?} has too many elements") }),
    }
}
