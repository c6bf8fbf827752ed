//! The labels of training images alone, for studies of whether acting on them helps.

use cifar_data::splits::Split;
use cifar_data::{Dataset, Progress, Sample, SampleId};
use cifar_model::{Model, predict};
use cifar_train::Dynamics;

use super::analysis::SplitAnalysis;
use super::inputs::SplitPredictions;
use super::page::measures;
use super::triage::{Category, Subject, triage};
use crate::Result;
use crate::page::Measures;

/// The assessment of one training image's label.
#[derive(Debug, Clone, PartialEq)]
pub struct AssessedLabel {
    /// The image.
    pub id: SampleId,
    /// The suggested class, if it is not the label.
    pub suggested: Option<u16>,
    /// Whether the image is *likely mislabelled*, as for [`identify`](super::identify).
    pub is_flagged: bool,
    /// Every measure.
    pub measures: Measures,
}

/// Assesses the label of each training image, in the order of the set. The validation images may be
/// empty. Otherwise they tell how often labels are wrong ([`LabelOdds`](super::LabelOdds)).
///
/// Also returns why some labels are not judged, as [`SplitSummary::withheld`](super::SplitSummary).
/// Original labels are not read.
///
/// ```
/// use cifar_data::Silent;
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
/// use cifar_eval::hard_images::assess_labels;
/// use cifar_model::ModelParams;
/// use cifar_train::{TrainParams, fit};
///
/// let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// let fitted = fit(&TrainParams { epochs: 2, ..Default::default() }, &model, &data, 42, &Silent)?;
/// let dynamics = fitted.dynamics.expect("they are recorded");
/// let sets = (&data.train, &data.val);
/// let (labels, withheld) = assess_labels(&fitted.model, &dynamics, sets, &Silent)?;
/// assert_eq!(labels.len(), data.train.len());
/// assert!(!withheld.is_empty(), "after two epochs, the network knows too little");
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If the dynamics have no logits of single images in every epoch, the model does not fit the
/// images, or the caller cancels.
pub fn assess_labels(
    model: &Model,
    dynamics: &Dynamics,
    (train, val): (&Dataset, &Dataset),
    progress: &dyn Progress,
) -> Result<(Vec<AssessedLabel>, Vec<String>)> {
    dynamics.check_train()?;
    let epochs = dynamics.epochs();
    let logits = predict(model, train, "scoring training images", progress)?;
    let mut input = SplitPredictions::new(Split::Train, train, logits.probabilities()?);
    input.follow(epochs, |epoch| dynamics.of_train(epoch).unwrap_or_default())?;
    if epochs > 0 && dynamics.pass(0).is_some() {
        // From before the network learnt from the image. Only hardness uses it.
        input.first_epoch = None;
    }
    let mut held_out = SplitPredictions::new(Split::Val, val, Vec::new());
    if !val.is_empty() {
        held_out.probabilities = predict(model, val, "scoring validation images", progress)?.probabilities()?;
        held_out.follow(epochs, |epoch| dynamics.of_val(epoch))?;
    }
    let held_out = (!val.is_empty()).then(|| SplitAnalysis::new(&held_out, None));
    let analysis = SplitAnalysis::new(&input, held_out.as_ref());
    let assess = |(index, sample): (usize, &Sample)| {
        let figures = analysis.figures(index);
        let subject = Subject {
            classes: train.classes(),
            split: Split::Train,
            label: sample.label,
            figures: &figures,
            epochs: analysis.epochs(),
            partners: &[],
            issues: &[],
        };
        AssessedLabel {
            id: sample.id,
            suggested: figures.suggested.map(|(class, _)| class),
            is_flagged: triage(&subject).is_some_and(|finding| finding.category == Category::LikelyMislabelled),
            measures: measures(&figures),
        }
    };
    Ok((train.samples().iter().enumerate().map(assess).collect(), analysis.competence.withheld.clone()))
}
