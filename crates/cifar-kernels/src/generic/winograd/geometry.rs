//! The division of feature maps into tiles, and the positions of tiles in the planes.

use std::ops::Range;

use crate::Conv2dShape;
use crate::generic::matmul::{padded, row_offsets};
use crate::isa::Simd;

/// Points of a full tile with stride 1, which is the maximum.
pub(super) const POINTS: usize = 6;

/// The division of one axis of the output: full tiles, then a smaller tile if outputs remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    /// Rows (or columns) of the output.
    pub(super) len: usize,
    /// Outputs of a full tile: 4 with stride 1, 2 with stride 2.
    pub(super) size: usize,
    /// Inputs from one tile to the next.
    pub(super) step: usize,
    pub(super) full: usize,
    /// Outputs of the last, smaller tile: 0, 2 or 3. A single remaining output also gets a tile of
    /// 2.
    pub(super) rest: usize,
}

impl Axis {
    /// Divides an axis of `len` outputs, for a stride of 1 or 2.
    pub(super) fn new(len: usize, stride: usize) -> Self {
        if stride == 2 {
            return Self { len, size: 2, step: 4, full: len.div_ceil(2), rest: 0 };
        }
        let rest = match len % 4 {
            1 => 2,
            rest => rest,
        };
        Self { len, size: 4, step: 4, full: len / 4, rest }
    }

    pub(super) fn tiles(&self) -> usize {
        self.full + usize::from(self.rest > 0)
    }

    /// Returns the number of inputs of tile `index`, which is also the number of its points.
    pub(super) fn inputs(&self, index: usize) -> usize {
        if index < self.full { self.full_points() } else { self.rest + 2 }
    }

    fn full_points(&self) -> usize {
        if self.size == 2 { 5 } else { POINTS }
    }

    /// Returns the number of points that some tile uses.
    pub(super) fn points(&self) -> usize {
        if self.full > 0 { self.full_points() } else { self.rest + 2 }
    }

    /// Returns the number of inputs that the tiles cover, from the first padded one.
    pub(super) fn covered(&self) -> usize {
        let last = self.tiles() - 1;
        last * self.step + self.inputs(last)
    }

    /// Returns whether the smaller tile uses `point`.
    fn rest_has(&self, point: usize) -> bool {
        self.rest > 0 && point < self.rest + 2
    }
}

/// A convolution divided into tiles.
///
/// There are four kinds of tiles: full or smaller along each axis. The rows of a plane are the
/// tiles of several images in the order (rows full, columns smaller), (full, full), (smaller,
/// full), (smaller, smaller). In this order, the tiles that use any given pair of points are
/// contiguous.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) y: Axis,
    pub(super) x: Axis,
    pub(super) stride: usize,
    /// Channels of the input.
    pub(super) inputs: usize,
    /// Channels of the output.
    pub(super) outputs: usize,
    /// Tiles of each kind per image.
    counts: [usize; 4],
}

impl Geometry {
    /// Divides the outputs into tiles; with pooling, only the outputs that fill 2×2 windows.
    pub(super) fn new(shape: &Conv2dShape, pooled: bool) -> Self {
        let used = |len: usize| if pooled { len / 2 * 2 } else { len };
        let axis = |len| Axis::new(used(len), shape.stride);
        let (y, x) = (axis(shape.out_height), axis(shape.out_width));
        let [end_y, end_x] = [y, x].map(|axis| usize::from(axis.rest > 0));
        let counts = [y.full * end_x, y.full * x.full, end_y * x.full, end_y * end_x];
        Self { y, x, stride: shape.stride, inputs: shape.in_channels, outputs: shape.out_channels, counts }
    }

    /// Returns the number of tiles per image.
    pub(super) fn tiles(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Returns the number of planes: pairs of points.
    pub(super) fn planes(&self) -> usize {
        self.y.points() * self.x.points()
    }

    /// Returns the row of tile (`ty`, `tx`) of image `image` of `images`.
    #[inline(always)]
    pub(super) fn row(&self, images: usize, image: usize, ty: usize, tx: usize) -> usize {
        let (full_y, full_x) = (ty < self.y.full, tx < self.x.full);
        let (kind, index) = match (full_y, full_x) {
            (true, false) => (0, ty),
            (true, true) => (1, ty * self.x.full + tx),
            (false, true) => (2, tx),
            (false, false) => (3, 0),
        };
        let before: usize = self.counts[..kind].iter().sum();
        images * before + image * self.counts[kind] + index
    }

    /// Returns the rows of `plane` that are used.
    pub(super) fn rows(&self, images: usize, plane: usize) -> Range<usize> {
        let (i, j) = (plane / self.x.points(), plane % self.x.points());
        let (small_y, small_x) = (self.y.rest_has(i), self.x.rest_has(j));
        let start = if small_x { 0 } else { self.counts[0] };
        let mut end = self.counts[0] + self.counts[1];
        if small_y {
            end += self.counts[2] + if small_x { self.counts[3] } else { 0 };
        }
        images * start..images * end.max(start)
    }
}

/// The layout of the planes of some tiles: rows of `channels` values, padded to whole vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    /// Values from one row to the next.
    pub(super) row: usize,
    /// Values from one plane to the next.
    pub(super) plane: usize,
}

/// Values per cache line. No ISA has longer vectors.
pub(super) const LINE: usize = 16;

impl Planes {
    pub(super) fn new<S: Simd>(rows: usize, channels: usize) -> Self {
        // An extra line per row and per plane: strides that are powers of two would collide in few
        // cache sets.
        let row = padded::<S>(channels) + LINE;
        Self { row, plane: rows * row + LINE }
    }

    pub(super) fn len(&self, planes: usize) -> usize {
        planes * self.plane
    }

    /// Returns the offsets of rows from the first.
    pub(super) fn offsets(&self, rows: usize) -> Vec<u32> {
        row_offsets(rows, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conv2dDimensions;

    #[test]
    fn axes_are_covered_without_waste() {
        for (len, full, rest) in
            [(1, 0, 2), (2, 0, 2), (3, 0, 3), (4, 1, 0), (5, 1, 2), (7, 1, 3), (14, 3, 2), (31, 7, 3)]
        {
            assert_eq!(Axis::new(len, 1), Axis { len, size: 4, step: 4, full, rest });
        }
    }

    #[test]
    fn every_tile_has_its_own_row_in_the_planes_that_it_uses() {
        for (height, width) in [(2, 2), (3, 7), (4, 9), (7, 4), (14, 15), (5, 31)] {
            let shape = Conv2dShape::new(Conv2dDimensions {
                images: 1,
                height,
                width,
                in_channels: 8,
                out_channels: 8,
                kernel: 3,
                stride: 1,
                padding: 1,
            })
            .unwrap();
            let (geometry, images) = (Geometry::new(&shape, false), 3);
            let mut used = vec![vec![false; images * geometry.tiles()]; geometry.planes()];
            for (image, ty, tx) in (0..images)
                .flat_map(|image| (0..geometry.y.tiles()).map(move |ty| (image, ty)))
                .flat_map(|(image, ty)| (0..geometry.x.tiles()).map(move |tx| (image, ty, tx)))
            {
                let row = geometry.row(images, image, ty, tx);
                for (i, j) in (0..geometry.y.inputs(ty)).flat_map(|i| (0..geometry.x.inputs(tx)).map(move |j| (i, j))) {
                    let plane = &mut used[i * geometry.x.points() + j];
                    assert!(!std::mem::replace(&mut plane[row], true), "row {row} is used twice");
                }
            }
            for (plane, used) in used.iter().enumerate() {
                let found: Vec<usize> = (0..used.len()).filter(|row| used[*row]).collect();
                assert_eq!(found, geometry.rows(images, plane).collect::<Vec<_>>(), "{height}×{width}, plane {plane}");
            }
        }
    }
}
