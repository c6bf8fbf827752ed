//! Trains a network and scores it, in memory, on synthetic images and on your own arrays:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example quickstart
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{Dataset, Silent, prepare};
use cifar_eval::{EvaluateParams, Evaluation, evaluate};
use cifar_model::ModelParams;
use cifar_train::{TrainParams, fit};

pub(crate) fn main() -> anyhow::Result<()> {
    // `sources::read` reads class folders, archives and Parquet files instead.
    let images = synthetic::generate(&SyntheticParams { count: 900, ..Default::default() })?.dataset;
    println!("{}\n", trained(&images)?);

    // Any arrays: pixels of N × height × width × RGB bytes, and one label per image.
    let classes: Vec<&str> = images.classes().iter().map(String::as_str).collect();
    let images = Dataset::from_arrays(&classes, images.size(), &images.labels(), images.pixels().to_vec())?;
    println!("{}", trained(&images)?);
    Ok(())
}

/// Trains on part of the images and scores the network on another part.
fn trained(images: &Dataset) -> anyhow::Result<Evaluation> {
    let split = prepare::split(images, &SplitParams::default(), &Silent)?;
    let params = TrainParams { epochs: 3, batch_size: 32, ..Default::default() };
    let fitted = fit(&params, &ModelParams::default(), &split.data, 42, &Silent)?;
    Ok(evaluate(&EvaluateParams::default(), &fitted.model, split.test.dataset(), &Silent)?)
}
