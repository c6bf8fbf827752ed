//! `hard-images --predictions`: ranks the prepared images by the predictions of any model.

use std::path::PathBuf;

use cifar_data::Dataset;
use cifar_data::prepare::{TestSet, TrainingData, read_decisions, read_pairs};
use cifar_data::splits::Split;
use cifar_eval::hard_images::{Inputs, SplitPredictions, identify};
use cifar_eval::predictions::read_given;

use super::hard_images::HardImages;
use crate::{Project, Reporter, Result};

/// Fraction of the training images that are predicted as their label, from which on the model has
/// probably been trained on them.
const MEMORISED: f64 = 0.98;

/// The predictions to rank by.
#[derive(Debug, Clone)]
pub struct GivenOptions {
    /// A CSV file; see [`read_given`].
    pub file: PathBuf,
    /// Whether no image was predicted by a model that was trained on it.
    pub out_of_fold: bool,
}

/// Ranks the images of the splits that the file covers. No network is trained or loaded.
///
/// # Errors
/// If the prepared images are missing or stale, or the file is wrong.
pub fn run(project: &Project, options: &GivenOptions, reporter: &dyn Reporter) -> Result<HardImages> {
    let (layout, params) = (&project.layout, project.params()?);
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let sets = [(Split::Train, &data.train), (Split::Val, &data.val), (Split::Test, test.dataset())];
    let given = read_given(&options.file, &sets)?;
    if given.rows_by_id_alone > 0 {
        reporter.warn(&format!(
            "{}: {} rows name their image by id alone: they would apply to another image if files were added or removed; add the column `file` or `blake3` of the splits' manifest.csv in {}",
            options.file.display(),
            given.rows_by_id_alone,
            prepared.display()
        ));
    }
    let mut splits = Vec::new();
    for ((split, images), probabilities) in sets.into_iter().zip(given.probabilities) {
        let Some(probabilities) = probabilities else { continue };
        if split == Split::Train && !options.out_of_fold {
            warn_if_memorised(images, &probabilities, reporter);
        }
        let out_of_fold = options.out_of_fold.then(|| probabilities.clone());
        splits.push(SplitPredictions { out_of_fold, ..SplitPredictions::new(split, images, probabilities) });
    }
    let name = options.file.file_name().unwrap_or_default().to_string_lossy();
    let is_covered = |id| splits.iter().any(|split| split.images.index_of(id).is_some());
    let pairs = read_pairs(&prepared)?.into_iter().map(|placed| placed.pair);
    let pairs = pairs.filter(|pair| is_covered(pair.first) && is_covered(pair.second)).collect();
    let inputs = Inputs {
        splits,
        pairs,
        review: read_decisions(&prepared, data.train.classes())?,
        model: format!("predictions of {name}{}", if options.out_of_fold { ", out-of-fold" } else { "" }),
        dataset_version: data.report.dataset_version.to_string(),
        seed: None,
        model_seal: String::new(),
        first_epoch_seal: String::new(),
        network: None,
    };
    let found = identify(&inputs, reporter)?;
    let folder = layout.given_predictions();
    found.save(&params.hard_images, &folder, reporter)?;
    Ok(HardImages { summary: found.summary, folder })
}

/// Warns if the model agrees with nearly all labels: it then finds few wrong ones.
fn warn_if_memorised(images: &Dataset, probabilities: &[f32], reporter: &dyn Reporter) {
    let rows = probabilities.chunks_exact(images.classes().len()).zip(images.labels());
    let agree = rows.filter(|(row, label)| cifar_eval::predictions::predicted_class(row) == usize::from(*label));
    let fraction = agree.count() as f64 / images.len() as f64;
    if fraction > MEMORISED {
        reporter.warn(&format!(
            "{:.1} % of the training images are predicted as their label: a model that was trained on them hides wrong labels; give out-of-fold predictions (`--out-of-fold`)",
            fraction * 100.0
        ));
    }
}
