//! Muon and the sums and averages of optimisers, compared with naive loops in f64, on every ISA.

mod common;

use cifar_kernels::{move_average, muon_update, naive, orthogonalise, scale_values, squared_norm, with_isa};
use common::{bits, on_every_isa, values, widen};

const FITS: &str = "the lengths are those of the shape";

/// Rows and columns: tall, wide, square, vectors, and sizes next to vector widths.
const MATRICES: &[[usize; 2]] =
    &[[1, 1], [7, 1], [1, 9], [5, 5], [33, 8], [8, 33], [72, 24], [24, 72], [17, 16], [216, 64], [31, 130]];

/// Three steps multiply the rounding error of the first product by up to 3.4445³ = 41, and each
/// adds its own: 41 · 2⁻²⁴ · √k for sums of k = 216 terms is 4e-5.
const TOLERANCE: f64 = 1e-4;

fn compare(name: &str, dims: &[usize], found: &[f32], expected: &[f64]) {
    let largest = expected.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
    let error = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs()).fold(0.0, f64::max);
    assert!(error <= TOLERANCE * largest.max(f64::MIN_POSITIVE), "{name} {dims:?}: {error:e} of {largest:e}");
}

#[test]
fn steps_agree_with_the_naive_loops() {
    for [rows, columns] in MATRICES {
        let dims = [*rows, *columns];
        let len = rows * columns;
        for nesterov in [false, true] {
            on_every_isa(|_| {
                let (mut weight, mut velocity) = (values(1, len), vec![0.0; len]);
                let (mut expected, mut expected_velocity) = (widen(&weight), vec![0.0; len]);
                for step in 0..3 {
                    let gradient = values(2 + step, len);
                    muon_update(*rows, *columns, &mut weight, &gradient, &mut velocity, 0.2, 0.6, nesterov)
                        .expect(FITS);
                    let gradient = widen(&gradient);
                    let (rate, momentum) = (f64::from(0.2f32), f64::from(0.6f32));
                    let (w, v) = (&mut expected, &mut expected_velocity);
                    naive::muon_update(*columns, w, &gradient, v, rate, momentum, nesterov);
                    compare("weight", &dims, &weight, &expected);
                    compare("velocity", &dims, &velocity, &expected_velocity);
                }
            });
        }
    }
}

/// Returns a matrix with known singular values: two reflections around a diagonal.
fn with_singular_values(rows: usize, columns: usize, singular: &[f64]) -> Vec<f32> {
    let reflection = |seed: u64, n: usize| {
        let v = widen(&values(seed, n));
        let squared: f64 = v.iter().map(|x| x * x).sum();
        move |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / squared
    };
    let (left, right) = (reflection(3, rows), reflection(4, columns));
    let element =
        |i: usize, j: usize| -> f64 { singular.iter().enumerate().map(|(k, s)| left(i, k) * s * right(j, k)).sum() };
    (0..rows * columns).map(|at| element(at / columns, at % columns) as f32).collect()
}

#[test]
fn the_polynomial_moves_singular_values_and_keeps_vectors() {
    let singular = [1.0, 0.8, 0.5, 0.3, 0.1];
    let norm = singular.iter().map(|s| s * s).sum::<f64>().sqrt();
    let moved = singular.map(|s| (0..3).fold(s / norm, |x, _| 3.4445 * x - 4.7750 * x.powi(3) + 2.0315 * x.powi(5)));
    assert!(moved.iter().all(|s| (0.3..1.3).contains(s)), "{moved:?}");
    for (rows, columns) in [(5, 5), (12, 5), (5, 12), (40, 33)] {
        let expected = widen(&with_singular_values(rows, columns, &moved));
        on_every_isa(|_| {
            let mut found = with_singular_values(rows, columns, &singular);
            orthogonalise(rows, columns, &mut found).expect(FITS);
            compare("orthogonalise", &[rows, columns], &found, &expected);
        });
    }
}

#[test]
fn zeros_do_not_become_nan() {
    on_every_isa(|_| {
        let (mut weight, mut velocity) = (values(1, 12), vec![0.0; 12]);
        let before: f64 = squared_norm(&weight).expect(FITS);
        muon_update(4, 3, &mut weight, &[0.0; 12], &mut velocity, 0.2, 0.6, true).expect(FITS);
        assert!(before > 0.0 && (squared_norm(&weight).expect(FITS) - 3.0).abs() < 1e-5);
        let mut weight = [0.0; 12];
        muon_update(4, 3, &mut weight, &values(2, 12), &mut velocity, 0.2, 0.6, true).expect(FITS);
        assert!(weight.iter().all(|w| w.is_finite()) && weight.iter().any(|w| *w != 0.0));
        assert!(muon_update(0, 0, &mut [], &[], &mut [], 0.2, 0.6, true).is_err());
    });
}

#[test]
fn wrong_lengths_are_refused() {
    let check = |w: usize, g: usize, v: usize| {
        let (mut weight, mut velocity) = (vec![0.0; w], vec![0.0; v]);
        assert!(muon_update(4, 3, &mut weight, &vec![0.0; g], &mut velocity, 0.2, 0.6, true).is_err());
    };
    check(11, 12, 12);
    check(12, 13, 12);
    check(12, 12, 0);
    assert!(orthogonalise(4, 3, &mut [0.0; 13]).is_err());
    assert!(orthogonalise(usize::MAX, 3, &mut []).is_err());
    assert!(move_average(&mut [0.0; 3], &[0.0; 4], 0.5).is_err());
}

#[test]
fn sums_and_averages_agree_with_plain_loops() {
    for len in [0, 1, 7, 8, 9, 16 * 1024 + 5, 40_000] {
        let (x, y) = (values(1, len), values(2, len));
        let expected: f64 = widen(&x).iter().map(|x| x * x).sum();
        on_every_isa(|_| {
            let found = squared_norm(&x).expect(FITS);
            assert!((found - expected).abs() <= 1e-12 * expected, "{len}: {found} instead of {expected}");
            let (mut scaled, mut average) = (x.clone(), x.clone());
            scale_values(&mut scaled, -1.5).expect(FITS);
            move_average(&mut average, &y, 0.3).expect(FITS);
            assert_eq!(bits(&scaled), bits(&x.iter().map(|x| x * -1.5).collect::<Vec<_>>()));
            assert_eq!(bits(&average), bits(&x.iter().zip(&y).map(|(x, y)| x + 0.3 * (y - x)).collect::<Vec<_>>()));
        });
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let [rows, columns] = [576, 128];
    on_every_isa(|isa| {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool starts");
            let work = || {
                let (mut weight, mut velocity) = (values(1, rows * columns), values(3, rows * columns));
                let gradient = values(2, rows * columns);
                muon_update(rows, columns, &mut weight, &gradient, &mut velocity, 0.2, 0.6, true).expect(FITS);
                (bits(&weight), squared_norm(&weight).expect(FITS).to_bits())
            };
            pool.install(|| with_isa(isa, work).expect("this processor has the ISA"))
        };
        let expected = on(1);
        assert!((2..=4).all(|threads| on(threads) == expected), "{isa}");
    });
}
