//! The transforms to the points and back along one axis. The points are in the order 0, 1, −1, ∞,
//! 2, −2. A tile of m outputs uses the first m + 2. The value at infinity is the highest
//! coefficient.
//!
//! With filter g, inputs d and outputs y of a tile: y = Aᵀ[(G g) · (Bᵀ d)]. G evaluates the filter
//! and is the same for all m. Aᵀ consists of powers of the points. Bᵀ has, for point p, the
//! coefficients of Π (x − q) / (p − q) over the other finite points q, and for ∞ those of Π (x −
//! q).

use crate::isa::Simd;

/// G g: the filter at all six points, or at the five points of stride 2.
#[inline(always)]
pub(super) fn filter<S: Simd>(s: S, stride: usize, g: [S::V; 3]) -> [S::V; 6] {
    if stride == 2 {
        return [g[0], s.add(g[0], g[2]), g[2], g[1], g[1], s.splat(0.0)];
    }
    let outer = s.add(g[0], g[2]);
    let (even, odd) = (s.mul_add(s.splat(4.0), g[2], g[0]), s.add(g[1], g[1]));
    [g[0], s.add(outer, g[1]), s.sub(outer, g[1]), g[2], s.add(even, odd), s.sub(even, odd)]
}

/// Gᵀ u: the gradient of the filter from the gradients at the points. Unused points hold 0.
#[inline(always)]
pub(super) fn filter_adjoint<S: Simd>(s: S, stride: usize, u: [S::V; 6]) -> [S::V; 3] {
    if stride == 2 {
        return [s.add(u[0], u[1]), s.add(u[3], u[4]), s.add(u[1], u[2])];
    }
    let (sum1, difference1) = (s.add(u[1], u[2]), s.sub(u[1], u[2]));
    let (sum2, difference2) = (s.add(u[4], u[5]), s.sub(u[4], u[5]));
    [
        s.add(u[0], s.add(sum1, sum2)),
        s.mul_add(s.splat(2.0), difference2, difference1),
        s.mul_add(s.splat(4.0), sum2, s.add(sum1, u[3])),
    ]
}

/// Bᵀ d for N inputs of M outputs.
#[inline(always)]
pub(super) fn input<S: Simd, const N: usize, const M: usize>(s: S, d: [S::V; N]) -> [S::V; N] {
    let k = |x: f32| s.splat(x);
    let mut v = d;
    match (N, M) {
        (5, 2) => {
            (v[0], v[1], v[2]) = (s.sub(d[0], d[2]), d[2], s.sub(d[4], d[2]));
            (v[3], v[4]) = (d[1], d[3]);
        }
        (4, _) => {
            let half = k(0.5);
            let middle = s.mul(half, d[2]);
            v[0] = s.sub(d[0], d[2]);
            v[1] = s.mul_add(half, d[1], middle);
            v[2] = s.neg_mul_add(half, d[1], middle);
            v[3] = s.sub(d[3], d[1]);
        }
        (5, _) => {
            let half = k(0.5);
            let difference = s.sub(d[2], d[1]); // d₂ − d₁
            v[0] = s.mul_add(half, s.sub(d[3], d[1]), s.sub(d[0], d[2]));
            v[1] = s.mul_add(half, s.sub(d[2], d[3]), d[1]);
            v[2] = s.mul_add(k(-1.0 / 6.0), d[3], s.mul_add(k(1.0 / 6.0), d[1], s.mul(half, difference)));
            v[3] = s.mul_add(k(2.0), s.sub(d[1], d[3]), s.sub(d[4], d[2]));
            v[4] = s.mul(k(1.0 / 6.0), s.sub(d[3], d[1]));
        }
        _ => {
            let (even1, odd1) = (
                s.mul_add(k(-1.0 / 6.0), d[4], s.mul(k(2.0 / 3.0), d[2])),
                s.mul_add(k(-1.0 / 6.0), d[3], s.mul(k(2.0 / 3.0), d[1])),
            );
            let (even2, odd2) = (s.mul(k(1.0 / 24.0), s.sub(d[4], d[2])), s.sub(d[3], d[1]));
            v[0] = s.mul_add(k(0.25), d[4], s.mul_add(k(-1.25), d[2], d[0]));
            v[1] = s.add(even1, odd1);
            v[2] = s.sub(even1, odd1);
            v[3] = s.mul_add(k(4.0), d[1], s.mul_add(k(-5.0), d[3], d[5]));
            v[4] = s.mul_add(k(1.0 / 12.0), odd2, even2);
            v[5] = s.neg_mul_add(k(1.0 / 12.0), odd2, even2);
        }
    }
    v
}

/// B v: the gradients of the N inputs from those at the N points.
#[inline(always)]
pub(super) fn input_adjoint<S: Simd, const N: usize, const M: usize>(s: S, v: [S::V; N]) -> [S::V; N] {
    let k = |x: f32| s.splat(x);
    let mut d = v;
    let (sum1, difference1) = (s.add(v[1], v[2]), s.sub(v[1], v[2]));
    d[N - 1] = v[3];
    match (N, M) {
        (5, 2) => {
            (d[1], d[3], d[4]) = (v[3], v[4], v[2]);
            d[2] = s.sub(v[1], s.add(v[0], v[2]));
        }
        (4, _) => {
            d[1] = s.mul_add(k(0.5), difference1, s.sub(s.splat(0.0), v[3]));
            d[2] = s.mul_add(k(0.5), sum1, s.sub(s.splat(0.0), v[0]));
        }
        (5, _) => {
            let last = s.mul(k(1.0 / 6.0), v[4]);
            // Terms that d₁ and d₃ share with opposite signs, except those of the points 1 and −1.
            let common = s.neg_mul_add(k(0.5), v[0], s.mul_add(k(2.0), v[3], s.sub(s.splat(0.0), last)));
            d[1] = s.add(common, s.mul_add(k(-1.0 / 3.0), v[2], v[1]));
            d[2] = s.sub(s.mul(k(0.5), sum1), s.add(v[0], v[3]));
            d[3] = s.sub(s.mul_add(k(-0.5), v[1], s.mul(k(-1.0 / 6.0), v[2])), common);
        }
        _ => {
            let (sum2, difference2) =
                (s.mul(k(1.0 / 24.0), s.add(v[4], v[5])), s.mul(k(1.0 / 12.0), s.sub(v[4], v[5])));
            d[1] = s.sub(s.mul_add(k(2.0 / 3.0), difference1, s.mul(k(4.0), v[3])), difference2);
            d[2] = s.sub(s.mul_add(k(2.0 / 3.0), sum1, s.mul(k(-1.25), v[0])), sum2);
            d[3] = s.add(s.mul_add(k(-1.0 / 6.0), difference1, s.mul(k(-5.0), v[3])), difference2);
            d[4] = s.add(s.mul_add(k(-1.0 / 6.0), sum1, s.mul(k(0.25), v[0])), sum2);
        }
    }
    d
}

/// Aᵀ m: M outputs from N = M + 2 products.
#[inline(always)]
pub(super) fn output<S: Simd, const N: usize, const M: usize>(s: S, p: [S::V; N]) -> [S::V; M] {
    let k = |x: f32| s.splat(x);
    let mut y = [p[0]; M];
    let (sum1, difference1) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
    match (N, M) {
        (5, 2) => {
            y[0] = s.add(s.add(p[0], p[1]), p[3]);
            y[1] = s.add(s.add(p[1], p[2]), p[4]);
        }
        (4, _) => {
            y[0] = s.add(p[0], sum1);
            y[1] = s.add(difference1, p[3]);
        }
        (5, _) => {
            y[0] = s.add(p[0], s.add(sum1, p[4]));
            y[1] = s.mul_add(k(2.0), p[4], difference1);
            y[2] = s.mul_add(k(4.0), p[4], s.add(sum1, p[3]));
        }
        _ => {
            let (sum2, difference2) = (s.add(p[4], p[5]), s.sub(p[4], p[5]));
            y[0] = s.add(p[0], s.add(sum1, sum2));
            y[1] = s.mul_add(k(2.0), difference2, difference1);
            y[2] = s.mul_add(k(4.0), sum2, sum1);
            y[3] = s.mul_add(k(8.0), difference2, s.add(difference1, p[3]));
        }
    }
    y
}

/// A y: the gradients of N = M + 2 products from those of M outputs.
#[inline(always)]
pub(super) fn output_adjoint<S: Simd, const M: usize, const N: usize>(s: S, y: [S::V; M]) -> [S::V; N] {
    let k = |x: f32| s.splat(x);
    let mut p = [y[0]; N];
    p[3] = y[M - 1];
    match (N, M) {
        (5, 2) => {
            (p[1], p[2]) = (s.add(y[0], y[1]), y[1]);
            (p[3], p[4]) = (y[0], y[1]);
        }
        (4, _) => {
            p[1] = s.add(y[0], y[1]);
            p[2] = s.sub(y[0], y[1]);
        }
        (5, _) => {
            let even = s.add(y[0], y[2]);
            p[1] = s.add(even, y[1]);
            p[2] = s.sub(even, y[1]);
            p[4] = s.mul_add(k(4.0), y[2], s.mul_add(k(2.0), y[1], y[0]));
        }
        _ => {
            let (even1, odd1) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
            let (even2, odd2) = (s.mul_add(k(4.0), y[2], y[0]), s.mul_add(k(8.0), y[3], s.add(y[1], y[1])));
            p[1] = s.add(even1, odd1);
            p[2] = s.sub(even1, odd1);
            p[4] = s.add(even2, odd2);
            p[5] = s.sub(even2, odd2);
        }
    }
    p
}
