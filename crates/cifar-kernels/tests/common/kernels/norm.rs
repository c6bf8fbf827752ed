//! Batch norm, alone and followed by pooling.

use cifar_kernels::{
    Activation, BatchNorm, BatchNormGradients, PoolShape, batch_norm_backward, batch_norm_evaluate, batch_norm_forward,
    batch_norm_max_pool_backward, batch_norm_max_pool_forward, max_pool_backward, max_pool_forward, naive,
};

use super::{ACCEPTED, Memory, Outputs};
use crate::common::{pool_shape, values, widen};

pub(crate) struct Norm {
    pub(crate) dims: [usize; 2],
    pub(crate) activation: Activation,
    pub(crate) input: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) residual: Option<Vec<f32>>,
    pub(crate) output_grad: Vec<f32>,
    pub(crate) running_mean: Vec<f32>,
    pub(crate) running_variance: Vec<f32>,
}

impl Norm {
    pub(crate) const EPSILON: f32 = 1e-5;

    pub(crate) fn new([rows, c]: [usize; 2], activation: Activation, residual: bool, seed: u64) -> Self {
        let mut input = values(seed, rows * c);
        // Spread from row to row, so that no variance is small enough to magnify the rounding of
        // its mean.
        for (at, value) in input.iter_mut().enumerate() {
            *value += if (at / c).is_multiple_of(2) { 1.5 } else { -1.5 };
        }
        let positive = |seed| values(seed, c).into_iter().map(|v| 1.25 + v).collect();
        let mut norm = Self {
            dims: [rows, c],
            activation,
            input,
            scale: values(seed + 1, c),
            shift: values(seed + 2, c),
            residual: residual.then(|| values(seed + 3, rows * c)),
            output_grad: values(seed + 4, rows * c),
            running_mean: values(seed + 5, c),
            running_variance: positive(seed + 6),
        };
        norm.avoid_kink();
        norm
    }

    /// Sets gradients to 0 where rounding decides on which side of ReLU's kink a value is, so that
    /// `f32` and `f64` may differ.
    pub(crate) fn avoid_kink(&mut self) {
        if self.activation == Activation::Relu {
            let before = self.naive_forward(Activation::Identity);
            for (dy, z) in self.output_grad.iter_mut().zip(before) {
                *dy = if z.abs() < 1e-4 { 0.0 } else { *dy };
            }
        }
    }

    pub(crate) fn naive_forward(&self, activation: Activation) -> Vec<f64> {
        let residual = self.residual.as_deref().map(widen);
        let [x, scale, shift] = [&self.input, &self.scale, &self.shift].map(|v| widen(v));
        let epsilon = f64::from(Self::EPSILON);
        naive::batch_norm_forward(self.dims[1], &x, &scale, &shift, epsilon, activation, residual.as_deref())
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let ([rows, c], len, f) = (self.dims, self.input.len(), self.activation);
        let [x, scale, shift, dy] = [&self.input, &self.scale, &self.shift, &self.output_grad].map(|v| memory.place(v));
        let [mean, variance] = [&self.running_mean, &self.running_variance].map(|v| memory.place(v));
        let residual = self.residual.as_ref().map(|r| memory.place(r));
        let residual = residual.as_deref();

        let (rows, channels, input, activation) = (rows, c, &*x, f);
        let layer = BatchNorm { rows, channels, input, scale: &scale, shift: &shift, residual, activation };
        let mut statistics = None;
        let output = memory.made(len, |y| {
            statistics = Some(batch_norm_forward(&layer, Self::EPSILON, y)?);
            Ok(())
        });
        let statistics = statistics.expect(ACCEPTED);
        let [mut dx, mut dr] = [(); 2].map(|()| memory.place(&vec![f32::NAN; len]));
        let [mut dscale, mut dshift] = [(); 2].map(|()| memory.place(&vec![f32::NAN; c]));
        let asked = residual.is_some().then_some(&mut *dr);
        let gradients = BatchNormGradients { input: &mut dx, scale: &mut dscale, shift: &mut dshift, residual: asked };
        batch_norm_backward(&layer, &statistics, &dy, gradients).expect(ACCEPTED);
        let evaluated = memory.made(len, |y| batch_norm_evaluate(&layer, &mean, &variance, Self::EPSILON, y));
        let mut outputs = vec![
            ("batch_norm_forward", output),
            ("batch_norm_evaluate", evaluated),
            ("batch_norm_forward, mean", statistics.mean),
            ("batch_norm_forward, variance", statistics.variance),
            ("batch_norm_forward, inverse_std", statistics.inverse_std),
            ("batch_norm_backward, input", dx.to_vec()),
            ("batch_norm_backward, scale", dscale.to_vec()),
            ("batch_norm_backward, shift", dshift.to_vec()),
        ];
        if residual.is_some() {
            outputs.push(("batch_norm_backward, residual", dr.to_vec()));
        }
        outputs
    }
}

/// Batch norm and pooling in one pass.
pub(crate) struct PooledNorm {
    norm: Norm,
    shape: PoolShape,
    output_grad: Vec<f32>,
}

impl PooledNorm {
    /// Returns `None` if windows overlap or pixels are between them.
    pub(crate) fn new(dims: [usize; 6], activation: Activation, residual: bool, seed: u64) -> Option<Self> {
        let [images, height, width, channels, window, stride] = dims;
        let shape = pool_shape(dims).expect(ACCEPTED);
        let norm = Norm::new([images * height * width, channels], activation, residual, seed);
        let output_grad = values(seed + 7, shape.output_len());
        (window == stride).then_some(Self { norm, shape, output_grad })
    }

    /// Computes both in one pass, or with `apart` one after the other.
    pub(crate) fn run(&self, memory: &impl Memory, apart: bool) -> Outputs {
        let Norm { dims: [rows, channels], activation, .. } = self.norm;
        let norm = &self.norm;
        let [x, scale, shift] = [&norm.input, &norm.scale, &norm.shift].map(|v| memory.place(v));
        let (dy, residual) = (memory.place(&self.output_grad), norm.residual.as_ref().map(|r| memory.place(r)));
        let residual = residual.as_deref();
        let layer = BatchNorm { rows, channels, input: &x, scale: &scale, shift: &shift, residual, activation };
        let mut places = memory.place(&vec![u8::MAX; self.shape.output_len()]);
        let mut statistics = None;
        let output = memory.made(self.shape.output_len(), |y| {
            statistics = Some(if apart {
                let mut full = vec![f32::NAN; x.len()];
                let statistics = batch_norm_forward(&layer, Norm::EPSILON, &mut full)?;
                max_pool_forward(&self.shape, &full, y, &mut places)?;
                statistics
            } else {
                batch_norm_max_pool_forward(&layer, &self.shape, Norm::EPSILON, y, &mut places)?
            });
            Ok(())
        });
        let statistics = statistics.expect(ACCEPTED);
        let [mut dx, mut dr] = [(); 2].map(|()| memory.place(&vec![f32::NAN; x.len()]));
        let [mut dscale, mut dshift] = [(); 2].map(|()| memory.place(&vec![f32::NAN; channels]));
        let asked = residual.is_some().then_some(&mut *dr);
        let gradients = BatchNormGradients { input: &mut dx, scale: &mut dscale, shift: &mut dshift, residual: asked };
        if apart {
            let mut full = vec![f32::NAN; x.len()];
            max_pool_backward(&self.shape, &places, &dy, &mut full).expect(ACCEPTED);
            batch_norm_backward(&layer, &statistics, &full, gradients).expect(ACCEPTED);
        } else {
            batch_norm_max_pool_backward(&layer, &self.shape, &statistics, &places, &dy, gradients).expect(ACCEPTED);
        }
        let mut outputs = vec![
            ("batch_norm_max_pool_forward", output),
            ("batch_norm_max_pool_forward, places", places.iter().map(|place| f32::from(*place)).collect()),
            ("batch_norm_max_pool_forward, mean", statistics.mean),
            ("batch_norm_max_pool_forward, inverse_std", statistics.inverse_std),
            ("batch_norm_max_pool_backward, input", dx.to_vec()),
            ("batch_norm_max_pool_backward, scale", dscale.to_vec()),
            ("batch_norm_max_pool_backward, shift", dshift.to_vec()),
        ];
        if residual.is_some() {
            outputs.push(("batch_norm_max_pool_backward, residual", dr.to_vec()));
        }
        outputs
    }
}
