//! Networks in bf16: close to those in `f32`, with the same guarantees.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use crate::common::{NAMES, SIZE, get, ids, images, labels, narrow, set};
use candle_core::Tensor;
use cifar_data::prepare::normalisation;
use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_kernels::bf16::Bf16;
use cifar_kernels::sgd_update;
use cifar_kernels::{Buffer, PixelView};
use cifar_model::layers::{Linear, LinearParams};
use cifar_model::networks::Network;
use cifar_model::ops::{self, Targets};
use cifar_model::parameters::{Fan, Init, Kind, Parameters};
use cifar_model::{Architecture, FeatureMap, Mode, Model, ModelParams, ModelSpec, Precision};

const BF16: Precision = Precision::Bf16;

/// Runs a training pass, and returns the logits and the gradients of the parameters by name.
fn pass(network: &dyn Network, parameters: &Parameters, precision: Precision) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let ids = ids();
    let mode = Mode::Train { seed: 0, epoch: 0, ids: &ids };
    let logits = network.forward(images(SIZE).with_precision(precision), &mode).unwrap();
    let targets = Targets { labels: &labels(), smoothing: 0.1, ..Targets::default() };
    let gradients = ops::softmax_cross_entropy(&logits, &targets).unwrap().backward().unwrap();
    let of = |p: &cifar_model::parameters::Parameter| (p.name.clone(), get(gradients.get(&p.var).expect(&p.name)));
    (get(&logits), parameters.trained().iter().map(of).collect())
}

/// The length of the difference, as a fraction of that of `expected`.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let mut differences = found.iter().zip(expected).map(|(a, b)| f64::from(a - b));
    norm(&mut differences) / norm(&mut expected.iter().map(|v| f64::from(*v)))
}

/// How far a rounding may carry depends on the network: ReLU and maxima switch, and batch norm of
/// few values divides by little. So the yardstick is what rounding the filters alone does in `f32`.
/// In bf16 every activation and gradient is rounded, too: some six roundings per layer instead of
/// one, and half of airbench's initial filters are 0 and 1, which rounding does not change.
#[test]
fn logits_and_gradients_are_as_close_to_those_in_f32_as_roundings_allow() {
    const ROUNDINGS: f64 = 20.0;
    for name in NAMES {
        let run = |precision, is_rounded: bool| {
            let (network, parameters) = narrow(name, SIZE);
            for parameter in parameters.trained().iter().filter(|p| is_rounded && p.kind == Kind::Filters) {
                set(&parameter.var, get(&parameter.var).into_iter().map(|v| Bf16::from_f32(v).to_f32()).collect());
            }
            pass(&*network, &parameters, precision)
        };
        let (expected, of_f32) = run(Precision::F32, false);
        let (rounded, of_rounded) = run(Precision::F32, true);
        let (logits, of_bf16) = run(BF16, false);
        let check = |what: &str, found: &[f32], rounded: &[f32], expected: &[f32]| {
            let (far, allowed) = (distance(found, expected), ROUNDINGS * distance(rounded, expected));
            assert!(far > 0.0, "{name}, {what}: nothing was computed in bf16");
            assert!(far < allowed, "{name}, {what}: differs by {far}, allowed is {allowed}");
        };
        check("logits", &logits, &rounded, &expected);
        for (((parameter, found), (_, rounded)), (_, expected)) in of_bf16.iter().zip(&of_rounded).zip(&of_f32) {
            check(parameter, found, rounded, expected);
        }
    }
}

#[test]
fn steps_lower_the_loss_and_the_number_of_threads_changes_no_bit() {
    for name in NAMES {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (network, parameters) = narrow(name, SIZE);
                let losses = train(&*network, &parameters, 8);
                let bits: Vec<u32> = parameters.all().flat_map(|(_, v)| get(v)).map(f32::to_bits).collect();
                (losses, bits)
            })
        };
        let (losses, bits) = run(1);
        assert!(losses[7] < 0.9 * losses[0], "{name}: {losses:?}");
        assert!(run(3) == (losses, bits), "{name}");
    }
}

/// Returns the losses of `steps` steps of SGD on one batch, each before its step.
fn train(network: &dyn Network, parameters: &Parameters, steps: usize) -> Vec<f32> {
    let mut velocities: Vec<Vec<f32>> = parameters.trained().iter().map(|p| vec![0.0; p.var.elem_count()]).collect();
    let step = |_| {
        let (logits, gradients) = pass(network, parameters, BF16);
        for ((parameter, (_, gradient)), velocity) in parameters.trained().iter().zip(&gradients).zip(&mut velocities) {
            let mut values = get(&parameter.var);
            sgd_update(&mut values, gradient, velocity, 0.02, 0.9, true, 0.0).unwrap();
            set(&parameter.var, values);
        }
        let count = labels().len();
        let logits =
            Tensor::from_vec(logits.clone(), (count, logits.len() / count), &candle_core::Device::Cpu).unwrap();
        let targets = Targets { labels: &labels(), ..Targets::default() };
        ops::softmax_cross_entropy(&logits, &targets).unwrap().to_scalar().unwrap()
    };
    (0..steps).map(step).collect()
}

#[test]
fn evaluation_in_bf16_is_close_and_its_features_are_in_f32() {
    for name in NAMES {
        let (network, _) = narrow(name, SIZE);
        let features = |precision| network.features(images(SIZE).with_precision(precision), &Mode::Evaluate).unwrap();
        let (found, expected) = (features(BF16), features(Precision::F32));
        assert!(!found.is_bf16() && !found.is_tracked());
        let far = distance(found.values().unwrap(), expected.values().unwrap());
        assert!(far > 0.0 && far < 0.05, "{name}: {far}");
    }
}

#[test]
fn maps_convert_both_ways_with_their_gradients() {
    let values: Vec<f32> = (0..2 * 3 * 2 * 5).map(|i| (i as f32 - 30.0) / 7.0).collect();
    let x =
        candle_core::Var::from_tensor(&Tensor::from_slice(&values, (2, 3, 2, 5), &candle_core::Device::Cpu).unwrap())
            .unwrap();
    let map = FeatureMap::from_tensor(&x).unwrap();
    let blocked = ops::to_bf16(&map).unwrap();
    assert!(blocked.is_bf16() && !map.is_bf16() && blocked.dims() == map.dims());
    assert!(blocked.values().unwrap_err().to_string().contains("to_f32"));
    let back = ops::to_f32(&blocked).unwrap();
    let rounded: Vec<f32> = values.iter().map(|v| Bf16::from_f32(*v).to_f32()).collect();
    assert_eq!(back.values().unwrap(), rounded);
    // Weighted by the values themselves, so that the gradient is the values, rounded.
    let weights = Tensor::from_slice(&values, (2, 3, 2, 5), &candle_core::Device::Cpu).unwrap();
    let loss = (blocked.to_tensor().unwrap() * weights).unwrap().sum_all().unwrap();
    assert_eq!(get(loss.backward().unwrap().get(&x).unwrap()), rounded);
    // Two users of a map in bf16.
    let blocked = ops::to_bf16(&FeatureMap::from_tensor(&x).unwrap()).unwrap();
    let twice = (blocked.to_tensor().unwrap() + blocked.to_tensor().unwrap()).unwrap().sum_all().unwrap();
    assert_eq!(get(twice.backward().unwrap().get(&x).unwrap()), vec![2.0; values.len()]);
}

#[test]
fn linear_layers_are_in_bf16_except_for_logits_and_with_a_bias() {
    let mut parameters = Parameters::new(1);
    for (kind, bias, is_bf16) in [(Kind::Matrix, false, true), (Kind::Matrix, true, false), (Kind::Head, false, false)]
    {
        let params = LinearParams { kind, inputs: 5, outputs: 3, bias, init: Init::HeNormal(Fan::In) };
        let layer = Linear::new(&mut parameters, &format!("{kind:?} {bias}"), params).unwrap();
        let input = |precision| FeatureMap::new(Buffer::copied(&[0.5; 10]), &[2, 5]).unwrap().with_precision(precision);
        let of = |precision| layer.forward(&input(precision), &Mode::Evaluate).unwrap();
        assert_eq!((of(BF16).is_bf16(), of(Precision::F32).is_bf16()), (is_bf16, false), "{kind:?} {bias}");
        assert_eq!(of(BF16).dims(), [2, 3]);
    }
}

/// Two groups of images, several convolutions in bf16 in each network, and all forward passes.
#[test]
fn models_of_every_architecture_predict_and_explain_in_bf16() {
    let images = generate(&SyntheticParams { count: 33, ..Default::default() }).unwrap().dataset;
    for architecture in
        [Architecture::SimpleCnn, Architecture::Airbench94, Architecture::Airbench96, Architecture::ResNet18]
    {
        let widths = if architecture == Architecture::ResNet18 { vec![8, 8, 16, 40] } else { vec![8, 16, 40] };
        let spec = ModelSpec {
            params: ModelParams { widths, ..ModelParams::of(architecture) },
            classes: images.classes().to_vec(),
            size: images.size(),
            normalisation: normalisation(&images),
        };
        let mut model = Model::new(spec, 7).unwrap();
        model.prepare(&images).unwrap();
        let pixels: Vec<u8> = (0..33).flat_map(|index| images.image(index).to_vec()).collect();
        let logits = |model: &Model| get(&model.forward(&pixels, &Mode::Evaluate).unwrap());
        let in_f32 = logits(&model);
        model.set_precision(BF16);
        let in_bf16 = logits(&model);
        let far = distance(&in_bf16, &in_f32);
        assert!(far > 0.0 && far < 0.05, "{architecture:?}: {far}");
        // The result of an image does not depend on its batch, nor on the kind of pass.
        let single = get(&model.forward(images.image(32), &Mode::Evaluate).unwrap());
        assert_eq!(single, in_bf16[32 * 10..], "{architecture:?}");
        let view = get(&model.forward_views(&[images.image(32)], &[PixelView::default()]).unwrap());
        assert_eq!(view, single, "{architecture:?}");
        let (features, of_features) = model.features(images.image(32)).unwrap();
        assert!(get(&of_features) == single && features.values().is_ok(), "{architecture:?}");
        let Some(maps) = model.class_activations(images.image(32)).unwrap() else { continue };
        let mut sums = vec![0.0; 10];
        for place in maps.values().unwrap().chunks_exact(10) {
            sums.iter_mut().zip(place).for_each(|(sum, value)| *sum += value);
        }
        // Biases of the last layer start at 0.
        assert!(distance(&sums, &single) < 1e-4, "{architecture:?}: {sums:?} {single:?}");
    }
}
