//! The training images alone, with every measure: for those who ask whether acting on them helps.

use cifar_data::splits::Split;
use cifar_data::{Dataset, Progress, Sample, SampleId};
use cifar_model::{Model, predict};
use cifar_train::Dynamics;

use super::beliefs::{Beliefs, follow};
use super::page::measures;
use super::triage::{Category, Subject, triage};
use crate::Result;
use crate::page::Measures;

/// What is thought of a training image's label.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// The image.
    pub id: SampleId,
    /// The class that is believed in, if that is not the label.
    pub suggested: Option<u16>,
    /// Whether it is *likely mislabelled*, as [`super::identify`] has it.
    pub is_flagged: bool,
    /// Every measure.
    pub measures: Measures,
}

/// What is thought of each image of `train`, in the set's order, and why nothing is said of some labels (as
/// [`super::SplitSummary::withheld`]). Labels in force are all that is read.
///
/// # Errors
/// If the dynamics do not follow single images, the model cannot be run on the images or the user asks to stop.
pub fn suspects(
    model: &Model,
    dynamics: &Dynamics,
    train: &Dataset,
    monitor: &dyn Progress,
) -> Result<(Vec<Suspect>, Vec<String>)> {
    dynamics.check_train()?;
    let logits = predict(model, train, "scoring training images", monitor)?;
    let trajectories = follow(train, dynamics.epochs(), |epoch| dynamics.of_train(epoch).unwrap_or_default())?;
    let beliefs = Beliefs::new(train, logits.probabilities()?, trajectories, None);
    let suspect = |(index, sample): (usize, &Sample)| {
        let figures = beliefs.figures(index, sample.label);
        let subject = Subject {
            classes: train.classes(),
            split: Split::Train,
            label: sample.label,
            figures: &figures,
            epochs: beliefs.epochs(),
            partners: &[],
            issues: &[],
        };
        Suspect {
            id: sample.id,
            suggested: figures.suggested.map(|(class, _)| class),
            is_flagged: triage(&subject).is_some_and(|finding| finding.category == Category::LikelyMislabelled),
            measures: measures(&figures),
        }
    };
    Ok((train.samples().iter().enumerate().map(suspect).collect(), beliefs.competence.withheld.clone()))
}
