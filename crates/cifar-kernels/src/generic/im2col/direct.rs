//! Windows that are read where they are, without a copy: those of images without padding.

use std::ops::Range;

use super::cut::Cut;
use crate::Conv2dShape;
use crate::generic::matmul::{DEPTH, Runs};

/// The windows of an image. Each row of a window is a run of values of the image.
pub(super) struct Direct {
    pub(super) runs: Runs,
    /// Where each window of an image starts.
    places: Vec<u32>,
}

impl Direct {
    /// Returns the windows, unless they have padding, a window has more values than [`DEPTH`], or an
    /// image has more than [`u32::MAX`].
    pub(super) fn new(shape: &Conv2dShape) -> Option<Self> {
        let (row, c) = (shape.in_width * shape.in_channels, shape.in_channels);
        let fits = u32::try_from(shape.in_height * row).is_ok();
        if shape.padding > 0 || shape.window() > DEPTH || !fits {
            return None;
        }
        let place = |y: usize, x: usize| (y * shape.stride * row + x * shape.stride * c) as u32;
        let places = (0..shape.out_height).flat_map(|y| (0..shape.out_width).map(move |x| place(y, x)));
        Some(Self { runs: Runs { length: shape.kernel * c, distance: row }, places: places.collect() })
    }

    /// Returns where the image of some windows is in the input, and where its windows are in it; or
    /// `None` for windows of several images.
    pub(super) fn places(&self, cut: &Cut, windows: Range<usize>) -> Option<(Range<usize>, &[u32])> {
        let (image, len) = (windows.start / cut.windows, cut.shape.input_len() / cut.shape.batch);
        let first = windows.start - image * cut.windows;
        let places = self.places.get(first..first + windows.len())?;
        Some((image * len..(image + 1) * len, places))
    }
}
