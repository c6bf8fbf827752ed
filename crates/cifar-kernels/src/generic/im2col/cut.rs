//! Divides a convolution into tasks and blocks of windows, and copies windows to and from matrices.

use std::ops::Range;

use crate::Conv2dShape;
use crate::error::{Result, check_offsets};
use crate::generic::matmul::row_offsets;
use crate::generic::shared::Shared;
use crate::isa::Simd;

/// Values of a block of windows, chosen to stay in the second-level cache.
const LAID_OUT: usize = 96 * 1024;
/// Minimum and maximum windows per block: enough to outweigh the cost of reading the filters.
pub(super) const WINDOWS: [usize; 2] = [48, 256];

/// Checks that the blocks of a convolution fit the offsets of the matrix products.
pub(crate) fn check(op: &'static str, shape: &Conv2dShape) -> Result<()> {
    check_offsets(op, Cut::new(shape).block, shape.window().max(shape.out_channels))
}

/// A convolution, divided into tasks of whole images and blocks of windows.
pub(super) struct Cut<'a> {
    pub(super) shape: &'a Conv2dShape,
    /// Images per task.
    pub(super) group: usize,
    /// Windows per block.
    pub(super) block: usize,
    /// Windows per image.
    pub(super) windows: usize,
}

impl<'a> Cut<'a> {
    pub(super) fn new(shape: &'a Conv2dShape) -> Self {
        let block = (LAID_OUT / shape.window()).clamp(WINDOWS[0], WINDOWS[1]);
        let windows = shape.out_height * shape.out_width;
        Self { shape, group: (block / windows).clamp(1, shape.batch), block, windows }
    }

    pub(super) fn tasks(&self) -> usize {
        self.shape.batch.div_ceil(self.group)
    }

    /// Returns the windows of `task`, numbered over the whole batch.
    pub(super) fn windows(&self, task: usize) -> Range<usize> {
        let (first, images) = (task * self.group, self.group);
        first * self.windows..self.shape.batch.min(first + images) * self.windows
    }

    /// Divides windows into blocks.
    pub(super) fn blocks(&self, windows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (end, block) = (windows.end, self.block);
        windows.step_by(block).map(move |start| start..end.min(start + block))
    }

    /// Calls `inside(input range, window offset)` for every run of taps inside an image and
    /// `outside(range)` for taps in the padding. A run is the part of a filter row inside the
    /// image.
    #[inline(always)]
    fn for_each_run<S: Simd>(
        &self,
        s: S,
        windows: Range<usize>,
        mut inside: impl FnMut(Range<usize>, usize),
        mut outside: impl FnMut(Range<usize>),
    ) {
        s.vectorize(
            #[inline(always)]
            move || {
                let shape = self.shape;
                let (c, k, window) = (shape.in_channels, shape.kernel, shape.window());
                let (mut image, at) = (windows.start / self.windows, windows.start % self.windows);
                let (mut y, mut x) = (at / shape.out_width, at % shape.out_width);
                for index in 0..windows.len() {
                    // The window's left edge in padded coordinates. Filter columns first..last are inside
                    // the image.
                    let left = x * shape.stride;
                    let first = shape.padding.saturating_sub(left).min(k);
                    let last = (shape.in_width + shape.padding).saturating_sub(left).clamp(first, k);
                    for i in 0..k {
                        let start = index * window + i * k * c;
                        let row = y * shape.stride + i;
                        if first == last || row < shape.padding || row >= shape.in_height + shape.padding {
                            outside(start..start + k * c);
                            continue;
                        }
                        outside(start..start + first * c);
                        let row = image * shape.in_height + row - shape.padding;
                        let from = (row * shape.in_width + left + first - shape.padding) * c;
                        inside(from..from + (last - first) * c, start + first * c);
                        outside(start + last * c..start + k * c);
                    }
                    x += 1;
                    if x == shape.out_width {
                        (x, y) = (0, y + 1);
                    }
                    if y == shape.out_height {
                        (y, image) = (0, image + 1);
                    }
                }
            },
        );
    }

    /// Copies windows into the rows of a matrix.
    pub(super) fn gather<S: Simd>(&self, s: S, windows: Range<usize>, images: &[f32], laid_out: &mut [f32]) {
        let to = Shared::new(laid_out);
        let len = laid_out.len();
        assert_eq!(len, windows.len() * self.shape.window(), "every window has its place");
        self.for_each_run(
            s,
            windows,
            #[inline(always)]
            |from, at| {
                let run = &images[from];
                // SAFETY: runs are inside their windows, and `laid_out` has all windows.
                unsafe { copy(s, run.as_ptr(), to.at(at), run.len()) };
            },
            #[inline(always)]
            |padding| {
                // Most are empty, and a call would take longer than a short run.
                if !padding.is_empty() {
                    // SAFETY: as above.
                    unsafe { std::ptr::write_bytes(to.at(padding.start), 0, padding.len()) };
                }
            },
        );
    }

    /// Adds the rows of a matrix to the pixels of their windows.
    ///
    /// # Safety
    /// No other thread accesses the images of these windows.
    pub(super) unsafe fn scatter_add<S: Simd>(
        &self,
        s: S,
        windows: Range<usize>,
        laid_out: &[f32],
        images: Shared<f32>,
    ) {
        self.for_each_run(
            s,
            windows,
            #[inline(always)]
            |to, at| {
                let run = &laid_out[at..at + to.len()];
                for (index, from) in run.chunks(S::LANES).enumerate() {
                    let pixel = images.at(to.start + index * S::LANES);
                    // SAFETY: the run is in an image that only this caller accesses.
                    unsafe {
                        let sum = s.add(s.load_first(pixel, from.len()), s.load_first(from.as_ptr(), from.len()));
                        s.store_first(pixel, sum, from.len());
                    }
                }
            },
            |_| {},
        );
    }

    /// Returns the offsets of the rows of windows.
    pub(super) fn offsets(&self) -> Vec<u32> {
        row_offsets(self.block, self.shape.window())
    }
}

/// Copies a run. Most runs are short: the rest of a run is copied in small pieces, which the product
/// can read at once, unlike the lanes of a masked store.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, len: usize) {
    const PIECE: usize = 4;
    let mut at = 0;
    // SAFETY: the caller guarantees `len` values at both pointers.
    unsafe {
        while at + S::LANES <= len {
            s.store(to.add(at), s.load(from.add(at)));
            at += S::LANES;
        }
        while at + PIECE <= len {
            let piece = from.add(at).cast::<[f32; PIECE]>().read_unaligned();
            to.add(at).cast::<[f32; PIECE]>().write_unaligned(piece);
            at += PIECE;
        }
        while at < len {
            *to.add(at) = *from.add(at);
            at += 1;
        }
    }
}
