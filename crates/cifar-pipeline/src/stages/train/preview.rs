//! `train --preview`: draws the first batch as training sees it.

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::batches::Batch;
use cifar_data::output::write_file;
use cifar_data::prepare::TrainingData;
use cifar_eval::plots::{Caption, Tile, contact_sheet};
use cifar_train::{TrainParams, first_batch};
use serde::Serialize;

use super::tuned;
use crate::links::refuse_links_to;
use crate::{Project, Reporter, Result};

/// Most images of the picture.
const IMAGES: usize = 64;
/// Images per row.
const COLUMNS: usize = 8;

/// The picture of the first batch.
#[derive(Debug, Serialize)]
pub struct Previewed {
    /// The file.
    pub file: PathBuf,
    /// Number of images in it.
    pub images: usize,
    /// Number of images of the batch.
    pub batch: usize,
}

/// Draws up to 64 images of the first batch that training begins with: augmented, with their labels.
/// Trains nothing.
///
/// The picture is written to `file`, by default into the folder of models.
///
/// # Errors
/// If the prepared images are missing or stale, a parameter does not suit them, or the file cannot
/// be written.
pub fn run(project: &Project, file: Option<&Path>, reporter: &dyn Reporter) -> Result<Previewed> {
    let (layout, params) = (&project.layout, project.params()?);
    let file = file.map_or_else(|| layout.preview(), Path::to_path_buf);
    refuse_links_to(layout, &file)?;
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    let train = tuned(project, &params, &data.report, reporter)?.train;
    let batch = first_batch(&train, &data, params.random_seed)?;
    let images = batch.len().min(IMAGES);
    let source = &data.report.source;
    let footer = format!(
        "{images} of {} images, {}; seed {}, {} ({})",
        batch.len(),
        augmentation(&train),
        params.random_seed,
        params.dataset_version,
        source.description
    );
    let caption = Caption { title: "First batch of training", footer: &footer, synthetic: source.is_synthetic() };
    let pixels = batch.pixels.chunks_exact(batch.size.bytes());
    let tiles: Vec<Tile> = (pixels.take(images).enumerate())
        .map(|(index, pixels)| Tile { pixels, lines: label(&batch, index, &data.report.classes), warn: false })
        .collect();
    write_file(&file, &contact_sheet(&tiles, batch.size.height, batch.size.width, COLUMNS, &caption)?)?;
    Ok(Previewed { file, images, batch: batch.len() })
}

/// Returns the lines below an image: its label or the two of a mixture, and its id.
fn label(batch: &Batch, index: usize, classes: &[String]) -> Vec<String> {
    let class = |label: u32| classes[label as usize].as_str();
    let (id, label) = (batch.ids[index], class(batch.labels[index]));
    match &batch.mix {
        None => vec![label.to_string(), id.to_string()],
        Some(mix) => {
            let share = mix.shares[index];
            let part = |share: f32, class: &str| format!("{:.0} % {class}", share * 100.0);
            vec![part(share, label), part(1.0 - share, class(mix.partner_labels[index])), id.to_string()]
        }
    }
}

/// Returns the augmentations that are on, in words.
fn augmentation(train: &TrainParams) -> String {
    let value = |key: &str, value: f64| (value > 0.0).then(|| format!("{key} {value}"));
    // As the file has it: an f32 as f64 would show digits that it does not have.
    let small = |key: &str, value: f32| (value > 0.0).then(|| format!("{key} {value}"));
    let flip = serde_json::to_value(train.flip).ok().and_then(|flip| flip.as_str().map(str::to_string));
    let parts = [
        flip.map(|flip| format!("flip {flip}")),
        value("crop_padding", train.crop_padding as f64),
        value(if train.cutout_inside { "cutout inside" } else { "cutout" }, train.cutout as f64),
        value("mixup", train.mixup),
        small("brightness", train.brightness),
        small("contrast", train.contrast),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Previewed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {} of the {} images of the first batch", self.file.display(), self.images, self.batch)
    }
}
