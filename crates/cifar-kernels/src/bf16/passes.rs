//! The passes of a convolution on an implementation of the products. All lengths have been checked.

use super::convolve::{Pass, convolve, convolve_max_pool};
use super::filters::{Direction, packed};
use super::output_grad::OutputGrad;
use super::steps::{StepLists, counts};
use super::unit::Unit;
use super::{Bf16, BlockedShape};
use crate::{Buffer, Conv2dShape, PoolShape};

/// Tasks per thread between two waits for all of them, so that the last ones take little time.
const TASKS: usize = 8;

pub(super) fn forward<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [source, target]: [BlockedShape; 2],
    input: &[Bf16],
    weight: &[f32],
    output: &mut [Bf16],
) {
    let [_, taps, _] = counts(shape);
    let pass = Pass { source, target, taps, steps: &StepLists::by_output_pixel(shape) };
    convolve(unit, &pass, input, &packed(unit.isa(), shape, Direction::Forward, weight), output);
}

pub(super) fn forward_max_pool<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [source, target]: [BlockedShape; 2],
    pool: &PoolShape,
    input: &[Bf16],
    weight: &[f32],
    output: &mut [Bf16],
    places: &mut [u8],
) {
    let [_, taps, _] = counts(shape);
    let pass = Pass { source, target, taps, steps: &StepLists::by_window(shape, pool) };
    convolve_max_pool(unit, &pass, pool, input, &packed(unit.isa(), shape, Direction::Forward, weight), output, places);
}

pub(super) fn input_gradient<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [target, source]: [BlockedShape; 2],
    output_grad: OutputGrad,
    weight: &[f32],
    input_grad: &mut [Bf16],
) {
    let [_, taps, _] = counts(shape);
    let pass = Pass { source, target, taps, steps: &StepLists::by_input_pixel(shape) };
    let filters = packed(unit.isa(), shape, Direction::Backward, weight);
    let grad = match output_grad {
        OutputGrad::Whole(values) => return convolve(unit, &pass, values, &filters, input_grad),
        OutputGrad::OfMaxima(grad) => grad,
    };
    // The gradient of the output is only stored for as many images as keep all threads busy.
    let groups = (TASKS * rayon::current_num_threads()).div_ceil(pass.tasks_per_group()).min(target.groups());
    let mut expanded = Buffer::new(groups * source.group_len());
    for (part, input_grad) in input_grad.chunks_mut(groups * target.group_len()).enumerate() {
        let expanded = &mut expanded[..input_grad.len() / target.group_len() * source.group_len()];
        grad.expand(unit.isa(), part * groups * source.blocks(), expanded);
        let pass = Pass { target: target.starting_at(part * groups), ..pass };
        convolve(unit, &pass, expanded, &filters, input_grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conv2dDimensions;
    use crate::bf16::output_grad::MaximaGrad;
    use crate::bf16::pool::{blocked_shapes, max_pool_backward, max_pool_forward};
    use crate::bf16::product::PortableUnit;
    use crate::bf16::weight_gradient::weight_gradient;

    /// Images, height, width, input channels, output channels, kernel, stride, padding.
    const SHAPES: &[[usize; 8]] = &[
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 2, 2, 3, 24, 3, 1, 1],
        [33, 3, 3, 31, 33, 3, 1, 1],
        [65, 1, 1, 65, 10, 1, 1, 0], // three groups of images, in three partial sums
        [32, 5, 7, 33, 32, 3, 2, 1],
        [2, 7, 7, 24, 65, 1, 2, 0],
        [3, 4, 5, 3, 3, 2, 2, 0],
        [1, 2, 3, 5, 7, 3, 1, 3],    // windows without a pixel
        [1, 17, 16, 3, 3, 3, 1, 1],  // more than one band in both directions
        [290, 2, 2, 3, 33, 3, 1, 1], // as the next one, with pooling
        [160, 1, 1, 3, 3, 3, 1, 1],  // five, six and nine groups: fewer parts than four
        [192, 2, 3, 3, 3, 3, 1, 1],
        [288, 1, 2, 3, 3, 1, 1, 0],
        [64, 3, 3, 230, 250, 3, 1, 1], // one sum of each weight
        [290, 2, 1, 8, 33, 3, 1, 1],   // ten groups of images in four partial sums, the last one short
    ];

    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn blocked_values(shape: &BlockedShape, seed: u64) -> Vec<Bf16> {
        let mut blocked = vec![Bf16::NAN; shape.len()];
        let images = values(seed, shape.images * shape.pixels * shape.channels);
        crate::bf16::to_blocked(shape, &images, &mut blocked).expect("the lengths fit");
        blocked
    }

    /// The bits of everything that a convolution computes: output, input gradient and weight
    /// gradient, then maxima, their places and the same gradients with pooling.
    type Results = Vec<Vec<u32>>;

    /// A convolution with its operands.
    struct Operands {
        shape: Conv2dShape,
        shapes: [BlockedShape; 2],
        input: Vec<Bf16>,
        weight: Vec<f32>,
        output_grad: Vec<Bf16>,
        /// The pooling, if windows fit, with the shape and the gradient of the maxima.
        pool: Option<(PoolShape, BlockedShape, Vec<Bf16>)>,
    }

    impl Operands {
        fn new([images, height, width, in_channels, out_channels, kernel, stride, padding]: [usize; 8]) -> Self {
            let dims = Conv2dDimensions { images, height, width, in_channels, out_channels, kernel, stride, padding };
            let shape = Conv2dShape::new(dims).expect("a valid shape");
            let shapes = [BlockedShape::of_input(&shape), BlockedShape::of_output(&shape)].map(|s| s.expect("fits"));
            let pool = shape.pool().ok().map(|pool| {
                let [_, maxima] = blocked_shapes(&pool).expect("a valid shape");
                (pool, maxima, blocked_values(&maxima, 4))
            });
            let [input, output_grad] = [0, 1].map(|side| blocked_values(&shapes[side], 1 + side as u64));
            Self { shape, shapes, input, weight: values(3, shape.weight_len()), output_grad, pool }
        }

        fn forward(&self, unit: impl Unit) -> Vec<Bf16> {
            let mut output = vec![Bf16::NAN; self.shapes[1].len()];
            forward(unit, &self.shape, self.shapes, &self.input, &self.weight, &mut output);
            output
        }

        fn backward(&self, unit: impl Unit, output_grad: OutputGrad) -> [Vec<u32>; 2] {
            let (mut dx, mut dw) = (vec![Bf16::NAN; self.shapes[0].len()], vec![f32::NAN; self.weight.len()]);
            input_gradient(unit, &self.shape, self.shapes, output_grad, &self.weight, &mut dx);
            weight_gradient(unit, &self.shape, self.shapes, &self.input, output_grad, &mut dw);
            [bits(&dx), dw.into_iter().map(f32::to_bits).collect()]
        }

        fn run(&self, unit: impl Unit) -> Results {
            let mut results = vec![bits(&self.forward(unit))];
            results.extend(self.backward(unit, OutputGrad::Whole(&self.output_grad)));
            if let Some((pool, shape, grad)) = &self.pool {
                let (mut maxima, mut places) = (vec![Bf16::NAN; shape.len()], vec![u8::MAX; shape.len()]);
                let (input, weight) = (&self.input, &self.weight);
                forward_max_pool(unit, &self.shape, self.shapes, pool, input, weight, &mut maxima, &mut places);
                results.extend([bits(&maxima), places.iter().map(|place| u32::from(*place)).collect()]);
                let grad = MaximaGrad { pool: *pool, values: grad, places: &places };
                results.extend(self.backward(unit, OutputGrad::OfMaxima(grad)));
            }
            results
        }

        /// As [`Operands::run`], with pooling as an operation of its own.
        fn run_apart(&self) -> Results {
            let (unit, output) = (PortableUnit, self.forward(PortableUnit));
            let mut results = vec![bits(&output)];
            results.extend(self.backward(unit, OutputGrad::Whole(&self.output_grad)));
            if let Some((pool, shape, grad)) = &self.pool {
                let (mut maxima, mut places) = (vec![Bf16::NAN; shape.len()], vec![u8::MAX; shape.len()]);
                max_pool_forward(pool, &output, &mut maxima, &mut places).expect("the lengths fit");
                results.extend([bits(&maxima), places.iter().map(|place| u32::from(*place)).collect()]);
                let mut expanded = vec![Bf16::NAN; output.len()];
                max_pool_backward(pool, &places, grad, &mut expanded).expect("the lengths fit");
                results.extend(self.backward(unit, OutputGrad::Whole(&expanded)));
            }
            results
        }
    }

    fn bits(values: &[Bf16]) -> Vec<u32> {
        values.iter().map(|value| u32::from(value.to_bits())).collect()
    }

    fn check(unit: impl Unit, dims: [usize; 8], threads: &[usize], expected: &Results) {
        let operands = Operands::new(dims);
        for threads in threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().expect("a pool starts");
            let isa = unit.isa();
            assert!(pool.install(|| operands.run(unit)) == *expected, "{dims:?}, {threads} threads, {isa}");
        }
    }

    /// Runs the same passes, with the same addresses, on all implementations. Without AMX its
    /// instructions are emulated one by one, which takes microseconds each.
    #[test]
    fn every_implementation_returns_the_same_bits_on_any_number_of_threads() {
        for dims in SHAPES {
            let expected = Operands::new(*dims).run_apart();
            check(PortableUnit, *dims, &[3], &expected);
            #[cfg(target_arch = "x86_64")]
            if let Some(unit) = crate::bf16::product::Avx2Unit::new() {
                check(unit, *dims, &[1, 2, 3, 8], &expected);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(unit) = crate::bf16::product::Avx512Unit::new() {
                check(unit, *dims, &[1, 2, 3, 8], &expected);
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            check(crate::bf16::product::trap::amx(), *dims, &[1, 8], &expected);
        }
    }
}
