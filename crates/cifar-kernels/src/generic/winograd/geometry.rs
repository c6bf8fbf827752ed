//! How maps are cut into tiles, and where a tile's values lie in the planes.

use std::ops::Range;

use crate::Conv2dShape;
use crate::arms::Simd;
use crate::generic::matmul::{padded, row_offsets};

/// Points that a full tile uses with stride 1, the most there are.
pub(super) const POINTS: usize = 6;

/// How one axis of the output is cut: full tiles, then a smaller one, if anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    /// Rows (or columns) of the output.
    pub(super) len: usize,
    /// Outputs of a full tile: 4 with stride 1, 2 with stride 2.
    pub(super) size: usize,
    /// Inputs from a tile to the next.
    pub(super) step: usize,
    pub(super) full: usize,
    /// Outputs of the last, smaller tile: 0, 2 or 3. A tile of 2 covers a single one that is left.
    pub(super) rest: usize,
}

impl Axis {
    /// For stride 1 or 2.
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

    /// Inputs of tile `index`, which are as many as its points.
    pub(super) fn inputs(&self, index: usize) -> usize {
        if index < self.full { self.full_points() } else { self.rest + 2 }
    }

    fn full_points(&self) -> usize {
        if self.size == 2 { 5 } else { POINTS }
    }

    /// Points that some tile uses.
    pub(super) fn points(&self) -> usize {
        if self.full > 0 { self.full_points() } else { self.rest + 2 }
    }

    /// Inputs that the tiles see, from the first padded one on.
    pub(super) fn covered(&self) -> usize {
        let last = self.tiles() - 1;
        last * self.step + self.inputs(last)
    }

    /// Whether the smaller tile uses `point`.
    fn rest_has(&self, point: usize) -> bool {
        self.rest > 0 && point < self.rest + 2
    }
}

/// A convolution cut into tiles.
///
/// There are four kinds of tiles: along each axis full or smaller. The rows of a plane are the tiles of several images,
/// in the order (rows full, columns smaller), (full, full), (smaller, full), (smaller, smaller): whichever tiles use a
/// pair of points, they are neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) y: Axis,
    pub(super) x: Axis,
    pub(super) stride: usize,
    /// Channels of the input and output.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Tiles of each kind in an image.
    counts: [usize; 4],
}

impl Geometry {
    /// The tiles of the outputs that count: with pooling, those that fill squares of 2×2.
    pub(super) fn new(shape: &Conv2dShape, pooled: bool) -> Self {
        let used = |len: usize| if pooled { len / 2 * 2 } else { len };
        let axis = |len| Axis::new(used(len), shape.stride);
        let (y, x) = (axis(shape.out_height), axis(shape.out_width));
        let [end_y, end_x] = [y, x].map(|axis| usize::from(axis.rest > 0));
        let counts = [y.full * end_x, y.full * x.full, end_y * x.full, end_y * end_x];
        Self { y, x, stride: shape.stride, inputs: shape.in_channels, outputs: shape.out_channels, counts }
    }

    /// Tiles of an image.
    pub(super) fn tiles(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Pairs of points.
    pub(super) fn planes(&self) -> usize {
        self.y.points() * self.x.points()
    }

    /// The row of tile (`ty`, `tx`) of image `image` of `images`.
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

    /// The rows of plane `plane` that hold something.
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

/// The layout of the planes of some tiles: rows of `channels` values, a whole number of vectors each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    /// Values from a row to the next.
    pub(super) row: usize,
    /// Values from a plane to the next.
    pub(super) plane: usize,
}

/// Values of a cache line. No ISA has longer vectors.
pub(super) const LINE: usize = 16;

impl Planes {
    pub(super) fn new<S: Simd>(rows: usize, channels: usize) -> Self {
        // A line more than needed, twice: strides that are powers of two would meet in few sets of the caches.
        let row = padded::<S>(channels) + LINE;
        Self { row, plane: rows * row + LINE }
    }

    pub(super) fn len(&self, planes: usize) -> usize {
        planes * self.plane
    }

    /// Where rows begin, behind the first.
    pub(super) fn offsets(&self, rows: usize) -> Vec<u32> {
        row_offsets(rows, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_covered_without_waste() {
        for (len, full, rest) in
            [(1, 0, 2), (2, 0, 2), (3, 0, 3), (4, 1, 0), (5, 1, 2), (7, 1, 3), (14, 3, 2), (31, 7, 3)]
        {
            assert_eq!(Axis::new(len, 1), Axis { len, size: 4, step: 4, full, rest });
        }
    }

    #[test]
    fn every_tile_has_a_row_of_its_own_in_the_planes_that_it_uses() {
        for (height, width) in [(2, 2), (3, 7), (4, 9), (7, 4), (14, 15), (5, 31)] {
            let shape = Conv2dShape::new(1, height, width, 8, 8, 3, 1, 1).unwrap();
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
