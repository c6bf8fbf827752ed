//! The portable arm: im2col and the `gemm` crate, plain loops for the rest. Lengths were checked by the entry points.

pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod pool;
pub(crate) mod reduce;

mod vectorised;

mod matmul;

pub(crate) use vectorised::vectorised;
