//! Whitening: a first convolution whose filters decorrelate the patches of the training images.
//!
//! Let Σ = Σₖ λₖ vₖ vₖᵀ be the second moments of the patches. Normalised pixels have mean 0, so
//! this is their covariance. The filters are vₖ / √(λₖ + ε), the largest eigenvalue first, and then
//! their negatives, since the activation that follows is one-sided (Jordan 2024, arXiv 2404.00498).

use candle_core::{Device, Tensor, Var};
use cifar_data::Dataset;
use cifar_data::prepare::Normalisation;
use cifar_kernels::Activation;
use rayon::prelude::*;

use crate::parameters::{Init, Kind, Parameter, Parameters};
use crate::{FeatureMap, Mode, Precision, Result, ops};

const KERNEL: usize = 2;
/// Values per patch.
const PATCH: usize = KERNEL * KERNEL * 3;
/// Training images whose patches are used.
const IMAGES: usize = 5000;
/// Added to the eigenvalues, so that directions without variance are not amplified.
const EPSILON: f64 = 5e-4;

type Matrix = [[f64; PATCH]; PATCH];

/// The layer: 2×2 filters from 3 to 24 channels without padding, a trained bias, an activation.
#[derive(Debug, Clone)]
pub struct Whitening {
    weight: Var,
    bias: Parameter,
    activation: Activation,
}

impl Whitening {
    /// Channels of the output.
    pub const OUTPUTS: usize = 2 * PATCH;

    /// Creates the layer. Filters are random until [`Whitening::prepare`] sets them; the bias
    /// starts at 0.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn new(parameters: &mut Parameters, name: &str, activation: Activation) -> Result<Self> {
        let shape = (KERNEL, KERNEL, 3, Self::OUTPUTS);
        Ok(Self {
            weight: parameters.add_buffer(format!("{name}.weight"), shape, Init::Uniform)?.var,
            bias: parameters.add(format!("{name}.bias"), Kind::WhiteningBias, Self::OUTPUTS, Init::Constant(0.0))?,
            activation,
        })
    }

    /// Sets the filters from the first 5,000 images of `train`, which must have at least 2×2
    /// pixels.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn prepare(&self, train: &Dataset, normalisation: &Normalisation) -> Result<()> {
        let weight = filters(&second_moments(train, normalisation));
        Ok(self.weight.set(&Tensor::from_vec(weight, self.weight.shape(), &Device::Cpu)?)?)
    }

    /// Computes `[N, H, W, 3]` → `[N, H − 1, W − 1, 24]` in `f32`. The result is rounded to bf16 if
    /// the following convolution computes in bf16.
    ///
    /// # Errors
    /// As [`ops::conv2d_activation`].
    pub fn forward(&self, images: &FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let is_rounded = images.precision() == Precision::Bf16 && Self::OUTPUTS >= Precision::LEAST_CHANNELS;
        let layer = if is_rounded { ops::conv2d_activation_bf16 } else { ops::conv2d_activation };
        Ok(layer(images, &self.weight.as_detached_tensor(), &self.bias.value(mode), 1, 0, self.activation)?)
    }
}

/// Returns the mean of x·xᵀ over all patches x. Sums of bytes are exact, so their order does not
/// matter.
fn second_moments(train: &Dataset, normalisation: &Normalisation) -> Matrix {
    type Sums = ([u64; PATCH], [[u64; PATCH]; PATCH]);
    let (size, pixels) = (train.size(), train.pixels());
    let row = size.width * 3;
    let add_patches = |image: &[u8]| {
        let (mut sums, mut products): Sums = Default::default();
        for rows in image.chunks_exact(row).zip(image.chunks_exact(row).skip(1)) {
            for (top, bottom) in rows.0.windows(6).zip(rows.1.windows(6)).step_by(3) {
                let mut patch = [0; PATCH];
                for (value, byte) in patch.iter_mut().zip(top.iter().chain(bottom)) {
                    *value = u64::from(*byte);
                }
                for (i, value) in patch.iter().enumerate() {
                    sums[i] += value;
                    for (product, other) in products[i].iter_mut().zip(&patch) {
                        *product += value * other;
                    }
                }
            }
        }
        (sums, products)
    };
    let add = |mut a: Sums, b: Sums| {
        a.0.iter_mut().zip(&b.0).for_each(|(a, b)| *a += b);
        a.1.iter_mut().flatten().zip(b.1.iter().flatten()).for_each(|(a, b)| *a += b);
        a
    };
    let images = &pixels[..train.len().min(IMAGES) * size.bytes()];
    let (sums, products) = images.par_chunks(size.bytes()).map(add_patches).reduce(Sums::default, add);

    // normalised = a · byte − b, with a and b of the channel.
    let count = (images.len() / size.bytes() * (size.height - 1) * (size.width - 1)) as f64;
    let a = |i: usize| 1.0 / (255.0 * f64::from(normalisation.std[i % 3]));
    let b = |i: usize| f64::from(normalisation.mean[i % 3]) / f64::from(normalisation.std[i % 3]);
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let (x, y, xy) = (sums[i] as f64 / count, sums[j] as f64 / count, products[i][j] as f64 / count);
            a(i) * a(j) * xy - a(i) * b(j) * x - b(i) * a(j) * y + b(i) * b(j)
        })
    })
}

/// Returns the filters `[2, 2, 3, 24]` for patches with these second moments.
fn filters(moments: &Matrix) -> Vec<f32> {
    let directions = eigenvectors(moments);
    let value = |element: usize, output: usize| {
        let (eigenvalue, vector) = &directions[output % PATCH];
        let sign = if output < PATCH { 1.0 } else { -1.0 };
        (sign * vector[element] / (eigenvalue.max(0.0) + EPSILON).sqrt()) as f32
    };
    (0..PATCH).flat_map(|element| (0..Whitening::OUTPUTS).map(move |output| value(element, output))).collect()
}

/// Returns the eigenvalues of a symmetric matrix and unit eigenvectors, largest eigenvalue first.
///
/// The method is Jacobi's rotations (1846). The element of largest magnitude of each eigenvector,
/// the first of equals, is positive. Only basic operations and square roots are used, so the bits
/// are the same everywhere.
fn eigenvectors(matrix: &Matrix) -> Vec<(f64, [f64; PATCH])> {
    /// Ten or fewer sweeps are enough. The bound is for matrices with NaN, which never converge.
    const SWEEPS: usize = 50;
    let mut a = *matrix;
    // Row k becomes eigenvector k.
    let mut vectors: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    let diagonal: f64 = (0..PATCH).map(|i| a[i][i] * a[i][i]).sum();
    for _ in 0..SWEEPS {
        let rest: f64 = (0..PATCH).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        if rest <= 1e-30 * diagonal {
            break;
        }
        for (p, q) in (0..PATCH).flat_map(|p| (p + 1..PATCH).map(move |q| (p, q))) {
            if a[p][q] == 0.0 {
                continue;
            }
            // The rotation that makes a[p][q] zero: tangent, cosine and sine of its angle.
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = 1f64.copysign(theta) / (theta.abs() + (theta * theta + 1.0).sqrt());
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            for row in &mut a {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            for k in 0..PATCH {
                (a[p][k], a[q][k]) = (c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]);
                (vectors[p][k], vectors[q][k]) =
                    (c * vectors[p][k] - s * vectors[q][k], s * vectors[p][k] + c * vectors[q][k]);
            }
        }
    }
    let mut pairs: Vec<(f64, [f64; PATCH])> = (0..PATCH)
        .map(|k| {
            let largest = vectors[k].iter().fold(0.0, |m: f64, v| if v.abs() > m.abs() { *v } else { m });
            (a[k][k], vectors[k].map(|v| v * 1f64.copysign(largest)))
        })
        .collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    pairs
}

#[cfg(test)]
mod tests {
    use cifar_data::sources::synthetic::{SyntheticParams, generate};

    use super::*;
    use crate::images_to_feature_map;

    #[test]
    fn whitened_patches_are_uncorrelated() {
        let images = generate(&SyntheticParams { count: 60, ..Default::default() }).unwrap().dataset;
        let normalisation = cifar_data::prepare::normalisation(&images);
        let mut parameters = Parameters::new(0);
        let layer = Whitening::new(&mut parameters, "whitening", Activation::Identity).unwrap();
        layer.prepare(&images, &normalisation).unwrap();
        let pixels = images_to_feature_map(images.pixels(), images.size(), &normalisation).unwrap();
        let whitened = layer.forward(&pixels, &Mode::Evaluate).unwrap();
        assert_eq!(whitened.dims(), [60, 31, 31, 24]);
        let rows = whitened.values().unwrap().chunks_exact(24);
        let n = rows.len() as f64;
        let mut moments = [[0.0; PATCH]; PATCH];
        for row in rows {
            assert!((0..PATCH).all(|i| row[i].to_bits() == (-row[PATCH + i]).to_bits()));
            for (moments, x) in moments.iter_mut().zip(row) {
                moments.iter_mut().zip(row).for_each(|(m, y)| *m += f64::from(*x) * f64::from(*y) / n);
            }
        }
        let mut previous = 1.0;
        for (i, moments) in moments.iter().enumerate() {
            // λ / (λ + ε): close to 1, and decreasing.
            assert!(moments[i] > 0.1 && moments[i] < previous + 1e-4, "{moments:?}");
            previous = moments[i];
            // f32 rounding, 1e-7, times filters of up to 1/√ε = 45 on values of about 1.
            assert!((0..i).all(|j| moments[j].abs() < 1e-3), "{moments:?}");
        }
    }

    #[test]
    fn eigenvectors_satisfy_their_equation() {
        let matrix: Matrix = std::array::from_fn(|i| {
            std::array::from_fn(|j| 1.0 / (1 + i + j) as f64 + if i == j { 0.1 * i as f64 } else { 0.0 })
        });
        let pairs = eigenvectors(&matrix);
        for (index, (value, vector)) in pairs.iter().enumerate() {
            for (row, x) in matrix.iter().zip(vector) {
                let image: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((image - value * x).abs() < 1e-14, "{value}");
            }
            assert!(index == 0 || pairs[index - 1].0 >= *value);
        }
    }

    #[test]
    fn a_matrix_without_variance_gives_finite_filters() {
        assert!(filters(&[[0.0; PATCH]; PATCH]).iter().all(|w| w.is_finite()));
    }
}
