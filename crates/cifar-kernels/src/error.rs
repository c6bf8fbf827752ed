//! The errors of kernels.

/// The result of a kernel.
pub type Result<T> = std::result::Result<T, KernelError>;

/// The reason why a kernel refused its arguments. Its outputs are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The dimensions do not fit together.
    #[error("{op}: {problem}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was found and what is allowed.
        problem: String,
    },
    /// A slice does not have the length that the shape requires.
    #[error("{op}: `{argument}` has {found} elements, expected {expected}")]
    Length {
        /// The operation.
        op: &'static str,
        /// The name of the slice.
        argument: &'static str,
        /// Its length.
        found: usize,
        /// The length that the shape requires.
        expected: usize,
    },
    /// A label is not the index of a class.
    #[error("softmax_cross_entropy: label {label} of row {row} is not below {classes}")]
    Label {
        /// The row.
        row: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The requested ISA is not available.
    #[error("{problem}")]
    Isa {
        /// Where the request came from, and what is wrong with it.
        problem: String,
    },
    /// A value is out of its range.
    #[error("{op}: `{argument}` is {found}, allowed is {allowed}")]
    Range {
        /// The operation.
        op: &'static str,
        /// The name of the argument.
        argument: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        allowed: &'static str,
    },
}

/// Checks that a slice has the `expected` length.
pub(crate) fn check_len<T>(op: &'static str, argument: &'static str, slice: &[T], expected: usize) -> Result<()> {
    if slice.len() == expected {
        Ok(())
    } else {
        Err(KernelError::Length { op, argument, found: slice.len(), expected })
    }
}

/// Checks that a matrix of `rows` rows, `stride` values apart, can be addressed by the `u32` row
/// offsets of the matrix products.
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

/// Returns the product of dimensions, all of which must be at least 1.
pub(crate) fn product(op: &'static str, dims: &[usize]) -> Result<usize> {
    let product = dims.iter().try_fold(1usize, |p, d| p.checked_mul(*d)).filter(|p| *p <= isize::MAX as usize / 8);
    match product {
        Some(0) => Err(KernelError::Shape { op, problem: format!("{dims:?} has a dimension of 0") }),
        Some(product) => Ok(product),
        None => Err(KernelError::Shape { op, problem: format!("{dims:?} has too many elements") }),
    }
}
