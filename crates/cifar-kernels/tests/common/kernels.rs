//! Every kernel with its inputs, in whatever memory a test gives it.

use std::ops::DerefMut;

use cifar_kernels::{
    Activation, Conv2dShape, PoolShape, Result, activation_backward, activation_forward, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward, bias_gradient, conv2d_forward,
    conv2d_input_gradient, conv2d_weight_gradient, linear_forward, linear_input_gradient, linear_weight_gradient,
    max_pool_backward, max_pool_forward, naive, normalise_pixels, sgd_update, softmax, softmax_cross_entropy,
};

use super::{ACTIVATIONS, CONVS, LINEARS, POOLS, TABLES, values, widen};

const ACCEPTED: &str = "the lengths are those of the shape";

/// What kernels wrote, by name.
pub(crate) type Outputs = Vec<(&'static str, Vec<f32>)>;

/// Where the slices of a kernel lie.
pub(crate) trait Memory {
    type Slice<T: Copy>: DerefMut<Target = [T]>;

    fn place<T: Copy>(&self, values: &[T]) -> Self::Slice<T>;

    /// What `write` makes of a slice of NaN: a value that it does not write, or that it reads first, shows.
    fn made(&self, len: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Vec<f32> {
        let mut slice = self.place(&vec![f32::NAN; len]);
        write(&mut slice).expect(ACCEPTED);
        slice.to_vec()
    }
}

/// Where slices usually lie.
pub(crate) struct Heap;

impl Memory for Heap {
    type Slice<T: Copy> = Vec<T>;

    fn place<T: Copy>(&self, values: &[T]) -> Vec<T> {
        values.to_vec()
    }
}

pub(crate) struct Conv {
    pub(crate) shape: Conv2dShape,
    pub(crate) out_channels: usize,
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Conv {
    pub(crate) fn new([n, h, w, c, o, kernel, stride, padding]: [usize; 8], seed: u64) -> Result<Self> {
        let shape = Conv2dShape::new(n, h, w, c, o, kernel, stride, padding)?;
        Ok(Self {
            shape,
            out_channels: o,
            input: values(seed, shape.input_len()),
            weight: values(seed + 1, shape.weight_len()),
            bias: values(seed + 2, o),
            output_grad: values(seed + 3, shape.output_len()),
        })
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let (s, o) = (&self.shape, self.out_channels);
        let [x, w, b, dy] = [&self.input, &self.weight, &self.bias, &self.output_grad].map(|v| memory.place(v));
        vec![
            ("conv2d_forward", memory.made(s.output_len(), |y| conv2d_forward(s, &x, &w, Some(&b), y))),
            ("conv2d_forward without bias", memory.made(s.output_len(), |y| conv2d_forward(s, &x, &w, None, y))),
            ("conv2d_input_gradient", memory.made(s.input_len(), |dx| conv2d_input_gradient(s, &dy, &w, dx))),
            ("conv2d_weight_gradient", memory.made(s.weight_len(), |dw| conv2d_weight_gradient(s, &x, &dy, dw))),
            ("bias_gradient", memory.made(o, |db| bias_gradient(dy.len() / o, o, &dy, db))),
        ]
    }
}

pub(crate) struct Linear {
    pub(crate) dims: [usize; 3],
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Linear {
    pub(crate) fn new([rows, i, o]: [usize; 3], seed: u64) -> Self {
        Self {
            dims: [rows, i, o],
            input: values(seed, rows * i),
            weight: values(seed + 1, i * o),
            bias: values(seed + 2, o),
            output_grad: values(seed + 3, rows * o),
        }
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let [rows, i, o] = self.dims;
        let [x, w, b, dy] = [&self.input, &self.weight, &self.bias, &self.output_grad].map(|v| memory.place(v));
        vec![
            ("linear_forward", memory.made(rows * o, |y| linear_forward(rows, i, o, &x, &w, Some(&b), y))),
            ("linear_forward without bias", memory.made(rows * o, |y| linear_forward(rows, i, o, &x, &w, None, y))),
            ("linear_input_gradient", memory.made(rows * i, |dx| linear_input_gradient(rows, i, o, &dy, &w, dx))),
            ("linear_weight_gradient", memory.made(i * o, |dw| linear_weight_gradient(rows, i, o, &x, &dy, dw))),
        ]
    }
}

pub(crate) struct Pool {
    pub(crate) shape: PoolShape,
    pub(crate) input: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Pool {
    pub(crate) fn new([n, h, w, c, window, stride]: [usize; 6], seed: u64) -> Result<Self> {
        let shape = PoolShape::new(n, h, w, c, window, stride)?;
        // Few different values: windows hold equal maxima.
        let input = values(seed, shape.input_len()).into_iter().map(|v| (v * 8.0).round() / 8.0).collect();
        Ok(Self { shape, input, output_grad: values(seed + 1, shape.output_len()) })
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let s = &self.shape;
        let [x, dy] = [&self.input, &self.output_grad].map(|v| memory.place(v));
        let mut argmax = memory.place(&vec![u8::MAX; s.output_len()]);
        vec![
            ("max_pool_forward", memory.made(s.output_len(), |y| max_pool_forward(s, &x, y, &mut argmax))),
            ("max_pool_forward, places", argmax.iter().map(|place| f32::from(*place)).collect()),
            ("max_pool_backward", memory.made(s.input_len(), |dx| max_pool_backward(s, &argmax, &dy, dx))),
            ("average_pool_forward", memory.made(s.output_len(), |y| average_pool_forward(s, &x, y))),
            ("average_pool_backward", memory.made(s.input_len(), |dx| average_pool_backward(s, &dy, dx))),
        ]
    }
}

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
        // Spread from row to row: no channel has a variance that magnifies the rounding of its mean.
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
        if activation == Activation::Relu {
            // Where rounding decides on which side of the kink a value lies, f32 and f64 may rightly disagree.
            let before = norm.naive_forward(Activation::Identity);
            for (dy, z) in norm.output_grad.iter_mut().zip(before) {
                *dy = if z.abs() < 1e-4 { 0.0 } else { *dy };
            }
        }
        norm
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

        let mut statistics = None;
        let output = memory.made(len, |y| {
            statistics = Some(batch_norm_forward(rows, c, &x, &scale, &shift, Self::EPSILON, f, residual, y)?);
            Ok(())
        });
        let statistics = statistics.expect(ACCEPTED);
        let [mut dx, mut dr] = [(); 2].map(|()| memory.place(&vec![f32::NAN; len]));
        let [mut dscale, mut dshift] = [(); 2].map(|()| memory.place(&vec![f32::NAN; c]));
        let asked = residual.is_some().then_some(&mut *dr);
        batch_norm_backward(
            rows,
            c,
            &x,
            &scale,
            &shift,
            &statistics,
            f,
            residual,
            &dy,
            &mut dx,
            &mut dscale,
            &mut dshift,
            asked,
        )
        .expect(ACCEPTED);
        let evaluated = memory.made(len, |y| {
            batch_norm_evaluate(rows, c, &x, &scale, &shift, &mean, &variance, Self::EPSILON, f, residual, y)
        });
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

pub(crate) struct Loss {
    pub(crate) dims: [usize; 2],
    pub(crate) logits: Vec<f32>,
    pub(crate) labels: Vec<u32>,
    pub(crate) smoothing: f32,
}

impl Loss {
    pub(crate) fn new([rows, classes]: [usize; 2], smoothing: f32, seed: u64) -> Self {
        let logits = values(seed, rows * classes).into_iter().map(|v| 10.0 * v).collect();
        Self { dims: [rows, classes], logits, labels: (0..rows).map(|r| (7 * r % classes) as u32).collect(), smoothing }
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let ([rows, k], len) = (self.dims, self.logits.len());
        let (logits, labels) = (memory.place(&self.logits), memory.place(&self.labels));
        let mut losses = memory.place(&vec![f32::NAN; rows]);
        let grad = memory
            .made(len, |grad| softmax_cross_entropy(rows, k, &logits, &labels, self.smoothing, &mut losses, grad));
        vec![
            ("softmax_cross_entropy", losses.to_vec()),
            ("softmax_cross_entropy, gradient", grad),
            ("softmax", memory.made(len, |p| softmax(rows, k, &logits, p))),
        ]
    }
}

/// What works on a table of numbers value by value.
pub(crate) struct Table {
    pub(crate) channels: usize,
    pub(crate) input: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
    pub(crate) velocity: Vec<f32>,
    pub(crate) pixels: Vec<u8>,
    pub(crate) mean: Vec<f32>,
    pub(crate) std: Vec<f32>,
}

impl Table {
    pub(crate) const LEARNING_RATE: f32 = 0.3;
    pub(crate) const MOMENTUM: f32 = 0.85;
    pub(crate) const DECAY: f32 = 0.02;

    pub(crate) fn new([rows, c]: [usize; 2], seed: u64) -> Self {
        Self {
            channels: c,
            input: values(seed, rows * c).into_iter().map(|v| 4.0 * v).collect(),
            output_grad: values(seed + 1, rows * c),
            velocity: values(seed + 2, rows * c),
            pixels: values(seed + 3, rows * c).into_iter().map(|v| ((v + 1.0) * 128.0) as u8).collect(),
            mean: values(seed + 4, c),
            std: values(seed + 5, c).into_iter().map(|v| 1.25 + v).collect(),
        }
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let len = self.input.len();
        let [x, dy, mean, std] = [&self.input, &self.output_grad, &self.mean, &self.std].map(|v| memory.place(v));
        let pixels = memory.place(&self.pixels);
        let mut outputs =
            vec![("normalise_pixels", memory.made(len, |y| normalise_pixels(&pixels, self.channels, &mean, &std, y)))];
        for f in ACTIVATIONS {
            outputs.push(("activation_forward", memory.made(len, |y| activation_forward(f, &x, y))));
            outputs.push(("activation_backward", memory.made(len, |dx| activation_backward(f, &x, &dy, dx))));
        }
        for nesterov in [false, true] {
            let [mut w, mut v] = [&self.input, &self.velocity].map(|v| memory.place(v));
            sgd_update(&mut w, &dy, &mut v, Self::LEARNING_RATE, Self::MOMENTUM, nesterov, Self::DECAY)
                .expect(ACCEPTED);
            outputs.extend([("sgd_update, weight", w.to_vec()), ("sgd_update, velocity", v.to_vec())]);
        }
        outputs
    }
}

/// Every kernel on every shape: names with dimensions, and what was written.
pub(crate) fn every_kernel(memory: &impl Memory) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    let mut add = |dims: &[usize], outputs: Outputs| {
        all.extend(outputs.into_iter().map(|(name, values)| (format!("{name} {dims:?}"), values)));
    };
    for dims in CONVS {
        add(dims, Conv::new(*dims, 1).expect(ACCEPTED).run(memory));
    }
    for dims in POOLS {
        add(dims, Pool::new(*dims, 2).expect(ACCEPTED).run(memory));
    }
    for dims in LINEARS {
        add(dims, Linear::new(*dims, 3).run(memory));
    }
    for dims in TABLES {
        add(dims, Table::new(*dims, 4).run(memory));
        add(dims, Loss::new(*dims, 0.2, 5).run(memory));
        for activation in ACTIVATIONS {
            add(dims, Norm::new(*dims, activation, false, 6).run(memory));
            add(dims, Norm::new(*dims, activation, true, 7).run(memory));
        }
    }
    all
}
