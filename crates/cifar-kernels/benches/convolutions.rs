//! The convolutions of airbench94 and of a ResNet-18 for 32×32 pixels, forward and backward, with
//! 128 images, in `f32` and in bf16.
//!
//! "elem/s" are operations of a direct convolution per second. A multiply-add counts as two, so
//! Gelem/s are GFLOP/s.
//!
//! `cargo bench -p cifar-kernels --bench convolutions -- airbench94`

mod common;

use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{
    Activation, Conv2dDimensions, Conv2dShape, conv2d_activation_bias_gradient, conv2d_activation_forward,
    conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
use common::{BATCH, criterion, values};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

/// Input side, input and output channels, kernel, stride, padding, and whether 2×2 max pooling is
/// fused.
type Layer = (usize, usize, usize, usize, usize, usize, bool);

const AIRBENCH94: [Layer; 6] = [
    (31, 24, 64, 3, 1, 1, true),
    (15, 64, 64, 3, 1, 1, false),
    (15, 64, 256, 3, 1, 1, true),
    (7, 256, 256, 3, 1, 1, false),
    (7, 256, 256, 3, 1, 1, true),
    (3, 256, 256, 3, 1, 1, false),
];

const RESNET18: [Layer; 11] = [
    (32, 3, 64, 3, 1, 1, false),
    (32, 64, 64, 3, 1, 1, false),
    (32, 64, 128, 3, 2, 1, false),
    (32, 64, 128, 1, 2, 0, false),
    (16, 128, 128, 3, 1, 1, false),
    (16, 128, 256, 3, 2, 1, false),
    (16, 128, 256, 1, 2, 0, false),
    (8, 256, 256, 3, 1, 1, false),
    (8, 256, 512, 3, 2, 1, false),
    (8, 256, 512, 1, 2, 0, false),
    (4, 512, 512, 3, 1, 1, false),
];

fn main() {
    let mut criterion = criterion();
    whitening(&mut criterion);
    for (network, layers) in [("airbench94", &AIRBENCH94[..]), ("resnet18", &RESNET18)] {
        for layer in layers {
            convolution(&mut criterion, network, *layer);
        }
    }
    criterion.final_summary();
}

/// The first layer of airbench94: fixed filters, bias and GELU. Only the bias needs a gradient.
fn whitening(criterion: &mut Criterion) {
    let shape = Conv2dShape::new(Conv2dDimensions {
        images: BATCH,
        height: 32,
        width: 32,
        in_channels: 3,
        out_channels: 24,
        kernel: 2,
        stride: 1,
        padding: 0,
    })
    .expect("a valid shape");
    let (input, weight, bias) = (values(shape.input_len()), values(shape.weight_len()), values(24));
    let (mut output, output_grad) = (vec![0.0; shape.output_len()], values(shape.output_len()));
    let mut bias_grad = [0.0; 24];
    let mut group = criterion.benchmark_group("airbench94 whitening 3→24 @32 2×2");
    group.throughput(Throughput::Elements(shape.flops_forward()));
    run(&mut group, "forward", || {
        conv2d_activation_forward(&shape, &input, &weight, &bias, Activation::Gelu, &mut output)
    });
    run(&mut group, "bias gradient", || {
        conv2d_activation_bias_gradient(&shape, &input, &weight, &bias, Activation::Gelu, &output_grad, &mut bias_grad)
    });
}

fn convolution(criterion: &mut Criterion, network: &str, layer: Layer) {
    let (size, inputs, outputs, kernel, stride, padding, pooled) = layer;
    let shape = Conv2dShape::new(Conv2dDimensions {
        images: BATCH,
        height: size,
        width: size,
        in_channels: inputs,
        out_channels: outputs,
        kernel,
        stride,
        padding,
    })
    .expect("a valid shape");
    let (input, weight) = (values(shape.input_len()), values(shape.weight_len()));
    let (mut output, output_grad) = (vec![0.0; shape.output_len()], values(shape.output_len()));
    let (mut input_grad, mut weight_grad) = (vec![0.0; shape.input_len()], vec![0.0; shape.weight_len()]);
    let strided = if stride == 1 { String::new() } else { format!("/{stride}") };
    let name = format!("{network} {inputs}→{outputs} @{size} {kernel}×{kernel}{strided}");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(shape.flops_forward()));
    run(&mut group, "forward", || conv2d_forward(&shape, &input, &weight, None, &mut output));
    run(&mut group, "input gradient", || conv2d_input_gradient(&shape, &output_grad, &weight, &mut input_grad));
    run(&mut group, "weight gradient", || conv2d_weight_gradient(&shape, &input, &output_grad, &mut weight_grad));
    in_bf16(&mut group, &shape, &input, &weight, &output_grad);
    if pooled {
        let len = shape.pool().expect("at least two rows").output_len();
        let mut places = vec![0; len];
        run(&mut group, "forward with maximum", || {
            conv2d_max_pool_forward(&shape, &input, &weight, &mut output[..len], &mut places)
        });
        group.throughput(Throughput::Elements(2 * shape.flops_forward()));
        run(&mut group, "backward with maximum", || {
            let grads = (Some(&mut input_grad[..]), Some(&mut weight_grad[..]));
            conv2d_backward(&shape, &input, &weight, &output_grad[..len], Some(&places), grads.0, grads.1)
        });
    }
    group.throughput(Throughput::Elements(2 * shape.flops_forward()));
    run(&mut group, "backward", || {
        let grads = (Some(&mut input_grad[..]), Some(&mut weight_grad[..]));
        conv2d_backward(&shape, &input, &weight, &output_grad, None, grads.0, grads.1)
    });
}

fn in_bf16(
    group: &mut BenchmarkGroup<WallTime>,
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    output_grad: &[f32],
) {
    let [x, y] = [BlockedShape::of_input(shape), BlockedShape::of_output(shape)].map(|s| s.expect("a valid shape"));
    let blocked = |shape: &BlockedShape, images| {
        let mut blocked = vec![Bf16::ZERO; shape.len()];
        bf16::to_blocked(shape, images, &mut blocked).expect("valid arguments");
        blocked
    };
    let (input, output_grad) = (blocked(&x, input), blocked(&y, output_grad));
    let (mut output, mut input_grad) = (output_grad.clone(), input.clone());
    let mut weight_grad = weight.to_vec();
    run(group, "bf16 forward", || bf16::conv2d_forward(shape, &input, weight, &mut output));
    run(group, "bf16 input gradient", || bf16::conv2d_input_gradient(shape, &output_grad, weight, &mut input_grad));
    run(group, "bf16 weight gradient", || bf16::conv2d_weight_gradient(shape, &input, &output_grad, &mut weight_grad));
}

fn run(group: &mut BenchmarkGroup<WallTime>, name: &str, mut kernel: impl FnMut() -> cifar_kernels::Result<()>) {
    group.bench_function(name, |bencher| bencher.iter(|| kernel().expect("valid arguments")));
}
