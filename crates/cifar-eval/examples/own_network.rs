//! Your own network, built from the layers, with its training loop and score:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example own_network
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use cifar_data::batches::{Augmentation, Batch, epoch_order, evaluation_batch, training_batch};
use cifar_data::prepare::{self, Normalisation};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{Dataset, Silent};
use cifar_eval::evaluate::SetMetrics;
use cifar_eval::metrics::Scores;
use cifar_kernels::Activation;
use cifar_model::layers::{BatchNorm, Conv, ConvParams, Linear, LinearParams, NormParams};
use cifar_model::ops::{Targets, global_average_pool, max_pool, softmax_cross_entropy};
use cifar_model::parameters::{Fan, Init, Kind, Parameters};
use cifar_model::{FeatureMap, Mode, Result, gradients, images_to_feature_map};
use cifar_train::{LrMultipliers, Optimiser, TrainParams};

/// Two convolutions, each with a batch norm and ReLU, and a linear layer.
struct Network {
    blocks: [(Conv, BatchNorm); 2],
    head: Linear,
}

impl Network {
    fn new(parameters: &mut Parameters, classes: usize) -> Result<Self> {
        let mut block = |name: &str, inputs, outputs| -> Result<(Conv, BatchNorm)> {
            let init = Init::HeNormal(Fan::In);
            let params = ConvParams { inputs, outputs, kernel: 3, stride: 1, padding: 1, init };
            let norm = format!("{name}.norm");
            let conv = Conv::new(parameters, name, params)?;
            Ok((conv, BatchNorm::new(parameters, &norm, outputs, NormParams::STANDARD, Activation::Relu)?))
        };
        let blocks = [block("first", 3, 16)?, block("second", 16, 32)?];
        let params = LinearParams { kind: Kind::Head, inputs: 32, outputs: classes, bias: true, init: Init::Uniform };
        Ok(Self { blocks, head: Linear::new(parameters, "head", params)? })
    }

    /// Computes N × height × width × 3 → N × classes.
    fn forward(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let mut maps = images;
        for (conv, norm) in &self.blocks {
            maps = max_pool(&norm.forward(&conv.forward(&maps, mode)?, None, mode)?, 2)?;
        }
        self.head.forward(&global_average_pool(&maps)?, mode)
    }
}

pub(crate) fn main() -> anyhow::Result<()> {
    const SEED: u64 = 42;
    let images = synthetic::generate(&SyntheticParams { count: 900, ..Default::default() })?.dataset;
    let split = prepare::split(&images, &SplitParams::default(), &Silent)?;
    let (train, test) = (&split.data.train, split.test.dataset());
    let normalisation = &split.data.report.normalisation;
    let pixels = |batch: &Batch| images_to_feature_map(&batch.pixels, batch.size, normalisation);

    let mut parameters = Parameters::new(SEED);
    let network = Network::new(&mut parameters, train.classes().len())?;
    let params = TrainParams { learning_rate: 0.05, ..Default::default() };
    let mut optimiser = Optimiser::new(&params, parameters.trained());
    let mut step = 0;
    for epoch in 0..4 {
        let mut last = 0.0;
        for indices in epoch_order(train.len(), SEED, epoch).chunks(32) {
            let batch = training_batch(train, indices, &Augmentation::default(), SEED, epoch);
            let mode = Mode::Train { seed: SEED, epoch, ids: &batch.ids };
            let logits = network.forward(pixels(&batch)?, &mode)?.to_tensor()?;
            let loss = softmax_cross_entropy(&logits, &Targets { labels: &batch.labels, ..Default::default() })?;
            let rates = LrMultipliers { whitening_bias: 1.0, all: 1.0 };
            optimiser.step(parameters.trained(), &gradients(&loss)?, rates, step)?;
            last = loss.to_scalar::<f32>()?;
            step += 1;
        }
        println!("epoch {}: loss of the last batch {last:.4}", epoch + 1);
    }

    let probabilities = probabilities(&network, test, normalisation)?;
    let labels = test.labels();
    println!("{}", SetMetrics::of(&Scores::new(&probabilities, &labels, test.classes().len())?, 15));
    Ok(())
}

/// Returns the probabilities of all images, images × classes.
fn probabilities(network: &Network, set: &Dataset, normalisation: &Normalisation) -> anyhow::Result<Vec<f32>> {
    let (mut probabilities, classes) = (Vec::new(), set.classes().len());
    for start in (0..set.len()).step_by(100) {
        let batch = evaluation_batch(set, start, 100);
        let images = images_to_feature_map(&batch.pixels, batch.size, normalisation)?;
        let logits = network.forward(images, &Mode::Evaluate)?;
        let mut rows = vec![0.0; logits.values()?.len()];
        cifar_kernels::softmax(batch.len(), classes, logits.values()?, &mut rows)?;
        probabilities.extend(rows);
    }
    Ok(probabilities)
}
