//! The number types of feature maps.

use candle_core::{Error, Result};
use cifar_kernels::bf16::{Bf16, BlockedShape};
use cifar_kernels::{Buffer, Plain};
use rayon::prelude::*;

/// Values per task of an addition.
const CHUNK: usize = 16 * 1024;

/// The values of a feature map, or their gradient.
#[derive(Debug)]
pub(crate) enum Values {
    /// In the order of the map's dimensions.
    F32(Buffer<f32>),
    /// In the blocked layout of [`cifar_kernels::bf16`].
    Bf16(Buffer<Bf16>),
}

/// A number type of feature maps.
pub(crate) trait Number: Plain {
    /// Returns the number of stored values of a map with these dimensions.
    fn len(dims: &[usize]) -> Result<usize>;
    /// Returns values of this type as values of any type.
    fn wrap(values: Buffer<Self>) -> Values;
    /// Returns values of this type.
    ///
    /// # Errors
    /// If they have the other type.
    fn unwrap(values: Values) -> Result<Buffer<Self>>;
    /// Returns `sum` + `part`. Both are equally long.
    fn sum(sum: Buffer<Self>, part: &[Self]) -> Buffer<Self>;
}

impl Number for f32 {
    fn len(dims: &[usize]) -> Result<usize> {
        Ok(dims.iter().product())
    }

    fn wrap(values: Buffer<Self>) -> Values {
        Values::F32(values)
    }

    fn unwrap(values: Values) -> Result<Buffer<Self>> {
        if let Values::F32(values) = values { Ok(values) } else { Err(other_type()) }
    }

    fn sum(sum: Buffer<Self>, part: &[Self]) -> Buffer<Self> {
        added(sum, part, |s, p| s + p)
    }
}

impl Number for Bf16 {
    fn len(dims: &[usize]) -> Result<usize> {
        Ok(blocked_shape(dims)?.len())
    }

    fn wrap(values: Buffer<Self>) -> Values {
        Values::Bf16(values)
    }

    fn unwrap(values: Values) -> Result<Buffer<Self>> {
        if let Values::Bf16(values) = values { Ok(values) } else { Err(other_type()) }
    }

    fn sum(sum: Buffer<Self>, part: &[Self]) -> Buffer<Self> {
        added(sum, part, |s, p| Self::from_f32(s.to_f32() + p.to_f32()))
    }
}

fn other_type() -> Error {
    Error::Msg("feature map: the gradient has another number type than its map".into())
}

fn added<N: Number>(mut sum: Buffer<N>, part: &[N], add: impl Fn(N, N) -> N + Sync) -> Buffer<N> {
    sum.par_chunks_mut(CHUNK).zip(part.par_chunks(CHUNK)).for_each(|(sum, part)| {
        for (s, p) in sum.iter_mut().zip(part) {
            *s = add(*s, *p);
        }
    });
    sum
}

/// Returns the blocked layout of `[N, H, W, C]`, or of `[N, F]` as images of one pixel.
///
/// # Errors
/// If a dimension is 0, or there are not two or four of them.
pub(crate) fn blocked_shape(dims: &[usize]) -> Result<BlockedShape> {
    let dims = match *dims {
        [n, h, w, c] => [n, h, w, c],
        [n, f] => [n, 1, 1, f],
        _ => return Err(Error::Msg(format!("feature map: expected [N, H, W, C] or [N, F], found {dims:?}"))),
    };
    BlockedShape::new(dims).map_err(Error::wrap)
}
