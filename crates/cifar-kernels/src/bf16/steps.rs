//! The products of a convolution, as lists of pairs of blocks.
//!
//! A convolution is a sum over triples of an input pixel, a tap of the filter and an output pixel.
//! All passes sum the same triples. They differ in what they sum by: the forward pass by output
//! pixel, the input gradient by input pixel, and the weight gradient by tap.

use std::ops::Range;

use super::Bf16;
use super::blocked::BLOCK;
use super::pool::pixel_in_window;
use crate::{Conv2dShape, PoolShape};

/// One product of two blocks: their positions in blocks from the start of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Step {
    pub(super) a: u32,
    pub(super) b: u32,
    /// The first of the cache lines to prefetch for the next list, counted from the start of A. AMX
    /// fetches 11 in each step, so that nine steps fetch the three blocks that are new to the next
    /// pixel of a row.
    pub(super) ahead: u32,
}

/// The steps of one sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps<'a> {
    list: &'a [Step],
    /// Every `a` is below the first number and every `b` is below the second one.
    below: [usize; 2],
}

impl Steps<'static> {
    /// Two products, to compare implementations.
    #[cfg(any(test, target_arch = "x86_64"))]
    pub(super) const TWO: Self =
        Self { list: &[Step { a: 0, b: 1, ahead: 0 }, Step { a: 1, b: 0, ahead: 0 }], below: [2, 2] };
    #[cfg(test)]
    pub(super) const ONE: Self = Self { list: &[Step { a: 0, b: 0, ahead: 0 }], below: [1, 1] };
    #[cfg(test)]
    pub(super) const NONE: Self = Self { list: &[], below: [1, 1] };
}

impl<'a> Steps<'a> {
    pub(super) fn list(&self) -> &'a [Step] {
        self.list
    }

    /// Returns the numbers that every `a` and every `b` is below.
    pub(super) fn below(&self) -> [usize; 2] {
        self.below
    }

    /// Returns the steps with `b` in the given range. The list must be sorted by `b`.
    pub(super) fn with_b(&self, range: Range<usize>) -> Self {
        let place = |b: usize| self.list.partition_point(|step| (step.b as usize) < b);
        Self { list: &self.list[place(range.start)..place(range.end)], ..*self }
    }
}

/// The steps of all sums of a pass.
#[derive(Debug)]
pub(super) struct StepLists {
    steps: Vec<Step>,
    /// Where each list ends.
    ends: Vec<usize>,
    below: [usize; 2],
}

impl StepLists {
    /// One list per output pixel. A is the input, B the taps.
    pub(super) fn by_output_pixel(shape: &Conv2dShape) -> Self {
        let [input, taps, output] = counts(shape);
        Self::sorted(shape, output, [input, taps], |[input, tap, output]| Some((output, input, tap))).looking_ahead()
    }

    /// One list per output pixel inside of a pooling window. The pixels of a window follow each
    /// other. A is the input, B the taps.
    pub(super) fn by_window(shape: &Conv2dShape, pool: &PoolShape) -> Self {
        let [input, taps, output] = counts(shape);
        let (windows, places) = (pool.out_height * pool.out_width, pool.window * pool.window);
        let mut lists = vec![None; output];
        for list in 0..windows * places {
            lists[pixel_in_window(pool, list / places, list % places)] = Some(list);
        }
        let part = |[input, tap, output]: [usize; 3]| lists[output].map(|list| (list, input, tap));
        Self::sorted(shape, windows * places, [input, taps], part).looking_ahead()
    }

    /// One list per input pixel. A is the output's gradient, B the taps.
    pub(super) fn by_input_pixel(shape: &Conv2dShape) -> Self {
        let [input, taps, output] = counts(shape);
        Self::sorted(shape, input, [output, taps], |[input, tap, output]| Some((input, output, tap))).looking_ahead()
    }

    /// Sorts the triples into `lists` lists. `part` returns the list, A and B of a triple, or
    /// `None` if it is in no list.
    fn sorted(
        shape: &Conv2dShape,
        lists: usize,
        below: [usize; 2],
        part: impl Fn([usize; 3]) -> Option<(usize, usize, usize)>,
    ) -> Self {
        // First the start of each list, which becomes its end while the list is filled.
        let mut ends = vec![0; lists + 1];
        for_each_triple(shape, |triple| {
            if let Some((list, ..)) = part(triple) {
                ends[list + 1] += 1;
            }
        });
        for list in 0..lists {
            ends[list + 1] += ends[list];
        }
        let mut steps = vec![Step { a: 0, b: 0, ahead: 0 }; ends[lists]];
        for_each_triple(shape, |triple| {
            if let Some((list, a, b)) = part(triple) {
                steps[ends[list]] = Step { a: a as u32, b: b as u32, ahead: 0 };
                ends[list] += 1;
            }
        });
        Self { steps, ends, below }
    }

    /// Spreads the blocks of A that are in the next list, but not in this one, over the steps of
    /// each list.
    fn looking_ahead(mut self) -> Self {
        const LINES: usize = BLOCK * size_of::<Bf16>() / 64;
        for list in 0..self.ends.len().saturating_sub(2) {
            let (start, end, next) = (self.start(list), self.ends[list], self.ends[list + 1]);
            let (these, others) = self.steps[start..next].split_at_mut(end - start);
            // Lists are sorted by A.
            let is_new = |other: &&Step| these.binary_search_by_key(&other.a, |step| step.a).is_err();
            let new: Vec<u32> = others.iter().filter(is_new).map(|step| step.a).collect();
            let steps = these.len();
            for (at, step) in these.iter_mut().enumerate() {
                let line = at * new.len() * LINES / steps;
                let block = new.get(line / LINES).map_or(0, |block| *block as usize);
                // If the number does not fit, another line is fetched, which is harmless.
                step.ahead = (block * LINES + line % LINES) as u32;
            }
        }
        self
    }

    /// Returns the numbers that every `a` and every `b` is below.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn below(&self) -> [usize; 2] {
        self.below
    }

    fn start(&self, list: usize) -> usize {
        if list == 0 { 0 } else { self.ends[list - 1] }
    }

    pub(super) fn get(&self, list: usize) -> Steps<'_> {
        Steps { list: &self.steps[self.start(list)..self.ends[list]], below: self.below }
    }
}

/// The steps of the weight gradient, for each tap and in a second order for all taps of a row of
/// the kernel. A is the input, B the output's gradient.
#[derive(Debug)]
pub(super) struct TapSteps {
    /// One list per tap, sorted by output pixel.
    pub(super) by_tap: StepLists,
    /// Lists of an input pixel with the output pixels of all taps of a row: one list per row of
    /// the kernel and band of output rows. There are none unless the kernel has three columns.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AMX uses them"))]
    rows: Vec<Vec<RowStep>>,
    kernel: usize,
    /// Output pixels of a band.
    band: usize,
    bands: usize,
}

/// The products of one input pixel in a row of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RowStep {
    /// The position of the input pixel.
    pub(super) a: u32,
    /// The position of the output pixel of each tap, or [`Self::NONE`].
    pub(super) b: [u32; Self::TAPS],
}

impl RowStep {
    /// The taps of a row.
    pub(super) const TAPS: usize = 3;
    /// There is no output pixel.
    pub(super) const NONE: u32 = u32::MAX;
}

/// Output pixels that stay in the second-level cache while all taps are computed: 512 KiB each for
/// input and gradient.
const BAND: usize = 256;

impl TapSteps {
    pub(super) fn new(shape: &Conv2dShape) -> Self {
        let [input, taps, output] = counts(shape);
        let by_tap = StepLists::sorted(shape, taps, [input, output], |[input, tap, output]| Some((tap, input, output)));
        let rows_of_band = (BAND / shape.out_width).max(1);
        let bands = shape.out_height.div_ceil(rows_of_band);
        let mut rows = vec![];
        if shape.kernel == RowStep::TAPS {
            for row in 0..shape.kernel {
                for band in 0..bands {
                    let of_band = band * rows_of_band..shape.out_height.min((band + 1) * rows_of_band);
                    rows.push(of_band.flat_map(|y| row_steps(shape, row, y)).collect());
                }
            }
        }
        Self { by_tap, rows, kernel: shape.kernel, band: rows_of_band * shape.out_width, bands }
    }

    pub(super) fn bands(&self) -> usize {
        self.bands
    }

    /// Returns the output pixels of a band.
    pub(super) fn band(&self, band: usize) -> Range<usize> {
        band * self.band..(band + 1) * self.band
    }

    /// Returns the steps of a row of the kernel in a band, if it has three columns.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn row(&self, row: usize, band: usize) -> Option<&[RowStep]> {
        self.rows.get(row * self.bands + band).map(Vec::as_slice)
    }

    /// Returns the number of columns of the kernel.
    pub(super) fn kernel(&self) -> usize {
        self.kernel
    }
}

/// Returns the steps of a row of the kernel for an output row, by input pixel.
fn row_steps(shape: &Conv2dShape, row: usize, y: usize) -> Vec<RowStep> {
    let Some(in_row) = (y * shape.stride + row).checked_sub(shape.padding).filter(|at| *at < shape.in_height) else {
        return vec![];
    };
    let output = |column: usize, tap: usize| {
        let x = (column + shape.padding).checked_sub(tap)?;
        (x % shape.stride == 0 && x / shape.stride < shape.out_width).then_some(x / shape.stride)
    };
    let step = |column: usize| {
        let mut b = [RowStep::NONE; RowStep::TAPS];
        for (tap, b) in b.iter_mut().enumerate() {
            *b = output(column, tap).map_or(RowStep::NONE, |x| (y * shape.out_width + x) as u32);
        }
        RowStep { a: (in_row * shape.in_width + column) as u32, b }
    };
    (0..shape.in_width).map(step).filter(|step| step.b != [RowStep::NONE; RowStep::TAPS]).collect()
}

/// Returns the number of input pixels, taps and output pixels.
pub(super) fn counts(shape: &Conv2dShape) -> [usize; 3] {
    [shape.in_height * shape.in_width, shape.kernel * shape.kernel, shape.out_height * shape.out_width]
}

/// Calls `visit([input pixel, tap, output pixel])` for every tap inside of the image, by output
/// pixel and then by tap.
fn for_each_triple(shape: &Conv2dShape, mut visit: impl FnMut([usize; 3])) {
    let inside = |window: usize, tap: usize, size: usize| {
        (window * shape.stride + tap).checked_sub(shape.padding).filter(|at| *at < size)
    };
    for y in 0..shape.out_height {
        for x in 0..shape.out_width {
            for i in 0..shape.kernel {
                let Some(row) = inside(y, i, shape.in_height) else { continue };
                for j in 0..shape.kernel {
                    let Some(column) = inside(x, j, shape.in_width) else { continue };
                    visit([row * shape.in_width + column, i * shape.kernel + j, y * shape.out_width + x]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conv2dDimensions;

    #[test]
    fn the_steps_of_a_pixel_fetch_what_is_new_to_the_next() {
        let dims = Conv2dDimensions {
            images: 32,
            height: 5,
            width: 5,
            in_channels: 32,
            out_channels: 32,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let lists = StepLists::by_output_pixel(&Conv2dShape::new(dims).expect("a valid shape"));
        let centre = lists.get(12).list();
        let fetched: Vec<u32> = centre.iter().flat_map(|step| step.ahead..step.ahead + 11).collect();
        // The fifth column of the three rows around the centre.
        for pixel in [9, 14, 19] {
            assert!((pixel * 32..(pixel + 1) * 32).all(|line| fetched.contains(&line)), "{pixel}");
        }
    }
}
