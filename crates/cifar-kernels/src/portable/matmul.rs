//! The one call of the `gemm` crate, behind a checked interface.
#![expect(unsafe_code, reason = "gemm takes raw pointers")]

/// A matrix that is read: element (r, c) is `values[r · row_stride + c · column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix has rows × columns values");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Its transpose, without moving a value.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `output` [left.rows, right.columns], row after row, = left · right, or += if `accumulate`. On the calling thread.
pub(crate) fn matmul(left: Matrix, right: Matrix, output: &mut [f32], accumulate: bool) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner dimensions agree");
    assert_eq!(output.len(), m * n, "the output has rows × columns values");
    // SAFETY: `Matrix` holds rows · columns values, and its strides are (columns, 1) or, transposed, (1, columns), so
    // every element (r, c) with r < rows, c < columns lies inside its slice. `output` has m · n values and strides
    // (n, 1). The three slices live through the call, and `output` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
