//! The two matrix products on which the other kernels are built. Both keep a tile of the result in
//! registers and stream the operands:
//!
//! - [`multiply`]: C (+)= A · B, for rows of A at any offsets and B packed into panels a few
//!   vectors wide;
//! - [`multiply_transposed`]: C += Aᵀ · B, for weight gradients, where the sum is over pixels.
//!
//! The sum of an element runs over k in order, in whatever tile the element is. Dividing the rows
//! differently, by batch or by thread, therefore changes no bit.

use crate::isa::Simd;

/// Rows of B for a tile before the next tile starts: this part of a panel stays in the second-level
/// cache.
pub(crate) const DEPTH: usize = 384;
/// Rows of A and B of a transposed product that stay in the first-level cache for successive tiles.
const TRANSPOSED_DEPTH: usize = 128;

/// Returns `n` rounded up to whole vectors.
pub(crate) fn padded<S: Simd>(n: usize) -> usize {
    n.next_multiple_of(S::LANES)
}

/// Returns the number of values of a packed `k` × `n` matrix.
pub(crate) fn packed_len<S: Simd>(k: usize, n: usize) -> usize {
    k * padded::<S>(n)
}

/// Returns where row `k_row` of the vector at `column`, a multiple of the lanes, starts in a packed
/// matrix.
#[inline(always)]
pub(crate) fn packed_place<S: Simd>(k: usize, n: usize, k_row: usize, column: usize) -> usize {
    let panel = S::PANEL * S::LANES;
    let first = column / panel * panel;
    let width = panel.min(padded::<S>(n) - first);
    first * k + k_row * width + (column - first)
}

/// Packs the row-major `k` × `n` matrix `from`, whose rows are `stride` apart. The padding is 0.
pub(crate) fn pack<S: Simd>(from: &[f32], k: usize, n: usize, stride: usize, packed: &mut [f32]) {
    for row in 0..k {
        for column in (0..n).step_by(S::LANES) {
            let (to, count) = (packed_place::<S>(k, n, row, column), S::LANES.min(n - column));
            let vector = &mut packed[to..to + S::LANES];
            vector[..count].copy_from_slice(&from[row * stride + column..][..count]);
            vector[count..].fill(0.0);
        }
    }
}

/// Packs the transpose of the row-major `n` × `k` matrix `from`, whose rows are `stride` apart.
pub(crate) fn pack_transposed<S: Simd>(from: &[f32], k: usize, n: usize, stride: usize, packed: &mut [f32]) {
    for column in (0..n).step_by(S::LANES) {
        let count = S::LANES.min(n - column);
        for row in 0..k {
            let to = packed_place::<S>(k, n, row, column);
            let vector = &mut packed[to..to + S::LANES];
            for (lane, value) in vector[..count].iter_mut().enumerate() {
                *value = from[(column + lane) * stride + row];
            }
            vector[count..].fill(0.0);
        }
    }
}

/// Returns the offsets of `rows` rows that are `stride` values apart, for [`Rows`].
///
/// # Panics
/// If the last offset exceeds a `u32`. The safe entry points prevent this with
/// [`check_offsets`](crate::error::check_offsets).
pub(crate) fn row_offsets(rows: usize, stride: usize) -> Vec<u32> {
    let offset = |row: usize| u32::try_from(row * stride).expect("the entry point checked the offsets");
    (0..rows).map(offset).collect()
}

/// The left operand of [`multiply`]: row r starts at `base` + `offsets[r]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) base: *const f32,
    pub(crate) offsets: &'a [u32],
}

/// How the values of a row are stored: runs of `length` values, whose starts are `distance` values
/// apart.
#[derive(Clone, Copy)]
pub(crate) struct Runs {
    pub(crate) length: usize,
    pub(crate) distance: usize,
}

/// The result of a product, with rows `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) base: *mut f32,
    pub(crate) stride: usize,
    /// Whether rows have room for whole vectors. If not, exactly n values per row are written.
    pub(crate) padded: bool,
    /// Whether the product is added to the present values.
    pub(crate) add: bool,
}

/// Computes C (+)= A · B for A = `a` `[rows, k]` and B `[k, n]`, packed by [`pack`].
///
/// # Safety
/// Every row of `a` has k values, `packed` has [`packed_len`] values, and every row of `c` can be
/// written.
pub(crate) unsafe fn multiply<S: Simd>(s: S, a: Rows, k: usize, packed: *const f32, n: usize, c: Target) {
    // SAFETY: the caller guarantees the operands.
    unsafe { multiply_runs(s, a, Runs { length: k, distance: 0 }, k, packed, n, c) };
}

/// As [`multiply`], for rows of A that consist of `runs`.
///
/// # Panics
/// If a row has several runs, and k is above [`DEPTH`].
///
/// # Safety
/// As [`multiply`].
#[inline(never)]
pub(crate) unsafe fn multiply_runs<S: Simd>(
    s: S,
    a: Rows,
    runs: Runs,
    k: usize,
    packed: *const f32,
    n: usize,
    c: Target,
) {
    assert!(runs.length >= k || k <= DEPTH, "rows of several runs are not divided");
    // SAFETY: the caller guarantees the operands.
    s.vectorize(
        #[inline(always)]
        || unsafe { multiply_inlined(s, a, runs, k, packed, n, c) },
    );
}

#[inline(always)]
unsafe fn multiply_inlined<S: Simd>(s: S, a: Rows, runs: Runs, k: usize, packed: *const f32, n: usize, c: Target) {
    let panel = S::PANEL * S::LANES;
    for first in (0..n).step_by(panel) {
        let vectors = (n - first).div_ceil(S::LANES).min(S::PANEL);
        let last = if c.padded { S::LANES } else { (n - first - (vectors - 1) * S::LANES).min(S::LANES) };
        let (mut from, mut add) = (0, c.add);
        let step = k.div_ceil(k.div_ceil(DEPTH).max(1));
        while from < k {
            let depth = step.min(k - from);
            // SAFETY: the panel starts at `first * k` and its rows are `vectors` vectors wide.
            let b = unsafe { packed.add(first * k + from * vectors * S::LANES) };
            let part = Rows { base: a.base.wrapping_add(from), offsets: a.offsets };
            let to = Target { base: c.base.wrapping_add(first), add, ..c };
            // SAFETY: as the caller guarantees.
            unsafe {
                match vectors {
                    1 => panel_product::<S, 1>(s, part, runs, depth, b, to, last),
                    2 => panel_product::<S, 2>(s, part, runs, depth, b, to, last),
                    3 if const { S::PANEL >= 3 } => panel_product::<S, 3>(s, part, runs, depth, b, to, last),
                    4 if const { S::PANEL >= 4 } => panel_product::<S, 4>(s, part, runs, depth, b, to, last),
                    _ => unreachable!("a panel has at most {} vectors", S::PANEL),
                }
            }
            (from, add) = (from + depth, true);
        }
    }
}

/// Divides rows into tiles for panels of N vectors: as many sums as fit into registers, then the
/// rest.
#[inline(always)]
unsafe fn panel_product<S: Simd, const N: usize>(
    s: S,
    a: Rows,
    runs: Runs,
    k: usize,
    b: *const f32,
    c: Target,
    last: usize,
) {
    let mut row = 0;
    macro_rules! tiles {
        ($($height:literal)*) => {$(
            if const { $height * N <= S::SUMS } {
                while a.offsets.len() - row >= $height {
                    let tile = Rows { base: a.base, offsets: &a.offsets[row..row + $height] };
                    let to = Target { base: c.base.wrapping_add(row * c.stride), ..c };
                    // SAFETY: as the caller guarantees.
                    unsafe { tile_product::<S, $height, N>(s, tile, runs, k, b, to, last) };
                    row += $height;
                }
            }
        )*};
    }
    tiles!(12 8 6 4 2 1);
}

/// Computes one tile: M rows of A times N vectors of B.
#[inline(always)]
unsafe fn tile_product<S: Simd, const M: usize, const N: usize>(
    s: S,
    a: Rows,
    runs: Runs,
    k: usize,
    mut b: *const f32,
    c: Target,
    last: usize,
) {
    // SAFETY: the caller guarantees k values in every row of A, k rows of N vectors in B and M rows
    // in C.
    unsafe {
        let mut rows = [a.base; M];
        for (row, offset) in rows.iter_mut().zip(a.offsets) {
            *row = a.base.add(*offset as usize);
        }
        // The tile of C is in the cache by the time the sums are complete.
        for m in 0..M {
            for n in 0..N {
                s.prefetch(c.base.wrapping_add(m * c.stride + n * S::LANES));
            }
        }
        let mut sums = [[s.splat(0.0); N]; M];
        let (mut rest, mut start) = (k, 0);
        while rest > 0 {
            let length = rest.min(runs.length);
            for at in start..start + length {
                let mut columns = [s.splat(0.0); N];
                for (n, column) in columns.iter_mut().enumerate() {
                    *column = s.load(b.add(n * S::LANES));
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let value = s.splat(*row.add(at));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = s.mul_add(value, column, *sum);
                    }
                }
                b = b.add(N * S::LANES);
            }
            (rest, start) = (rest - length, start + runs.distance);
        }
        for (m, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                let to = c.base.add(m * c.stride + n * S::LANES);
                if n + 1 == N && last < S::LANES {
                    let sum = if c.add { s.add(*sum, s.load_first(to, last)) } else { *sum };
                    s.store_first(to, sum, last);
                } else {
                    let sum = if c.add { s.add(*sum, s.load(to)) } else { *sum };
                    s.store(to, sum);
                }
            }
        }
    }
}

/// The right operand of [`multiply_transposed`], with rows `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) base: *const f32,
    pub(crate) stride: usize,
    /// Whether whole vectors can be read from every row. If not, exactly n values are read.
    pub(crate) padded: bool,
}

/// Computes C `[m, n]` += Aᵀ · B, for A = `a` `[rows, m]` and B = `b` `[rows, n]`. `c.add` must be
/// true.
///
/// # Safety
/// Every row of `a` has m values, every row of `b` can be read, and every row of `c` can be
/// written.
#[inline(never)]
pub(crate) unsafe fn multiply_transposed<S: Simd>(s: S, a: Rows, m: usize, b: Columns, n: usize, c: Target) {
    s.vectorize(
        #[inline(always)]
        // SAFETY: the caller guarantees the operands.
        || unsafe { multiply_transposed_inlined(s, a, m, b, n, c) },
    );
}

#[inline(always)]
unsafe fn multiply_transposed_inlined<S: Simd>(s: S, a: Rows, m: usize, b: Columns, n: usize, c: Target) {
    let panel = S::PANEL * S::LANES;
    let rows = a.offsets.len();
    let step = rows.div_ceil(rows.div_ceil(TRANSPOSED_DEPTH).max(1)).max(1);
    for first in (0..n).step_by(panel) {
        let vectors = (n - first).div_ceil(S::LANES).min(S::PANEL);
        let rest = (n - first - (vectors - 1) * S::LANES).min(S::LANES);
        let (read, written) = (if b.padded { S::LANES } else { rest }, if c.padded { S::LANES } else { rest });
        for from in (0..rows).step_by(step) {
            let part = Rows { base: a.base, offsets: &a.offsets[from..rows.min(from + step)] };
            let right = Columns { base: b.base.wrapping_add(from * b.stride + first), ..b };
            let to = Target { base: c.base.wrapping_add(first), ..c };
            // SAFETY: as the caller guarantees.
            unsafe {
                match vectors {
                    1 => panel_transposed::<S, 1>(s, part, m, right, read, to, written),
                    2 => panel_transposed::<S, 2>(s, part, m, right, read, to, written),
                    3 if const { S::PANEL >= 3 } => panel_transposed::<S, 3>(s, part, m, right, read, to, written),
                    4 if const { S::PANEL >= 4 } => panel_transposed::<S, 4>(s, part, m, right, read, to, written),
                    _ => unreachable!("a panel has at most {} vectors", S::PANEL),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn panel_transposed<S: Simd, const N: usize>(
    s: S,
    a: Rows,
    m: usize,
    b: Columns,
    read: usize,
    c: Target,
    written: usize,
) {
    let mut row = 0;
    macro_rules! tiles {
        ($($height:literal)*) => {$(
            if const { $height * N <= S::SUMS } {
                while m - row >= $height {
                    let tile = Rows { base: a.base.wrapping_add(row), offsets: a.offsets };
                    let to = Target { base: c.base.wrapping_add(row * c.stride), ..c };
                    // SAFETY: as the caller guarantees.
                    unsafe {
                        if read == S::LANES {
                            tile_transposed::<S, $height, N, false>(s, tile, b, read, to, written);
                        } else {
                            tile_transposed::<S, $height, N, true>(s, tile, b, read, to, written);
                        }
                    }
                    row += $height;
                }
            }
        )*};
    }
    tiles!(12 8 6 4 2 1);
}

/// Computes one tile: M columns of A times N vectors of B, summed over the rows of both, added to
/// C.
#[inline(always)]
unsafe fn tile_transposed<S: Simd, const M: usize, const N: usize, const PARTIAL: bool>(
    s: S,
    a: Rows,
    b: Columns,
    read: usize,
    c: Target,
    written: usize,
) {
    // SAFETY: the caller guarantees M values in every row of A, and N vectors in every row of B and
    // in M rows of C. The last vector of B has `read` values, that of C has `written` values.
    unsafe {
        // The tile of C is in the cache by the time the sums are complete.
        for m in 0..M {
            for n in 0..N {
                s.prefetch(c.base.wrapping_add(m * c.stride + n * S::LANES));
            }
        }
        let mut sums = [[s.splat(0.0); N]; M];
        let mut right = b.base;
        for offset in a.offsets {
            let left = a.base.add(*offset as usize);
            let mut columns = [s.splat(0.0); N];
            for (n, column) in columns.iter_mut().enumerate() {
                let from = right.add(n * S::LANES);
                *column = if PARTIAL && n + 1 == N { s.load_first(from, read) } else { s.load(from) };
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let value = s.splat(*left.add(m));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = s.mul_add(value, column, *sum);
                }
            }
            right = right.wrapping_add(b.stride);
        }
        for (m, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                let to = c.base.add(m * c.stride + n * S::LANES);
                if n + 1 == N && written < S::LANES {
                    s.store_first(to, s.add(*sum, s.load_first(to, written)), written);
                } else {
                    s.store(to, s.add(*sum, s.load(to)));
                }
            }
        }
    }
}
