//! Batch normalisation in bf16, with statistics, parameters and sums in `f32` or `f64`.

use super::blocked::SIDE;
use super::gelu::with_rounded_function;
use super::rows::{Row, load, of_block, round, row, store, sum, vectors, widened, write, write_and_sum};
use super::{Bf16, BlockedShape};
use crate::batch_norm::check_epsilon;
use crate::error::{Result, check_len};
use crate::generic::activation::Function;
use crate::generic::on_isa;
use crate::isa::Simd;
use crate::{Activation, BatchStatistics};

/// The input and parameters of a batch normalisation, as those of
/// [`BatchNorm`](crate::BatchNorm).
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// The dimensions of the input.
    pub shape: BlockedShape,
    /// The input x, blocked.
    pub input: &'a [Bf16],
    /// The factor of each channel.
    pub scale: &'a [f32],
    /// The offset of each channel.
    pub shift: &'a [f32],
    /// Values to add before the activation, blocked.
    pub residual: Option<&'a [Bf16]>,
    /// The activation f.
    pub activation: Activation,
}

/// Where [`batch_norm_backward`] writes the gradients.
#[derive(Debug)]
pub struct BatchNormGradients<'a> {
    /// The gradient with respect to the input, blocked.
    pub input: &'a mut [Bf16],
    /// The gradient with respect to the scale, one value per channel.
    pub scale: &'a mut [f32],
    /// The gradient with respect to the shift, one value per channel.
    pub shift: &'a mut [f32],
    /// The gradient with respect to the residual, blocked; not written if `None`.
    pub residual: Option<&'a mut [Bf16]>,
}

impl BatchNorm<'_> {
    /// Checks the slices that all entry points share.
    fn check(&self, op: &'static str) -> Result<()> {
        check_len(op, "input", self.input, self.shape.len())?;
        check_len(op, "scale", self.scale, self.shape.channels)?;
        check_len(op, "shift", self.shift, self.shape.channels)?;
        self.residual.map_or(Ok(()), |residual| check_len(op, "residual", residual, self.shape.len()))
    }

    /// Returns the parameters of the channels of each block.
    fn channels(&self, statistics: &BatchStatistics) -> Vec<Channels> {
        let of_block = |block| Channels {
            mean: of_block(&statistics.mean, block),
            inverse_std: of_block(&statistics.inverse_std, block),
            scale: of_block(self.scale, block),
            shift: of_block(self.shift, block),
        };
        (0..self.shape.blocks()).map(of_block).collect()
    }

    /// Returns the normalised input of a row, and the values before the activation.
    #[inline(always)]
    fn normalised<S: Simd>(&self, s: S, k: &Channels, at: usize) -> [Row; 2] {
        let residual = self.residual.map(|residual| widened(row(residual, at)));
        let (mut normalised, mut before) = (widened(row(self.input, at)), [0.0; SIDE]);
        for channel in vectors::<S>() {
            let x = s.sub(load(s, &normalised, channel), load(s, &k.mean, channel));
            let x = s.mul(x, load(s, &k.inverse_std, channel));
            let z = s.mul_add(x, load(s, &k.scale, channel), load(s, &k.shift, channel));
            let z = if let Some(residual) = &residual { s.add(z, load(s, residual, channel)) } else { z };
            store(s, &mut normalised, channel, x);
            store(s, &mut before, channel, z);
        }
        [normalised, before]
    }
}

/// The parameters of 32 channels. Those beyond the last channel are 0.
struct Channels {
    mean: Row,
    inverse_std: Row,
    scale: Row,
    shift: Row,
}

/// Normalises the input by its own statistics, as in training, and returns them.
///
/// This is [`batch_norm_forward`](crate::batch_norm_forward) with `input` and `output` blocked.
///
/// # Errors
/// If a slice has the wrong length, or `epsilon` is not a finite number above 0.
///
/// ```
/// use cifar_kernels::Activation;
/// use cifar_kernels::bf16::{
///     BatchNorm, Bf16, BlockedShape, batch_norm_forward, from_blocked, to_blocked,
/// };
///
/// let shape = BlockedShape::new([2, 1, 1, 1])?;
/// let (mut input, mut output) = (vec![Bf16::ZERO; shape.len()], vec![Bf16::ZERO; shape.len()]);
/// to_blocked(&shape, &[1.0, 3.0], &mut input)?;
/// let layer = BatchNorm {
///     shape,
///     input: &input,
///     scale: &[1.0],
///     shift: &[0.5],
///     residual: None,
///     activation: Activation::Identity,
/// };
/// let statistics = batch_norm_forward(&layer, 1e-12, &mut output)?;
/// assert_eq!((statistics.mean, statistics.variance), (vec![2.0], vec![1.0]));
///
/// let mut values = [0.0; 2];
/// from_blocked(&shape, &output, &mut values)?;
/// assert_eq!(values, [-0.5, 1.5]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn batch_norm_forward(layer: &BatchNorm, epsilon: f32, output: &mut [Bf16]) -> Result<BatchStatistics> {
    const OP: &str = "bf16::batch_norm_forward";
    layer.check(OP)?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "output", output, layer.shape.len())?;
    let statistics = on_isa!(statistics, layer, epsilon);
    on_isa!(apply, layer, &statistics, output);
    Ok(statistics)
}

/// Normalises the input by given statistics, as in evaluation.
///
/// This is [`batch_norm_evaluate`](crate::batch_norm_evaluate) with `input` and `output` blocked.
///
/// # Errors
/// As [`batch_norm_forward`].
pub fn batch_norm_evaluate(
    layer: &BatchNorm,
    running_mean: &[f32],
    running_variance: &[f32],
    epsilon: f32,
    output: &mut [Bf16],
) -> Result<()> {
    const OP: &str = "bf16::batch_norm_evaluate";
    layer.check(OP)?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "output", output, layer.shape.len())?;
    check_len(OP, "running_mean", running_mean, layer.shape.channels)?;
    check_len(OP, "running_variance", running_variance, layer.shape.channels)?;
    let statistics = BatchStatistics {
        mean: running_mean.to_vec(),
        variance: running_variance.to_vec(),
        inverse_std: running_variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect(),
    };
    on_isa!(apply, layer, &statistics, output);
    Ok(())
}

/// Computes the gradients of [`batch_norm_forward`], including those through the statistics.
///
/// This is [`batch_norm_backward`](crate::batch_norm_backward) with blocked activations and their
/// gradients. The gradient before the activation is rounded to bf16. All others follow from it, those
/// of scale and shift in `f32`.
///
/// # Errors
/// If a slice has the wrong length.
pub fn batch_norm_backward(
    layer: &BatchNorm,
    statistics: &BatchStatistics,
    output_grad: &[Bf16],
    gradients: BatchNormGradients,
) -> Result<()> {
    const OP: &str = "bf16::batch_norm_backward";
    layer.check(OP)?;
    check_len(OP, "output_grad", output_grad, layer.shape.len())?;
    check_len(OP, "input_grad", gradients.input, layer.shape.len())?;
    for (argument, slice) in [
        ("statistics.mean", &*statistics.mean),
        ("statistics.variance", &statistics.variance),
        ("statistics.inverse_std", &statistics.inverse_std),
        ("scale_grad", gradients.scale),
        ("shift_grad", gradients.shift),
    ] {
        check_len(OP, argument, slice, layer.shape.channels)?;
    }
    if let Some(residual) = &gradients.residual {
        check_len(OP, "residual_grad", residual, layer.shape.len())?;
    }
    on_isa!(backward, layer, statistics, output_grad, gradients);
    Ok(())
}

/// Computes the mean and variance of each channel. The sums are of distances from the first value,
/// so that a large mean does not cause cancellation.
fn statistics<S: Simd>(s: S, layer: &BatchNorm, epsilon: f32) -> BatchStatistics {
    let shape = &layer.shape;
    let origins: Vec<Row> =
        (0..shape.blocks()).map(|block| widened(row(layer.input, block * shape.pixels * SIDE))).collect();
    let [sums, squares] = sum(
        s,
        shape,
        #[inline(always)]
        |block, at| {
            let (mut x, mut square) = (widened(row(layer.input, at)), [0.0; SIDE]);
            for ((x, square), origin) in x.iter_mut().zip(&mut square).zip(&origins[block]) {
                *x -= origin;
                *square = *x * *x;
            }
            [x, square]
        },
    );
    let n = (shape.images * shape.pixels) as f64;
    let (mut mean, mut variance, mut inverse_std) = (vec![], vec![], vec![]);
    for ((origin, sum), square) in origins.as_flattened().iter().zip(sums).zip(squares) {
        let distance = sum / n;
        let v = (square / n - distance * distance).max(0.0);
        mean.push((f64::from(*origin) + distance) as f32);
        variance.push(v as f32);
        inverse_std.push((1.0 / (v + f64::from(epsilon)).sqrt()) as f32);
    }
    BatchStatistics { mean, variance, inverse_std }
}

fn apply<S: Simd>(s: S, layer: &BatchNorm, statistics: &BatchStatistics, output: &mut [Bf16]) {
    with_rounded_function!(layer.activation, apply_with(s, layer, statistics, output));
}

fn apply_with<S: Simd, F: Function>(s: S, f: F, layer: &BatchNorm, statistics: &BatchStatistics, output: &mut [Bf16]) {
    let channels = layer.channels(statistics);
    write(
        s,
        &layer.shape,
        output,
        #[inline(always)]
        |block, at, output| {
            let [_, mut values] = layer.normalised(s, &channels[block], at);
            for channel in vectors::<S>() {
                let z = load(s, &values, channel);
                store(s, &mut values, channel, f.value(s, z));
            }
            round(&values, output);
        },
    );
}

fn backward<S: Simd>(
    s: S,
    layer: &BatchNorm,
    statistics: &BatchStatistics,
    output_grad: &[Bf16],
    gradients: BatchNormGradients,
) {
    with_rounded_function!(layer.activation, backward_with(s, layer, statistics, output_grad, gradients));
}

fn backward_with<S: Simd, F: Function>(
    s: S,
    f: F,
    layer: &BatchNorm,
    statistics: &BatchStatistics,
    output_grad: &[Bf16],
    mut gradients: BatchNormGradients,
) {
    let (shape, channels) = (&layer.shape, layer.channels(statistics));
    // The gradient before the activation, which is also that of the residual. It is written once,
    // as its slope takes longer to compute than to write and read.
    let before = gradients.residual.as_deref_mut().unwrap_or(&mut *gradients.input);
    let [sums, products] = write_and_sum(
        s,
        shape,
        before,
        #[inline(always)]
        |block, at, before| {
            let [mut x, z] = layer.normalised(s, &channels[block], at);
            let mut grad = widened(row(output_grad, at));
            for channel in vectors::<S>() {
                let dy = load(s, &grad, channel);
                store(s, &mut grad, channel, s.mul(dy, f.slope(s, load(s, &z, channel))));
            }
            round(&grad, before);
            let grad = widened(before);
            for (x, grad) in x.iter_mut().zip(&grad) {
                *x *= grad;
            }
            [grad, x]
        },
    );
    let n = (shape.images * shape.pixels) as f64;
    let mean = |sums: &[f64]| sums.iter().map(|sum| (sum / n) as f32).collect::<Vec<f32>>();
    let (mean_grad, mean_product) = (mean(&sums), mean(&products));
    let factor: Vec<f32> = layer.scale.iter().zip(&statistics.inverse_std).map(|(s, i)| s * i).collect();
    let blocks: Vec<[Row; 3]> = (0..shape.blocks())
        .map(|block| [&mean_grad, &mean_product, &factor].map(|values| of_block(values, block)))
        .collect();
    let residual = gradients.residual.as_deref();
    write(
        s,
        shape,
        gradients.input,
        #[inline(always)]
        |block, at, input_grad| {
            let grad = widened(residual.map_or(&*input_grad, |before| row(before, at)));
            let (mut values, [mean_grad, mean_product, factor]) = (widened(row(layer.input, at)), &blocks[block]);
            let k = &channels[block];
            for channel in vectors::<S>() {
                let x = s.sub(load(s, &values, channel), load(s, &k.mean, channel));
                let x = s.mul(x, load(s, &k.inverse_std, channel));
                let centred = s.sub(load(s, &grad, channel), load(s, mean_grad, channel));
                let centred = s.neg_mul_add(x, load(s, mean_product, channel), centred);
                store(s, &mut values, channel, s.mul(load(s, factor, channel), centred));
            }
            round(&values, input_grad);
        },
    );
    for channel in 0..layer.shape.channels {
        (gradients.scale[channel], gradients.shift[channel]) = (products[channel] as f32, sums[channel] as f32);
    }
}
