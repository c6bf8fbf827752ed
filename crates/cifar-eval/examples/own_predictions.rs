//! Finds hard images from the predictions of any model, of any framework:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example own_predictions -- FOLDER
//! ```
//!
//! Writes the page `index.html` and the tables into FOLDER, or only prints without it.
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use std::path::Path;

use cifar_data::sources::synthetic::{self, Planted, SyntheticParams};
use cifar_data::{Dataset, Silent, duplicates};
use cifar_eval::hard_images::{HardImagesParams, Inputs, identify};

pub(crate) fn main() -> anyhow::Result<()> {
    analyse(std::env::args().nth(1).as_deref().map(Path::new))
}

/// Prints the five most suspicious labels and, with a folder, writes everything into it.
pub(crate) fn analyse(folder: Option<&Path>) -> anyhow::Result<()> {
    let (images, probabilities) = predictions()?;

    // Duplicates with another label are a category of their own.
    let pairs = duplicates::find(&[&images], &Silent)?;
    let inputs = Inputs { pairs, model: "another framework".into(), ..Inputs::of_predictions(&images, probabilities) };
    let found = identify(&inputs, &Silent)?;

    println!("{found}\n");
    for image in found.images.iter().take(5) {
        let label = &images.classes()[usize::from(image.sample.label)];
        let category = image.category.map_or("", |category| category.name());
        println!("{} ({label}) {:.3} {category}: {}", image.sample.file, image.figures.label_issue, image.reason);
    }
    if let Some(folder) = folder {
        found.save(&HardImagesParams::default(), folder, &Silent)?;
        println!("{}", folder.join("index.html").display());
    }
    Ok(())
}

/// Replace this by your model. Returns images with labels, of which some are wrong, and predicted
/// probabilities (images × classes). Predict each image by a model that was not trained on it, for
/// example by cross-validation.
fn predictions() -> anyhow::Result<(Dataset, Vec<f32>)> {
    let drawn = synthetic::generate(&SyntheticParams { count: 600, ..Default::default() })?;
    let classes: Vec<&str> = drawn.dataset.classes().iter().map(String::as_str).collect();
    let (labels, pixels) = (drawn.dataset.labels(), drawn.dataset.pixels().to_vec());
    let images = Dataset::from_arrays(&classes, drawn.dataset.size(), &labels, pixels)?;
    let rows = images.samples().iter().flat_map(|sample| {
        let class = match drawn.truth.iter().find(|(id, _)| *id == sample.id) {
            Some((_, Planted::Mislabel { true_label })) => *true_label,
            _ => sample.label,
        };
        // 0.82 to 0.91, the rest spread over the other classes.
        let p = 0.82 + (sample.id.0 % 10) as f32 / 100.0;
        let others = classes.len() - 1;
        (0..=others).map(move |k| if k == usize::from(class) { p } else { (1.0 - p) / others as f32 })
    });
    let probabilities = rows.collect();
    Ok((images, probabilities))
}
