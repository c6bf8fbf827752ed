//! An index of sketches by their gist, which finds those similar to a given one without comparing
//! it with most of the others.

use super::sketch::{GIST, Sketch};

/// Number of coordinates that define the cells. The others are compared one by one.
const AXES: usize = 5;
/// Ranges per axis, each with the same number of sketches.
const RANGES: usize = 8;
/// Maximum number of sketches visited per query, which bounds the time for a set of copies.
const MOST_VISITED: usize = 8192;

/// Sketches, indexed by their gist.
pub(super) struct Grid {
    bounds: [[i16; RANGES - 1]; AXES],
    tolerance: [i16; GIST],
    /// The first sketch of each cell.
    starts: Vec<u32>,
    /// In the order of the cells: the number of the sketch, its gist, and the sketch.
    members: Vec<u32>,
    gists: Vec<[i16; GIST]>,
    sketches: Vec<Sketch>,
}

impl Grid {
    /// Creates an index of numbered sketches. Two sketches are neighbours if no coordinate differs
    /// by more than `reach` hundredths of its standard deviation.
    pub(super) fn of(numbered: &[(u32, Sketch)], hundredths: i32) -> Self {
        let gists: Vec<[i16; GIST]> = numbered.iter().map(|(_, sketch)| sketch.gist()).collect();
        let mut bounds = [[0; RANGES - 1]; AXES];
        let mut tolerance = [0; GIST];
        for axis in 0..GIST {
            let mut values: Vec<i16> = gists.iter().map(|gist| gist[axis]).collect();
            let count = values.len().max(1) as i64;
            let mean = values.iter().map(|v| i64::from(*v)).sum::<i64>() / count;
            let squares = values.iter().map(|v| (i64::from(*v) - mean).pow(2)).sum::<i64>() / count;
            tolerance[axis] = (squares.isqrt() as i32 * hundredths / 100) as i16;
            values.sort_unstable();
            if let Some(bounds) = bounds.get_mut(axis) {
                for (at, bound) in bounds.iter_mut().enumerate() {
                    *bound = values.get((at + 1) * values.len() / RANGES).copied().unwrap_or(0);
                }
            }
        }
        let cell = |gist: &[i16; GIST]| {
            bounds.iter().zip(gist).fold(0, |cell, (bounds, value)| cell * RANGES + range(bounds, *value))
        };
        let mut order: Vec<(u32, u32)> = gists.iter().zip(0..).map(|(gist, at)| (cell(gist) as u32, at)).collect();
        order.sort_unstable();
        let mut starts = vec![0u32; RANGES.pow(AXES as u32) + 1];
        for (cell, _) in &order {
            starts[*cell as usize + 1] += 1;
        }
        for cell in 1..starts.len() {
            starts[cell] += starts[cell - 1];
        }
        let ordered = || order.iter().map(|(_, at)| *at as usize);
        Self {
            bounds,
            tolerance,
            starts,
            members: ordered().map(|at| numbered[at].0).collect(),
            gists: ordered().map(|at| gists[at]).collect(),
            sketches: ordered().map(|at| numbered[at].1).collect(),
        }
    }

    /// Calls `report` with number and distance of each sketch that differs from `query` by at most
    /// `most`. A few with a different gist are not found.
    pub(super) fn near(&self, query: &Sketch, most: u32, mut report: impl FnMut(u32, u32)) {
        let gist = query.gist();
        let ranges: [[usize; 2]; AXES] = std::array::from_fn(|axis| {
            let (value, tolerance) = (gist[axis], self.tolerance[axis]);
            [value - tolerance, value + tolerance].map(|value| range(&self.bounds[axis], value))
        });
        let mut left = MOST_VISITED;
        let [a, b, c, d, last] = ranges;
        for a in a[0]..=a[1] {
            for b in b[0]..=b[1] {
                for c in c[0]..=c[1] {
                    for d in d[0]..=d[1] {
                        let row = (((a * RANGES + b) * RANGES + c) * RANGES + d) * RANGES;
                        let cells = self.starts[row + last[0]] as usize..self.starts[row + last[1] + 1] as usize;
                        for at in cells {
                            if left == 0 {
                                return;
                            }
                            left -= 1;
                            let close = |axis: usize| (gist[axis] - self.gists[at][axis]).abs() <= self.tolerance[axis];
                            if !(0..GIST).all(close) {
                                continue;
                            }
                            let distance = query.distance(&self.sketches[at]);
                            if distance <= most {
                                report(self.members[at], distance);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the range that a value falls into.
fn range(bounds: &[i16; RANGES - 1], value: i16) -> usize {
    bounds.iter().filter(|bound| **bound <= value).count()
}
