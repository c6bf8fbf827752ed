//! Whether predictions are good enough to judge the labels of a split.
//!
//! A network that knows nothing disagrees with most labels, and is most certain where it is wrong.
//! Judged by it, every label would be wrong. No figure of a single image distinguishes this network
//! from one that is right about wrong labels. So the predictions must be good over the whole split,
//! and for each class. This assumes that most labels are right.

use crate::interval::wilson;
use crate::measures::NoiseRates;
use crate::predictions::predicted_class;

/// Minimum skill: (accuracy − that of the best constant prediction) / (1 − the latter), where the
/// accuracy is the lower end of its 95 % interval.
const MIN_SKILL: f64 = 0.25;
/// Minimum fraction of the images whose class the network must know: its accuracy on all images
/// divided by that on the images of which it is most certain. Wrong labels lower both alike;
/// ignorance lowers the first more.
///
/// Measured (docs/measurements.md): 0.35, 0.52 and 0.62 after one or two epochs, where 59, 43 and
/// 12 % of test labels that are nearly all right would be called wrong. With 40 % of wrong labels
/// and a network that knows 78 % of the images, 96 of 100 flags are right, and the fraction is
/// about 0.8.
const MIN_KNOWN: f64 = 2.0 / 3.0;
/// Fraction of labels that must be right, among the images of which the network is most certain and
/// in each class. If most labels of a class are wrong, the data do not show which.
const MAJORITY: f64 = 0.5;

/// Which labels of a split can be judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Competence {
    /// Whether any label of the split can be judged.
    pub(super) knows_split: bool,
    /// For each class, whether the network can tell its images from others.
    knows: Vec<bool>,
    /// The reasons for which categories are withheld, one sentence each.
    pub(super) withheld: Vec<String>,
}

/// What competence is determined from.
pub(super) struct CompetenceInputs<'a> {
    pub(super) classes: &'a [String],
    /// The current labels.
    pub(super) labels: &'a [u16],
    /// Predicted probabilities: images × classes.
    pub(super) probabilities: &'a [f32],
    /// The probabilities that labels are judged by: images × classes.
    pub(super) class_probabilities: &'a [f32],
    pub(super) rates: &'a NoiseRates,
    /// For each image, whether its label would be called wrong.
    pub(super) is_suspicious: &'a [bool],
}

impl Competence {
    /// Determines the competence.
    ///
    /// - The split: the lower end of the 95 % interval (Wilson) of the accuracy is at least a
    ///   quarter of the way from the fraction of the most frequent label to 1. Of the images of
    ///   which the network is most certain, more than half have the predicted label (again the
    ///   lower end), as [`NoiseRates`] assumes. The accuracy is at least two thirds of that on
    ///   those images, so that they represent the others.
    /// - A class: the network predicts it at least once. By the estimated rate, most of its images
    ///   have its label. At most half of the labels of the class would be called
    ///   wrong.
    pub(super) fn of(evidence: &CompetenceInputs) -> Self {
        let count = evidence.classes.len();
        if let Err(reason) = knows_split(evidence) {
            return Self { knows_split: false, knows: vec![false; count], withheld: vec![reason] };
        }
        let found: Vec<Result<(), String>> = (0..count).map(|class| knows_class(evidence, class)).collect();
        Self {
            knows_split: true,
            knows: found.iter().map(Result::is_ok).collect(),
            withheld: found.into_iter().filter_map(Result::err).collect(),
        }
    }

    /// Returns the competence for the classes of which the network knows enough in both splits.
    pub(super) fn and(mut self, other: &Self) -> Self {
        for (own, other) in self.knows.iter_mut().zip(&other.knows) {
            *own &= other;
        }
        self
    }

    /// Returns whether the network can tell images of this class from others.
    pub(super) fn knows(&self, class: u16) -> bool {
        self.knows[usize::from(class)]
    }
}

/// Returns the predicted class of each image.
fn predictions(rows: &[f32], classes: usize) -> impl Iterator<Item = usize> {
    rows.chunks_exact(classes).map(predicted_class)
}

fn knows_split(e: &CompetenceInputs) -> Result<(), String> {
    const EMPTY: &str = "no image is called likely mislabelled, ambiguous or clear but missed, because";
    let (count, images) = (e.classes.len(), e.labels.len());
    let mut by_label = vec![0usize; count];
    e.labels.iter().for_each(|label| by_label[usize::from(*label)] += 1);
    let is_correct = |(predicted, label): &(usize, &u16)| *predicted == usize::from(**label);
    let right = predictions(e.probabilities, count).zip(e.labels).filter(is_correct).count();
    let most = by_label.iter().copied().max().unwrap_or_default();
    let constant = most as f64 / images.max(1) as f64;
    let required = constant + MIN_SKILL * (1.0 - constant);
    let low = wilson(right, images).low;
    if constant >= 1.0 {
        return Err(format!("{EMPTY} all labels are the same, so accuracy says nothing about the network"));
    }
    if low < required {
        return Err(format!(
            "{EMPTY} the network knows too little: it classifies {right} of {images} images correctly, at least {:.1} % (95 % \
             interval), and needs {:.1} % (a quarter of the way from the most frequent label's {:.1} % to 100 %)",
            low * 100.0,
            required * 100.0,
            constant * 100.0
        ));
    }
    let (own, certain) = (0..count)
        .map(|class| e.rates.anchors(class))
        .fold((0, 0), |(own, certain), (of_class, anchors)| (own + of_class, certain + anchors));
    if wilson(own, certain).low <= MAJORITY {
        return Err(format!(
            "{EMPTY} only {own} of the {certain} images with the most certain predictions have the predicted label"
        ));
    }
    let certain_accuracy = own as f64 / certain as f64;
    if low < MIN_KNOWN * certain_accuracy {
        return Err(format!(
            "{EMPTY} the network knows too little: it classifies {:.1} % of the images with the most certain predictions correctly, \
             but {right} of all {images}, at least {:.1} % (95 % interval), and needs {:.1} % (two thirds of the former)",
            certain_accuracy * 100.0,
            low * 100.0,
            MIN_KNOWN * certain_accuracy * 100.0
        ));
    }
    Ok(())
}

fn knows_class(e: &CompetenceInputs, class: usize) -> Result<(), String> {
    let name = &e.classes[class];
    let labelled = e.labels.iter().filter(|label| usize::from(**label) == class).count();
    let because = |reason: String| {
        Err(format!(
            "no image labelled {name} is called likely mislabelled, ambiguous or clear but missed, and {name} is never suggested, because {reason}"
        ))
    };
    if predictions(e.class_probabilities, e.classes.len()).all(|predicted| predicted != class) {
        // A class without images has no labels to judge.
        return if labelled == 0 { Ok(()) } else { because(format!("the network never predicts {name}")) };
    }
    if e.rates.get(class, class) <= MAJORITY {
        let own = 100.0 * e.rates.get(class, class);
        return because(format!("only an estimated {own:.1} % of the {name} images have that label"));
    }
    let of_class = |(label, suspicious): &(&u16, &bool)| usize::from(**label) == class && **suspicious;
    let suspicious = e.labels.iter().zip(e.is_suspicious).filter(of_class).count();
    if suspicious as f64 > MAJORITY * labelled as f64 {
        return because(format!(
            "{suspicious} of its {labelled} labels would be called wrong, which is more than half"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    const CLASSES: usize = 4;

    /// Returns the labels of `images` images of four classes, and predictions that are correct with
    /// probability `right`. Wrong predictions are a random other class, and as certain as correct
    /// ones.
    fn draws(images: usize, right: f64, seed: u64) -> (Vec<u16>, Vec<f32>) {
        let mut draws = stream(seed, Purpose::Synthetic, 3, 0);
        let labels: Vec<u16> = (0..images).map(|i| (i % CLASSES) as u16).collect();
        let rows = labels.iter().flat_map(|label| {
            let shift = if draws.chance(right) { 0 } else { 1 + draws.below(CLASSES as u64 - 1) as usize };
            let predicted = (usize::from(*label) + shift) % CLASSES;
            let most = 0.5 + 0.4 * (draws.below(1000) as f32 / 1000.0);
            (0..CLASSES).map(move |k| if k == predicted { most } else { (1.0 - most) / (CLASSES - 1) as f32 })
        });
        let rows = rows.collect();
        (labels, rows)
    }

    /// Returns the competence, and how many labels would be flagged without this check.
    fn judged(labels: &[u16], probabilities: &[f32]) -> (Competence, usize) {
        let names: Vec<String> = ["ape", "bee", "cat", "dog"].map(String::from).to_vec();
        let rates = NoiseRates::estimate(CLASSES, labels, probabilities);
        let rows = labels.iter().zip(probabilities.chunks_exact(CLASSES));
        let is_suspicious: Vec<bool> =
            rows.map(|(label, row)| rates.log_odds_wrong(usize::from(*label), row) > 0.0).collect();
        let evidence = CompetenceInputs {
            classes: &names,
            labels,
            probabilities,
            class_probabilities: probabilities,
            rates: &rates,
            is_suspicious: &is_suspicious,
        };
        (Competence::of(&evidence), is_suspicious.iter().filter(|suspicious| **suspicious).count())
    }

    #[test]
    fn a_network_near_chance_flags_nothing() {
        for (right, what) in [(0.25, "a guess"), (0.3, "hardly better than a guess")] {
            let (labels, probabilities) = draws(800, right, 1);
            let (found, suspicious) = judged(&labels, &probabilities);
            assert!(suspicious > 200, "{what}: only {suspicious} labels would be flagged otherwise");
            assert!(!found.knows_split && (0..4).all(|class| !found.knows(class)), "{what}: {found:?}");
            assert!(found.withheld[0].contains("the network knows too little: it classifies "), "{found:?}");
        }
        let (labels, probabilities) = draws(800, 0.9, 1);
        let (found, suspicious) = judged(&labels, &probabilities);
        assert!(found.knows_split && found.withheld.is_empty() && suspicious > 0, "{found:?}");
    }

    #[test]
    fn few_images_are_not_enough_to_judge_labels() {
        // 3 of 4 correct predictions may be chance: the interval begins at 30 %.
        let probabilities: Vec<f32> = [0, 1, 2, 0]
            .iter()
            .flat_map(|predicted| (0..4).map(move |k| if k == *predicted { 0.7 } else { 0.1 }))
            .collect();
        assert!(!judged(&[0, 1, 2, 3], &probabilities).0.knows_split);
        assert!(!judged(&[], &[]).0.knows_split);
        // If all labels are the same, a constant prediction is always right.
        let (found, _) = judged(&[2; 50], &[0.1, 0.1, 0.7, 0.1].repeat(50));
        assert!(!found.knows_split && found.withheld[0].contains("all labels are the same"), "{found:?}");
    }

    #[test]
    fn the_most_certain_images_must_have_the_predicted_label() {
        // 55 % are right, and wrong predictions are the most certain.
        let (labels, mut probabilities) = draws(800, 0.55, 2);
        for (row, label) in probabilities.chunks_exact_mut(CLASSES).zip(&labels) {
            let predicted = predicted_class(row);
            let most = if predicted == usize::from(*label) { 0.6 } else { 0.9 };
            row.iter_mut().enumerate().for_each(|(k, p)| *p = if k == predicted { most } else { (1.0 - most) / 3.0 });
        }
        let (found, _) = judged(&labels, &probabilities);
        assert!(
            !found.knows_split && found.withheld[0].contains("images with the most certain predictions"),
            "{found:?}"
        );
    }

    #[test]
    fn the_most_certain_images_must_represent_the_others() {
        // A fifth of the images are known with certainty; of the others, 42 % are right.
        let (labels, mut probabilities) = draws(800, 0.42, 4);
        for (at, (row, label)) in probabilities.chunks_exact_mut(CLASSES).zip(&labels).enumerate() {
            let is_known = at % 5 == 0;
            let predicted = if is_known { usize::from(*label) } else { predicted_class(row) };
            let most = if is_known { 0.95 } else { 0.55 };
            row.iter_mut().enumerate().for_each(|(k, p)| *p = if k == predicted { most } else { (1.0 - most) / 3.0 });
        }
        let (found, _) = judged(&labels, &probabilities);
        assert!(!found.knows_split, "{found:?}");
        assert!(
            found.withheld[0]
                .contains("it classifies 100.0 % of the images with the most certain predictions correctly, but "),
            "{found:?}"
        );
        // With 30 % wrong labels, a network that knows its images has an equally low accuracy.
        let (mut labels, probabilities) = draws(800, 0.9, 5);
        let mut draws = stream(6, Purpose::Synthetic, 3, 0);
        for label in &mut labels {
            if draws.chance(0.3) {
                *label = (*label + 1 + draws.below(3) as u16) % CLASSES as u16;
            }
        }
        let (found, suspicious) = judged(&labels, &probabilities);
        assert!(found.knows_split && found.withheld.is_empty() && suspicious > 200, "{suspicious} {found:?}");
    }

    #[test]
    fn a_class_whose_images_mostly_carry_another_label_is_not_judged() {
        let (mut labels, probabilities) = draws(2000, 0.97, 7);
        let mut draws = stream(8, Purpose::Synthetic, 3, 0);
        for label in labels.iter_mut().filter(|label| **label == 2) {
            *label = if draws.chance(0.75) { 3 } else { 2 };
        }
        let (found, _) = judged(&labels, &probabilities);
        assert!(found.knows_split && !found.knows(2), "{found:?}");
        let reason = found.withheld.iter().find(|reason| reason.contains("labelled cat")).unwrap();
        assert!(
            reason.contains("because only an estimated 3") && reason.ends_with(" % of the cat images have that label"),
            "{reason}"
        );
    }

    #[test]
    fn labels_of_a_class_that_is_never_predicted_are_not_flagged() {
        let (labels, mut probabilities) = draws(800, 0.95, 3);
        // This network predicts class 0 for class 3.
        for row in probabilities.chunks_exact_mut(CLASSES).filter(|row| predicted_class(row) == 3) {
            row.swap(0, 3);
        }
        let (found, _) = judged(&labels, &probabilities);
        assert!(found.knows_split, "{found:?}");
        assert!(!found.knows(3) && found.knows(1) && found.knows(2), "{found:?}");
        assert!(
            found.withheld.iter().any(|reason| reason.ends_with("because the network never predicts dog")),
            "{found:?}"
        );
        // One prediction is not enough: nearly all labels of the class would be called wrong.
        let first = labels.iter().position(|label| *label == 3).unwrap() * CLASSES;
        probabilities[first..first + CLASSES].copy_from_slice(&[0.02, 0.02, 0.02, 0.94]);
        let (found, _) = judged(&labels, &probabilities);
        assert!(found.knows_split && !found.knows(3), "{found:?}");
        assert!(
            found
                .withheld
                .iter()
                .any(|reason| reason.contains("of its 200 labels would be called wrong, which is more than half")),
            "{found:?}"
        );
    }
}
