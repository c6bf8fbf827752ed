//! Shared by the tests of whole networks: narrow versions of all four, and images and labels from a
//! formula.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use candle_core::{Device, Tensor, Var};
use cifar_data::{ImageSize, SampleId};
use cifar_kernels::{Buffer, sgd_update};
use cifar_model::networks::{Airbench, AirbenchParams, Network, ResNet18, ResNet18Params, SimpleCnn, SimpleCnnParams};
use cifar_model::ops::{self, Targets};
use cifar_model::parameters::Parameters;
use cifar_model::{FeatureMap, Mode};

/// The names of the networks.
pub(crate) const NAMES: [&str; 4] = ["simple_cnn", "airbench94", "airbench96", "resnet18"];
/// Number of classes of every network here.
pub(crate) const CLASSES: usize = 5;
/// Size of the images.
pub(crate) const SIZE: ImageSize = ImageSize { height: 12, width: 12 };
/// Images per batch.
pub(crate) const BATCH: usize = 12;

/// Builds a narrow version of a network: fast, with every kind of layer of the wide one.
pub(crate) fn narrow(name: &str, size: ImageSize) -> (Box<dyn Network>, Parameters) {
    let mut parameters = Parameters::new(7);
    let p = &mut parameters;
    let widths = [4, 6, 8];
    let network: Box<dyn Network> = match name {
        "simple_cnn" => {
            let params = SimpleCnnParams { widths, dense: 16, ..Default::default() };
            Box::new(SimpleCnn::new(&params, CLASSES, size, p).unwrap())
        }
        "airbench94" => {
            let params = AirbenchParams { widths: [32, 48, 48], ..AirbenchParams::AIRBENCH94 };
            Box::new(Airbench::new(&params, CLASSES, size, p).unwrap())
        }
        "airbench96" => {
            let params = AirbenchParams { widths: [32, 48, 48], ..AirbenchParams::AIRBENCH96 };
            Box::new(Airbench::new(&params, CLASSES, size, p).unwrap())
        }
        "resnet18" => {
            let params = ResNet18Params { widths: [16, 18, 24, 32], ..Default::default() };
            Box::new(ResNet18::new(&params, CLASSES, size, p).unwrap())
        }
        other => panic!("no network {other}"),
    };
    (network, parameters)
}

/// Returns `len` numbers in -1..1 that depend on `seed`, with the same bits on every machine;
/// goldens/generate.py has the same function.
pub(crate) fn formula(seed: u64, len: usize) -> Vec<f32> {
    const LOW: u64 = 0xffff_ffff;
    (0..len as u64)
        .map(|element| {
            let mut x = ((seed * 1_000_003 + element + 1) * 2_654_435_761) & LOW;
            x ^= x >> 15;
            x = (x * 2_246_822_519) & LOW;
            x ^= x >> 13;
            (x as f64 / 2f64.powi(31) - 1.0) as f32
        })
        .collect()
}

/// Returns `BATCH` images.
pub(crate) fn images(size: ImageSize) -> FeatureMap {
    let values = Buffer::copied(&formula(1000, BATCH * size.bytes()));
    FeatureMap::new(values, &[BATCH, size.height, size.width, 3]).unwrap()
}

/// Returns their labels.
pub(crate) fn labels() -> Vec<u32> {
    (0..BATCH).map(|image| (image * image % CLASSES) as u32).collect()
}

/// Returns their ids.
pub(crate) fn ids() -> Vec<SampleId> {
    (0..BATCH as u32).map(SampleId).collect()
}

/// Sets the values of a tensor.
pub(crate) fn set(var: &Var, values: Vec<f32>) {
    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
}

/// Returns the values of a tensor.
pub(crate) fn get(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns the losses of `steps` steps of SGD with Nesterov momentum 0.9 on one batch, each before
/// its step.
pub(crate) fn train(
    network: &dyn Network,
    parameters: &Parameters,
    size: ImageSize,
    rate: f32,
    steps: usize,
) -> Vec<f32> {
    let ids = ids();
    let mut velocities: Vec<Vec<f32>> = parameters.trained().iter().map(|p| vec![0.0; p.var.elem_count()]).collect();
    let step = |_| {
        let mode = Mode::Train { seed: 0, epoch: 0, ids: &ids };
        let logits = network.forward(images(size), &mode).unwrap();
        let loss =
            ops::softmax_cross_entropy(&logits, &Targets { labels: &labels(), smoothing: 0.1, ..Targets::default() })
                .unwrap();
        let gradients = loss.backward().unwrap();
        for (parameter, velocity) in parameters.trained().iter().zip(&mut velocities) {
            let mut values = get(&parameter.var);
            let gradient = get(gradients.get(&parameter.var).unwrap());
            sgd_update(&mut values, &gradient, velocity, rate, 0.9, true, 0.0).unwrap();
            set(&parameter.var, values);
        }
        loss.to_scalar().unwrap()
    };
    (0..steps).map(step).collect()
}
