//! The images that a model finds hard: likely mislabelled, ambiguous or just misclassified, and
//! why.
//!
//! [`identify`] works in memory, on the predictions of any model or on those of a training run
//! ([`Inputs`]). [`HardImages::save`] writes one folder: `hard_images.csv` (every image, the most
//! suspicious labels first), `index.html` (a page to inspect and review images), `patterns.csv`
//! (what misclassified images have in common), `confusion_pairs.csv`, `neighbours.csv`, `map.csv`
//! (the features in two dimensions), `review_candidates.csv`, `summary.json` and one contact sheet
//! per class, and `evidence.safetensors` (the probabilities that the scores follow from).
//! [`crate::measures`] explains the measures.
//!
//! ```
//! use cifar_data::{Dataset, ImageSize, Silent};
//! use cifar_eval::hard_images::{HardImagesParams, Inputs, identify};
//!
//! // Images, labels and probabilities may come from anywhere. Image 0 has a wrong label.
//! let size = ImageSize { height: 8, width: 8 };
//! let labels: Vec<u16> = (0..200).map(|i| if i == 0 { 1 } else { i % 2 }).collect();
//! let predict = |i| if i % 2 == 0 { [0.9, 0.1] } else { [0.2, 0.8] };
//! let probabilities = (0..200).flat_map(predict).collect();
//! let pixels = (0..200 * size.bytes()).map(|i| (i % 251) as u8).collect();
//! let images = Dataset::from_arrays(&["cat", "dog"], size, &labels, pixels)?;
//!
//! let inputs = Inputs::of_predictions(&images, probabilities);
//! let found = identify(&inputs, &Silent)?;
//! for image in found.images.iter().take(3) {
//!     println!("{} {:.3} {}", image.sample.id, image.figures.label_issue, image.reason);
//! }
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path().join("hard_images");
//! found.save(&HardImagesParams::default(), &out, &Silent)?;
//! assert!(out.join("index.html").exists());
//! # Ok::<(), cifar_eval::EvalError>(())
//! ```
//!
//! Categories that depend on the predictions are empty where these are too poor to judge labels
//! (`competence`). Scores are percentile ranks and always present.
//!
//! No measure, threshold or reason uses an original label or what is known to be planted, only the
//! current label.

mod analysis;
mod competence;
mod evidence;
mod feature_space;
mod figures;
mod files;
mod hardness;
mod inputs;
mod label_odds;
mod labels;
mod neighbours;
mod page;
mod patterns;
mod principal;
mod summary;
mod tables;
mod triage;
mod umap;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use cifar_data::duplicates::Pair;
use cifar_data::labels::Decision;
use cifar_data::splits::Split;
use cifar_data::{Content, Header, Progress, Sample, SampleId};
use serde::{Deserialize, Serialize};

use self::analysis::SplitAnalysis;
use self::patterns::patterns;
use self::triage::{Partner, Subject, triage};
use crate::data_quality::{Issue, Quality};
use crate::{EvalError, Result};

pub use self::evidence::{EVIDENCE, Evidence, read_evidence};
pub use self::figures::Figures;
pub use self::hardness::Appearance;
pub use self::inputs::{Features, Inputs, Run, SplitPredictions};
pub use self::label_odds::LabelOdds;
pub use self::labels::{AssessedLabel, assess_labels};
pub use self::neighbours::Neighbour;
pub use self::patterns::{ErrorPattern, Statistic};
pub use self::summary::{CategorySummary, HardImagesSummary, SplitSummary};
pub use self::triage::Category;

/// The command that writes the folder.
pub const COMMAND: &str = "hard-images";
/// Name of the model after the first epoch among the inputs of the folder
/// ([`cifar_data::provenance`]).
pub const FIRST_EPOCH_INPUT: &str = "first_epoch";
/// File name of the table of all images.
pub const HARD_IMAGES: &str = "hard_images.csv";
/// File name of the page.
pub const PAGE: &str = "index.html";

/// Parameters of the analysis of hard images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedHardImagesParams")]
pub struct HardImagesParams {
    /// Images on each class's contact sheet, 1 to 500.
    pub per_class: usize,
    /// Number of networks that are trained without a part of the training images each, for
    /// out-of-fold predictions of that part: 0 (none) or 2 to 20.
    pub folds: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedHardImagesParams {
    per_class: usize,
    folds: usize,
}

impl TryFrom<UncheckedHardImagesParams> for HardImagesParams {
    type Error = EvalError;

    fn try_from(p: UncheckedHardImagesParams) -> Result<Self> {
        let wrong = |key, value: usize, allowed: &str| EvalError::Parameter {
            key,
            value: value.to_string(),
            allowed: allowed.into(),
        };
        if !(1..=500).contains(&p.per_class) {
            return Err(wrong("per_class", p.per_class, "allowed is 1 to 500"));
        }
        if p.folds != 0 && !(2..=20).contains(&p.folds) {
            return Err(wrong("folds", p.folds, "allowed is 0 (none) or 2 to 20"));
        }
        Ok(Self { per_class: p.per_class, folds: p.folds })
    }
}

impl Default for HardImagesParams {
    fn default() -> Self {
        Self { per_class: 30, folds: 0 }
    }
}

/// The analysis of hard images: everything that [`HardImages::save`] writes.
#[derive(Debug)]
pub struct HardImages<'a> {
    /// Every image of every split, the most suspicious labels first.
    pub images: Vec<HardImage<'a>>,
    /// What misclassified test images have in common, the most significant patterns first.
    pub patterns: Vec<ErrorPattern>,
    /// Counts by split and category.
    pub summary: HardImagesSummary,
    splits: Vec<SplitAnalysis<'a>>,
    inputs: &'a Inputs<'a>,
}

/// An image with everything that was found about it.
#[derive(Debug, Clone)]
pub struct HardImage<'a> {
    /// The split.
    pub split: Split,
    /// The id, labels and file.
    pub sample: &'a Sample,
    /// The scores and all other figures.
    pub figures: Figures,
    /// The most serious category that applies, if any.
    pub category: Option<Category>,
    /// The reasons for the category; empty without one.
    pub reason: String,
    /// For an image with a category: the training images with the most similar features.
    pub neighbours: Vec<Neighbour>,
    /// The position on the map of features (UMAP), in no unit; `None` without features.
    pub position: Option<[f32; 2]>,
    content: Content,
    pixels: &'a [u8],
}

/// Ranks the images of all splits by how suspicious their labels are, and categorises them.
///
/// Writes nothing; see [`HardImages::save`]. Examples are at [`Inputs::of_predictions`] and
/// [`Inputs::of_run`].
///
/// # Errors
/// If there are no images, the inputs do not belong together, there is not enough memory, or the
/// caller cancels.
pub fn identify<'a>(inputs: &'a Inputs<'a>, progress: &dyn Progress) -> Result<HardImages<'a>> {
    inputs.check()?;
    let of_split = |split| inputs.with_images().find(move |input| input.split == split);
    let val = of_split(Split::Val).map(|input| SplitAnalysis::new(input, None));
    let others = [Split::Train, Split::Test].map(|split| Some(SplitAnalysis::new(of_split(split)?, val.as_ref())));
    let [train, test] = others;
    let splits: Vec<SplitAnalysis> = [train, val, test].into_iter().flatten().collect();
    let mut images = images(&splits, inputs);
    feature_space::add(&mut images, inputs, progress)?;
    images.sort_by(|a, b| {
        (b.figures.label_issue.total_cmp(&a.figures.label_issue))
            .then(b.figures.hardness.total_cmp(&a.figures.hardness))
            .then(a.sample.id.cmp(&b.sample.id))
    });
    let patterns = patterns(inputs, &splits);
    let summary = summary::summarise(inputs, &splits, &images, &patterns)?;
    Ok(HardImages { images, patterns, summary, splits, inputs })
}

impl HardImages<'_> {
    /// Writes everything into the folder `out`, which it replaces. The [module](self) lists the
    /// files.
    ///
    /// # Errors
    /// If a file cannot be written or the caller cancels. The folder is then unchanged.
    pub fn save(&self, params: &HardImagesParams, out: &Path, progress: &dyn Progress) -> Result<()> {
        files::save(self, params, out, progress)
    }

    /// Returns the classes, size and source of the images.
    pub fn header(&self) -> &Header {
        // `identify` accepts no analysis without a split.
        self.splits[0].input.images.header()
    }
}

impl fmt::Display for HardImages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary.in_words())
    }
}

/// Returns the images split by split, without what follows from features.
fn images<'a>(splits: &[SplitAnalysis<'a>], inputs: &Inputs) -> Vec<HardImage<'a>> {
    let find = |id: SampleId| splits.iter().find_map(|split| Some((split.input, split.input.images.index_of(id)?)));
    let partner = |id: SampleId, pair: &Pair| {
        let (split, index) = find(id)?;
        Some(Partner { id, kind: pair.kind, split: split.split, label: split.images.samples()[index].label })
    };
    let mut partners: BTreeMap<SampleId, Vec<Partner>> = BTreeMap::new();
    for pair in &inputs.pairs {
        for (own, other) in [(pair.first, pair.second), (pair.second, pair.first)] {
            partners.entry(own).or_default().extend(partner(other, pair));
        }
    }
    let mut images = Vec::new();
    for analysis in splits {
        let (split, set) = (analysis.input.split, analysis.input.images);
        for (index, sample) in set.samples().iter().enumerate() {
            let (figures, pixels) = (analysis.figures(index), set.image(index));
            let failed = Quality::of(pixels, set.size().width).issues();
            let issues: Vec<Issue> = failed.into_iter().map(|(issue, _)| issue).collect();
            let subject = Subject {
                classes: set.classes(),
                split,
                label: sample.label,
                figures: &figures,
                epochs: analysis.epochs(),
                partners: partners.get(&sample.id).map_or(&[], Vec::as_slice),
                issues: &issues,
            };
            let is_dismissed =
                inputs.review.get(&sample.id).is_some_and(|entry| entry.says.decision == Decision::Dismiss);
            let finding = if is_dismissed { None } else { triage(&subject) };
            let (category, reason) = finding.map_or((None, String::new()), |f| (Some(f.category), f.reason));
            let content = set.content(index);
            images.push(HardImage {
                split,
                sample,
                figures,
                category,
                reason,
                neighbours: Vec::new(),
                position: None,
                content,
                pixels,
            });
        }
    }
    images
}
