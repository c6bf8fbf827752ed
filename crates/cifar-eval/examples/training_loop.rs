//! Your own training loop, step by step, with a network of this workspace:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example training_loop
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use cifar_data::batches::{Augmentation, epoch_order, training_batch};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{Silent, prepare};
use cifar_eval::{EvaluateParams, evaluate};
use cifar_model::{Model, ModelParams, ModelSpec, evaluate_loss, predict};
use cifar_train::{TrainParams, Trainer};

pub(crate) fn main() -> anyhow::Result<()> {
    const SEED: u64 = 42;
    let images = synthetic::generate(&SyntheticParams { count: 900, ..Default::default() })?.dataset;
    let split = prepare::split(&images, &SplitParams::default(), &Silent)?;
    let (train, val) = (&split.data.train, &split.data.val);

    let spec = ModelSpec {
        params: ModelParams::default(),
        classes: train.classes().to_vec(),
        size: train.size(),
        normalisation: prepare::normalisation(train),
    };
    let params = TrainParams { epochs: 3, batch_size: 32, ..Default::default() };
    let mut trainer = Trainer::new(Model::new(spec, SEED)?, &params, train.len(), SEED)?;
    for epoch in 0..params.epochs {
        for indices in epoch_order(train.len(), SEED, epoch as u64).chunks(params.batch_size) {
            let batch = training_batch(train, indices, &Augmentation::default(), SEED, epoch as u64);
            let step = trainer.step(&batch, epoch)?;
            if step.step % 10 == 0 {
                println!("step {:>3} of {}: loss {:.4}", step.step, step.steps, step.loss);
            }
        }
        let logits = predict(trainer.model(), val, "validating", &Silent)?;
        if let Some((loss, accuracy)) = evaluate_loss(&logits, &val.labels())? {
            println!("epoch {}: validation loss {loss:.4}, accuracy {:.1} %", epoch + 1, accuracy * 100.0);
        }
    }
    println!("{}", evaluate(&EvaluateParams::default(), trainer.model(), split.test.dataset(), &Silent)?);
    Ok(())
}
