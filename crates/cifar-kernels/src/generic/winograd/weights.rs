//! Transforms filters to the points, packed for the matrix products, and their gradients back.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::{Geometry, LINE, POINTS};
use super::transforms::{filter, filter_adjoint};
use crate::Buffer;
use crate::generic::matmul::{packed_len, packed_place};
use crate::generic::shared::Shared;
use crate::isa::Simd;

/// Rows of filters per task: a cache line.
const ROWS: usize = 16;

/// Filters at the points: a packed matrix `[from, to]` per plane.
pub(super) struct Filters {
    values: Buffer<f32>,
    plane: usize,
}

impl Filters {
    /// Returns the packed matrix of `plane`.
    pub(super) fn plane(&self, plane: usize) -> *const f32 {
        self.values[plane * self.plane..(plane + 1) * self.plane].as_ptr()
    }
}

/// Returns the values from one packed matrix `[from, to]` to the next. They are a line apart, since
/// the planes of a filter would collide in few cache sets at a distance that is a power of two.
pub(super) fn plane_len<S: Simd>(from: usize, to: usize) -> usize {
    packed_len::<S>(from, to) + LINE
}

/// Computes G g Gᵀ of every filter of `weight` `[3, 3, inputs, outputs]`. The matrices map inputs
/// to outputs or, if `turned`, outputs to inputs.
pub(super) fn transform<S: Simd>(s: S, geometry: &Geometry, weight: &[f32], turned: bool) -> Filters {
    let (inputs, outputs) = (geometry.inputs, geometry.outputs);
    let (from, to) = if turned { (outputs, inputs) } else { (inputs, outputs) };
    let plane = plane_len::<S>(from, to);
    let mut values = Buffer::new(geometry.planes() * plane);
    let shared = Shared::new(&mut values);
    (0..from.div_ceil(ROWS)).into_par_iter().for_each(|task| {
        let rows = task * ROWS..from.min((task + 1) * ROWS);
        // SAFETY: each task writes its own rows of every plane.
        unsafe { transform_rows(s, geometry, weight, turned, rows, 0..to, shared.at(0), plane) };
    });
    Filters { values, plane }
}

/// Computes G g Gᵀ of the filters of some output channels. Each plane at `planes` is a packed
/// matrix `[inputs, columns]`, `plane` values apart.
///
/// # Safety
/// `columns` starts at a multiple of the lanes, and `planes` has room for all planes.
pub(super) unsafe fn transform_columns<S: Simd>(
    s: S,
    geometry: &Geometry,
    weight: &[f32],
    columns: Range<usize>,
    planes: *mut f32,
    plane: usize,
) {
    for first in (0..geometry.inputs).step_by(ROWS) {
        let rows = first..geometry.inputs.min(first + ROWS);
        // SAFETY: as the caller guarantees.
        unsafe { transform_rows(s, geometry, weight, false, rows, columns.clone(), planes, plane) };
    }
}

/// Transforms some rows, at most [`ROWS`], of the columns `columns` into the packed matrices of
/// these columns.
///
/// # Safety
/// As [`transform_columns`]; nothing else uses these rows. `weight` has all filters.
#[inline(never)]
unsafe fn transform_rows<S: Simd>(
    s: S,
    geometry: &Geometry,
    weight: &[f32],
    turned: bool,
    rows: Range<usize>,
    columns: Range<usize>,
    planes: *mut f32,
    plane: usize,
) {
    let (inputs, outputs) = (geometry.inputs, geometry.outputs);
    let from = if turned { outputs } else { inputs };
    // What is read after these rows: the next columns, or the next rows.
    let ahead = if columns.len() > LINE { LINE } else { ROWS * outputs };
    s.vectorize(
        #[inline(always)]
        || {
            for column in columns.clone().step_by(S::LANES) {
                let count = S::LANES.min(columns.end - column);
                let at = |row: usize| packed_place::<S>(from, columns.len(), row, column - columns.start);
                if turned {
                    let taps = turned_taps::<S>(weight, inputs, outputs, rows.clone(), column..column + count);
                    for (taps, row) in taps.iter().zip(rows.clone()) {
                        // SAFETY: no ISA has vectors wider than `WIDEST`. The caller guarantees the
                        // planes; `packed_place` is below `packed_len`.
                        unsafe {
                            let taps = taps.each_ref().map(|values| s.load(values.as_ptr()));
                            transform_taps(s, geometry, taps, planes, plane, at(row));
                        }
                    }
                } else {
                    for row in rows.clone() {
                        // SAFETY: `count` values of each tap are in `weight`; the planes as above.
                        unsafe {
                            let mut taps = [s.splat(0.0); 9];
                            for (tap, values) in taps.iter_mut().enumerate() {
                                let from = weight.as_ptr().add((tap * inputs + row) * outputs + column);
                                s.prefetch(from.wrapping_add(ahead));
                                *values = if count == S::LANES { s.load(from) } else { s.load_first(from, count) };
                            }
                            transform_taps(s, geometry, taps, planes, plane, at(row));
                        }
                    }
                }
            }
        },
    );
}

/// Values of the widest vector of any ISA.
const WIDEST: usize = 16;
/// The nine taps of a vector of columns, for some rows. Unused lanes are 0.
type Taps = [[[f32; WIDEST]; 9]; ROWS];

/// Returns the taps of `rows` (output channels) and `columns` (input channels).
#[inline(always)]
fn turned_taps<S: Simd>(
    weight: &[f32],
    inputs: usize,
    outputs: usize,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Taps {
    let mut taps = [[[0.0; WIDEST]; 9]; ROWS];
    for tap in 0..9 {
        for (lane, column) in columns.clone().enumerate() {
            let from = (tap * inputs + column) * outputs + rows.start;
            for (taps, value) in taps.iter_mut().zip(&weight[from..from + rows.len()]) {
                taps[tap][lane] = *value;
            }
        }
    }
    taps
}

#[inline(always)]
unsafe fn transform_taps<S: Simd>(
    s: S,
    geometry: &Geometry,
    taps: [S::V; 9],
    planes: *mut f32,
    plane: usize,
    place: usize,
) {
    let (points_y, points_x) = (geometry.y.points(), geometry.x.points());
    let mut columns = [[s.splat(0.0); 3]; POINTS];
    for j in 0..3 {
        let taps = [taps[j], taps[3 + j], taps[6 + j]];
        for (column, value) in columns.iter_mut().zip(filter(s, geometry.stride, taps)) {
            column[j] = value;
        }
    }
    for (i, taps) in columns.into_iter().enumerate().take(points_y) {
        for (j, value) in filter(s, geometry.stride, taps).into_iter().enumerate().take(points_x) {
            // SAFETY: the caller guarantees the position.
            unsafe { s.store(planes.wrapping_add((i * points_x + j) * plane + place), value) };
        }
    }
}

/// Computes Gᵀ u G: the gradient of the filters from `planes`, which hold `[from, to]` gradients at
/// the points. Rows are `row` values apart, and planes `plane` values.
pub(super) fn transform_back<S: Simd>(
    s: S,
    geometry: &Geometry,
    planes: &[f32],
    row: usize,
    plane: usize,
    weight_grad: &mut [f32],
) {
    let (from, to) = (geometry.inputs, geometry.outputs);
    let (points_y, points_x) = (geometry.y.points(), geometry.x.points());
    let shared = Shared::new(weight_grad);
    (0..from.div_ceil(ROWS)).into_par_iter().for_each(|task| {
        s.vectorize(
            #[inline(always)]
            || {
                for channel in task * ROWS..from.min((task + 1) * ROWS) {
                    for column in (0..to).step_by(S::LANES) {
                        let count = S::LANES.min(to - column);
                        let mut rows = [[s.splat(0.0); POINTS]; 3];
                        for j in 0..points_x {
                            let mut values = [s.splat(0.0); POINTS];
                            for (i, value) in values.iter_mut().enumerate().take(points_y) {
                                let at = (i * points_x + j) * plane + channel * row + column;
                                // SAFETY: rows of planes have room for whole vectors.
                                *value = unsafe { s.load(planes[at..at + S::LANES].as_ptr()) };
                            }
                            for (row, value) in rows.iter_mut().zip(filter_adjoint(s, geometry.stride, values)) {
                                row[j] = value;
                            }
                        }
                        for (i, values) in rows.into_iter().enumerate() {
                            for (j, value) in filter_adjoint(s, geometry.stride, values).into_iter().enumerate() {
                                let to = shared.at(((i * 3 + j) * from + channel) * to + column);
                                // SAFETY: `weight_grad` has 9 · from · to values; each task writes
                                // its own channels.
                                unsafe { s.store_first(to, value, count) };
                            }
                        }
                    }
                }
            },
        );
    });
}
