//! The products of a convolution, as lists of pairs of blocks.
//!
//! A convolution is a sum over triples of an input pixel, a tap of the filter and an output pixel.
//! All passes sum the same triples. They differ in what they sum by: the forward pass by output
//! pixel, the input gradient by input pixel, and the weight gradient by tap.

use crate::Conv2dShape;

/// One product of two blocks: their positions in blocks from the start of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Step {
    pub(super) a: u32,
    pub(super) b: u32,
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
    pub(super) const TWO: Self = Self { list: &[Step { a: 0, b: 1 }, Step { a: 1, b: 0 }], below: [2, 2] };
    #[cfg(test)]
    pub(super) const ONE: Self = Self { list: &[Step { a: 0, b: 0 }], below: [1, 1] };
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
    pub(super) fn with_b(&self, range: std::ops::Range<usize>) -> Self {
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
        Self::sorted(shape, output, [input, taps], |[input, tap, output]| (output, input, tap))
    }

    /// One list per input pixel. A is the output's gradient, B the taps.
    pub(super) fn by_input_pixel(shape: &Conv2dShape) -> Self {
        let [input, taps, output] = counts(shape);
        Self::sorted(shape, input, [output, taps], |[input, tap, output]| (input, output, tap))
    }

    /// One list per tap, sorted by output pixel. A is the input, B the output's gradient.
    pub(super) fn by_tap(shape: &Conv2dShape) -> Self {
        let [input, taps, output] = counts(shape);
        Self::sorted(shape, taps, [input, output], |[input, tap, output]| (tap, input, output))
    }

    /// Sorts the triples into `lists` lists. `part` returns the list, A and B of a triple.
    fn sorted(
        shape: &Conv2dShape,
        lists: usize,
        below: [usize; 2],
        part: impl Fn([usize; 3]) -> (usize, usize, usize),
    ) -> Self {
        // First the start of each list, which becomes its end while the list is filled.
        let mut ends = vec![0; lists + 1];
        for_each_triple(shape, |triple| ends[part(triple).0 + 1] += 1);
        for list in 0..lists {
            ends[list + 1] += ends[list];
        }
        let mut steps = vec![Step { a: 0, b: 0 }; ends[lists]];
        for_each_triple(shape, |triple| {
            let (list, a, b) = part(triple);
            steps[ends[list]] = Step { a: a as u32, b: b as u32 };
            ends[list] += 1;
        });
        Self { steps, ends, below }
    }

    pub(super) fn get(&self, list: usize) -> Steps<'_> {
        let start = if list == 0 { 0 } else { self.ends[list - 1] };
        Steps { list: &self.steps[start..self.ends[list]], below: self.below }
    }
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
