//! The evidence that scores follow from, and its mean over several runs on the same images.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cifar_data::splits::Split;
use cifar_data::{SampleId, provenance};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::COMMAND;
use super::hardness::{Appearance, blend, hardness};
use super::inputs::SplitPredictions;
use crate::data_quality::Quality;
use crate::{EvalError, Result};

/// File name of the evidence.
pub const EVIDENCE: &str = "evidence.safetensors";
/// Names of the tensors of a split.
const NAMES: [&str; 4] = ["id", "class_probabilities", "hardness_probabilities", "appearance"];

/// What the scores of a split's images follow from, besides the labels: one entry per image.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The images.
    pub ids: Vec<SampleId>,
    /// Number of classes.
    pub classes: usize,
    /// The probabilities that labels are judged by, images × classes.
    pub class_probabilities: Vec<f32>,
    /// The probabilities that hardness is judged by, images × classes: those of the classes, with a
    /// quarter of the logits after the first epoch if they are known.
    pub hardness_probabilities: Vec<f32>,
    /// Contrast and brightness of each image.
    pub appearance: Vec<Appearance>,
}

impl Evidence {
    pub(super) fn new(input: &SplitPredictions) -> Self {
        let (set, classes) = (input.images, input.images.classes().len());
        let class_probabilities = class_probabilities(input);
        let mut hardness_probabilities = class_probabilities.clone();
        if let Some(first) = &input.first_epoch {
            let rows = hardness_probabilities.par_chunks_exact_mut(classes).zip(first.par_chunks_exact(classes));
            rows.for_each(|(row, first)| blend(row, first));
        }
        let appearance = (0..set.len()).into_par_iter().map(|index| {
            let Quality { contrast, mean, .. } = Quality::of(set.image(index), set.size().width);
            [contrast as f32, mean as f32]
        });
        Self {
            ids: set.samples().iter().map(|s| s.id).collect(),
            classes,
            class_probabilities,
            hardness_probabilities,
            appearance: appearance.collect(),
        }
    }

    /// Returns the mean of the probabilities of several runs on the same images.
    ///
    /// # Errors
    /// What differs if the runs have other images or classes. If there are no runs.
    pub fn mean(runs: &[&Self]) -> Result<Self, String> {
        let (first, others) = runs.split_first().ok_or("there are no runs")?;
        if others.iter().any(|run| run.ids != first.ids || run.classes != first.classes) {
            return Err("the runs have other images or classes".into());
        }
        let mean = |of: fn(&Self) -> &[f32]| {
            let sum = |at: usize| runs.iter().map(|run| f64::from(of(run)[at])).sum::<f64>();
            (0..of(first).len()).map(|at| (sum(at) / runs.len() as f64) as f32).collect()
        };
        Ok(Self {
            ids: first.ids.clone(),
            classes: first.classes,
            class_probabilities: mean(|run| &run.class_probabilities),
            hardness_probabilities: mean(|run| &run.hardness_probabilities),
            appearance: first.appearance.clone(),
        })
    }

    /// Returns the `hardness_score` of each image, 0 to 1.
    pub fn hardness(&self) -> Vec<f64> {
        hardness(self.classes, &self.hardness_probabilities, &self.appearance)
    }
}

/// Returns the mean of the predictions, the epochs and the out-of-fold predictions.
fn class_probabilities(input: &SplitPredictions) -> Vec<f32> {
    let mean = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| f32::midpoint(*a, *b)).collect();
    let own: Vec<f32> = match &input.trajectories {
        None => input.probabilities.clone(),
        Some(trajectories) => mean(&trajectories.late_probabilities, &input.probabilities),
    };
    match &input.out_of_fold {
        None => own,
        Some(others) => mean(&own, others),
    }
}

/// Returns the file of the splits' evidence. Its metadata are the class names.
pub(super) fn encode<'a>(
    splits: impl Iterator<Item = (Split, &'a Evidence)>,
    classes: &[String],
    path: &Path,
) -> Result<Vec<u8>> {
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (split, evidence) in splits {
        let (n, k) = (evidence.ids.len(), evidence.classes);
        let ids: Vec<u8> = evidence.ids.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        let appearance = floats(evidence.appearance.as_flattened());
        let [id, class, hardness, looks] = NAMES.map(|name| format!("{split}/{name}"));
        parts.push((id, Dtype::U32, vec![n], ids));
        parts.push((class, Dtype::F32, vec![n, k], floats(&evidence.class_probabilities)));
        parts.push((hardness, Dtype::F32, vec![n, k], floats(&evidence.hardness_probabilities)));
        parts.push((looks, Dtype::F32, vec![n, 2], appearance));
    }
    let wrong = |e: safetensors::SafeTensorError| malformed(path, format!("cannot be encoded ({e})"));
    let views = parts.iter().map(|(name, dtype, dims, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, dims.clone(), bytes).map_err(wrong)?))
    });
    let names = serde_json::to_string(classes).map_err(|e| malformed(path, e.to_string()))?;
    let metadata = HashMap::from([("classes".to_string(), names)]);
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(wrong)
}

fn malformed(path: &Path, problem: String) -> EvalError {
    EvalError::Malformed { path: path.to_path_buf(), problem }
}

/// Reads the evidence of an analysis that was saved in `folder`, by split, with the class names.
///
/// # Errors
/// If the file is missing, damaged or not listed in the record of the folder.
pub fn read_evidence(folder: &Path) -> Result<(Vec<String>, BTreeMap<Split, Evidence>)> {
    let path = folder.join(EVIDENCE);
    let wrong = |problem: String| malformed(&path, problem);
    let bytes = provenance::read(&path, COMMAND)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
    let names = header.metadata().as_ref().and_then(|map| map.get("classes")).map(|text| serde_json::from_str(text));
    let Some(Ok(classes)) = names else { return Err(wrong("does not name the classes".into())) };
    let classes: Vec<String> = classes;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let mut found = BTreeMap::new();
    for split in Split::ALL {
        let [id, class, hardness, looks] = NAMES.map(|name| file.tensor(&format!("{split}/{name}")));
        let (Ok(id), Ok(class), Ok(hardness), Ok(looks)) = (id, class, hardness, looks) else { continue };
        let (n, k) = (id.shape().iter().product::<usize>(), classes.len());
        let is_sound = id.dtype() == Dtype::U32
            && [&class, &hardness, &looks].iter().all(|part| part.dtype() == Dtype::F32)
            && (class.shape(), hardness.shape(), looks.shape()) == (&[n, k], &[n, k], &[n, 2]);
        if !is_sound {
            return Err(wrong(format!("the tensors of {split} do not fit each other")));
        }
        let words =
            |view: &TensorView| view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect::<Vec<_>>();
        let floats = |view: &TensorView| words(view).into_iter().map(f32::from_le_bytes).collect::<Vec<f32>>();
        let evidence = Evidence {
            ids: words(&id).into_iter().map(|bytes| SampleId(u32::from_le_bytes(bytes))).collect(),
            classes: k,
            class_probabilities: floats(&class),
            hardness_probabilities: floats(&hardness),
            appearance: floats(&looks).chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(),
        };
        found.insert(split, evidence);
    }
    Ok((classes, found))
}
