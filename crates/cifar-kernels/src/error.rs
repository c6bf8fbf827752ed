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

/// Refuses a matrix of `rows` rows, `stride` values apart, if the start of its last row does not fit
/// the `u32` offsets of the matrix products.
pub(crate) fn check_offsets(op: &'static str, rows: usize, stride: usize) -> Result<()> {
    let last = rows.saturating_sub(1).checked_mul(stride);
    if last.is_some_and(|last| u32::try_from(last).is_ok()) {
        return Ok(());
    }
    let problem = format!(
        "{rows} rows of {stride} values are too many for one call: the last row may start at most {} values after the first",
        u32::MAX
    );
    Err(KernelError::Shape { op, problem })
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
