//! The gradient of a batch norm's output, as it is stored with and without pooling after it.

use super::load;
use crate::PoolShape;
use crate::isa::Simd;

/// The gradient with respect to the output, by rows of the input.
pub(crate) trait OutputGradient: Copy + Sync {
    /// A row of the input.
    type Row;
    /// Returns the row `row`.
    fn row(self, row: usize) -> Self::Row;
    /// Moves to the next row.
    fn advance(self, row: &mut Self::Row);
    /// Loads the gradient of `n` channels from `c`.
    ///
    /// # Safety
    /// The row is in the input, and at least `n` channels remain from `c`.
    unsafe fn load<S: Simd>(self, s: S, row: &Self::Row, c: usize, n: usize) -> S::V;
}

/// The gradient of each value, `[rows, channels]`.
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) channels: usize,
}

impl OutputGradient for Dense<'_> {
    type Row = usize;

    fn row(self, row: usize) -> usize {
        row * self.channels
    }

    #[inline(always)]
    fn advance(self, row: &mut usize) {
        *row += self.channels;
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, row: &usize, c: usize, n: usize) -> S::V {
        // SAFETY: the caller guarantees the row and the channels.
        unsafe { load(s, self.values, row + c, n) }
    }
}

/// The gradient of each maximum. That of all other values is 0.
#[derive(Clone, Copy)]
pub(crate) struct Pooled<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) places: &'a [u8],
    pub(crate) shape: &'a PoolShape,
}

/// A pixel of the input of a pooling.
pub(crate) struct Pixel {
    image: usize,
    y: usize,
    x: usize,
}

impl OutputGradient for Pooled<'_> {
    type Row = Pixel;

    fn row(self, row: usize) -> Pixel {
        let PoolShape { in_height, in_width, .. } = *self.shape;
        Pixel { image: row / (in_height * in_width), y: row / in_width % in_height, x: row % in_width }
    }

    #[inline(always)]
    fn advance(self, Pixel { image, y, x }: &mut Pixel) {
        *x += 1;
        if *x == self.shape.in_width {
            (*x, *y) = (0, *y + 1);
            if *y == self.shape.in_height {
                (*y, *image) = (0, *image + 1);
            }
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, Pixel { image, y, x }: &Pixel, c: usize, n: usize) -> S::V {
        let PoolShape { window, out_height, out_width, channels, .. } = *self.shape;
        let (row, column) = (y / window, x / window);
        if row >= out_height || column >= out_width {
            return s.splat(0.0);
        }
        let at = ((image * out_height + row) * out_width + column) * channels + c;
        let place = s.splat((y % window * window + x % window) as f32);
        // SAFETY: the window is one of the image's, and the caller guarantees the channels.
        unsafe {
            let places = s.load_bytes(self.places.as_ptr().add(at), n);
            s.where_equal(places, place, load(s, self.values, at, n), s.splat(0.0))
        }
    }
}
