//! Whether a network knows the images of a split well enough to doubt their labels.
//!
//! A network that knows nothing disagrees with most labels, and is surest where it is wrong: taken at its
//! word, it accuses everybody. No figure of a single image tells such a network from one that is right
//! about wrong labels. So it must show over the whole split, and for each class, that it knows them. This
//! takes for granted that labels are mostly right.

use crate::interval::wilson;
use crate::measures::NoiseRates;
use crate::predictions::predicted_class;

/// The least part of the way from the best constant answer to no error that the network must have gone,
/// by the lower end of the 95 % interval of its accuracy.
const LEAST_SKILL: f64 = 0.25;
/// The least share of the images whose class the network must know. That share is its agreement with all
/// labels over that with the labels of its surest images: wrong labels lower both alike, ignorance lowers
/// the first more.
///
/// Measured (docs/measurements.md): 0.35, 0.52 and 0.62 where 59, 43 and 12 % of test labels that are nearly
/// all right would be called wrong, after one or two epochs. With 40 % of wrong labels and a network that
/// knows 78 % of the images, whose flags are right in 96 of 100 cases, it is about 0.8.
const LEAST_KNOWN: f64 = 2.0 / 3.0;
/// The share of labels that must be right, among the images that the network is surest of and in each
/// class. Where most labels of a class are wrong, nothing in the data says which they are.
const MOSTLY: f64 = 0.5;

/// What a network may be asked about the images of a split.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Competence {
    /// Whether the network knows the split at all.
    pub(super) knows_split: bool,
    /// For each class whether the network can tell that an image is or is not of it.
    knows: Vec<bool>,
    /// Why something is withheld, one sentence each.
    pub(super) withheld: Vec<String>,
}

/// What competence is judged by.
pub(super) struct Evidence<'a> {
    pub(super) classes: &'a [String],
    /// Labels in force.
    pub(super) labels: &'a [u16],
    /// Of the final network: images × classes.
    pub(super) probabilities: &'a [f32],
    /// What labels are doubted by: images × classes.
    pub(super) belief: &'a [f32],
    pub(super) rates: &'a NoiseRates,
    /// For each image whether its label would be called wrong.
    pub(super) is_accused: &'a [bool],
}

impl Competence {
    /// Judges the network.
    ///
    /// - The split: the lower end of the interval of its accuracy (Wilson, 95 %) is at least a quarter of the
    ///   way from the share of the most frequent label to 1; of the images that it is surest of, more than
    ///   half carry the label (again the lower end), as [`NoiseRates`] assumes; and its accuracy is at least
    ///   two thirds of that on its surest images, so that those speak for the others.
    /// - A class: the network predicts it at least once; most of the surest images of it carry the label,
    ///   by the estimated rate; and it would call at most half of the labels of that class wrong.
    pub(super) fn of(evidence: &Evidence) -> Self {
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

    /// Whether the network can tell that an image is or is not of this class.
    pub(super) fn knows(&self, class: u16) -> bool {
        self.knows[usize::from(class)]
    }
}

fn answers(rows: &[f32], classes: usize) -> impl Iterator<Item = usize> {
    rows.chunks_exact(classes).map(predicted_class)
}

fn knows_split(e: &Evidence) -> Result<(), String> {
    const EMPTY: &str = "no image is likely mislabelled, ambiguous or clear but missed, since";
    let (count, images) = (e.classes.len(), e.labels.len());
    let mut by_label = vec![0usize; count];
    e.labels.iter().for_each(|label| by_label[usize::from(*label)] += 1);
    let right = answers(e.probabilities, count).zip(e.labels).filter(|(answer, label)| *answer == usize::from(**label));
    let (right, most) = (right.count(), by_label.iter().copied().max().unwrap_or_default());
    let constant = most as f64 / images.max(1) as f64;
    let least = constant + LEAST_SKILL * (1.0 - constant);
    let low = wilson(right, images).low;
    if constant >= 1.0 {
        return Err(format!("{EMPTY} all labels are the same, so that nothing shows what the network knows"));
    }
    if low < least {
        return Err(format!(
            "{EMPTY} the network knows too little: it is right on {right} of {images} images, {:.1} % at least (95 % \
             interval), and must be right on {:.1} % (a quarter of the way from the most frequent label's {:.1} % to all)",
            low * 100.0,
            least * 100.0,
            constant * 100.0
        ));
    }
    let (own, surest) =
        (0..count).map(|class| e.rates.anchors(class)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if wilson(own, surest).low <= MOSTLY {
        return Err(format!(
            "{EMPTY} only {own} of the {surest} images that the network is surest of carry the label that it gives them"
        ));
    }
    let sure = own as f64 / surest as f64;
    if low < LEAST_KNOWN * sure {
        return Err(format!(
            "{EMPTY} the network knows too little: it is right on {:.1} % of the images that it is surest of, but on {right} of \
             all {images}, {:.1} % at least (95 % interval), where it must be right on {:.1} % (two thirds of the former)",
            sure * 100.0,
            low * 100.0,
            LEAST_KNOWN * sure * 100.0
        ));
    }
    Ok(())
}

fn knows_class(e: &Evidence, class: usize) -> Result<(), String> {
    let name = &e.classes[class];
    let labelled = e.labels.iter().filter(|label| usize::from(**label) == class).count();
    let (own, surest) = e.rates.anchors(class);
    let because = |reason: String| {
        Err(format!(
            "no image labelled {name} is likely mislabelled, ambiguous or clear but missed, and no label {name} is suggested, since {reason}"
        ))
    };
    if answers(e.belief, e.classes.len()).all(|answer| answer != class) {
        // Nothing to withhold for a class without images.
        return if labelled == 0 { Ok(()) } else { because(format!("the network never predicts {name}")) };
    }
    if e.rates.get(class, class) <= MOSTLY {
        return because(format!(
            "only {own} of the {surest} images that the network most surely predicts as {name} carry that label"
        ));
    }
    let accused =
        e.labels.iter().zip(e.is_accused).filter(|(label, accused)| usize::from(**label) == class && **accused);
    let accused = accused.count();
    if accused as f64 > MOSTLY * labelled as f64 {
        return because(format!(
            "the network would call {accused} of its {labelled} labels wrong, which is more than half"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    const CLASSES: usize = 4;

    /// `images` images of four classes in turns and a network that is right with the probability `right`;
    /// where it is not, it gives any other class. It is as sure of the wrong as of the right.
    fn draws(images: usize, right: f64, seed: u64) -> (Vec<u16>, Vec<f32>) {
        let mut draws = stream(seed, Purpose::Synthetic, 3, 0);
        let labels: Vec<u16> = (0..images).map(|i| (i % CLASSES) as u16).collect();
        let belief = labels.iter().flat_map(|label| {
            let further = if draws.chance(right) { 0 } else { 1 + draws.below(CLASSES as u64 - 1) as usize };
            let answer = (usize::from(*label) + further) % CLASSES;
            let most = 0.5 + 0.4 * (draws.below(1000) as f32 / 1000.0);
            (0..CLASSES).map(move |k| if k == answer { most } else { (1.0 - most) / (CLASSES - 1) as f32 })
        });
        let belief = belief.collect();
        (labels, belief)
    }

    fn judged(labels: &[u16], belief: &[f32]) -> (Competence, usize) {
        let names: Vec<String> = ["ape", "bee", "cat", "dog"].map(String::from).to_vec();
        let rates = NoiseRates::estimate(CLASSES, labels, belief);
        let rows = labels.iter().zip(belief.chunks_exact(CLASSES));
        let is_accused: Vec<bool> =
            rows.map(|(label, row)| rates.log_odds_wrong(usize::from(*label), row) > 0.0).collect();
        let evidence =
            Evidence { classes: &names, labels, probabilities: belief, belief, rates: &rates, is_accused: &is_accused };
        (Competence::of(&evidence), is_accused.iter().filter(|accused| **accused).count())
    }

    #[test]
    fn a_network_that_knows_little_accuses_nobody() {
        for (right, what) in [(0.25, "guesses"), (0.3, "hardly better")] {
            let (labels, belief) = draws(800, right, 1);
            let (found, accused) = judged(&labels, &belief);
            assert!(accused > 200, "{what}: without this, {accused} would be accused");
            assert!(!found.knows_split && (0..4).all(|class| !found.knows(class)), "{what}: {found:?}");
            assert!(found.withheld[0].contains("the network knows too little: it is right on "), "{found:?}");
        }
        let (labels, belief) = draws(800, 0.9, 1);
        let (found, accused) = judged(&labels, &belief);
        assert!(found.knows_split && found.withheld.is_empty() && accused > 0, "{found:?}");
    }

    #[test]
    fn few_images_do_not_show_what_a_network_knows() {
        // 3 of 4 right may be luck: the interval begins at 30 %.
        let belief: Vec<f32> =
            [0, 1, 2, 0].iter().flat_map(|answer| (0..4).map(move |k| if k == *answer { 0.7 } else { 0.1 })).collect();
        assert!(!judged(&[0, 1, 2, 3], &belief).0.knows_split);
        assert!(!judged(&[], &[]).0.knows_split);
        // One label only: always to answer it is never wrong.
        let (found, _) = judged(&[2; 50], &[0.1, 0.1, 0.7, 0.1].repeat(50));
        assert!(!found.knows_split && found.withheld[0].contains("all labels are the same"), "{found:?}");
    }

    #[test]
    fn the_surest_images_must_carry_their_label() {
        // 55 % right, and surest where it is wrong.
        let (labels, mut belief) = draws(800, 0.55, 2);
        for (row, label) in belief.chunks_exact_mut(CLASSES).zip(&labels) {
            let answer = predicted_class(row);
            let most = if answer == usize::from(*label) { 0.6 } else { 0.9 };
            row.iter_mut().enumerate().for_each(|(k, p)| *p = if k == answer { most } else { (1.0 - most) / 3.0 });
        }
        let (found, _) = judged(&labels, &belief);
        assert!(!found.knows_split && found.withheld[0].contains("images that the network is surest of"), "{found:?}");
    }

    #[test]
    fn the_surest_images_must_speak_for_the_others() {
        // A fifth of the images is known for sure, and 42 % of the rest are right.
        let (labels, mut belief) = draws(800, 0.42, 4);
        for (at, (row, label)) in belief.chunks_exact_mut(CLASSES).zip(&labels).enumerate() {
            let is_sure = at % 5 == 0;
            let answer = if is_sure { usize::from(*label) } else { predicted_class(row) };
            let most = if is_sure { 0.95 } else { 0.55 };
            row.iter_mut().enumerate().for_each(|(k, p)| *p = if k == answer { most } else { (1.0 - most) / 3.0 });
        }
        let (found, _) = judged(&labels, &belief);
        assert!(!found.knows_split, "{found:?}");
        assert!(
            found.withheld[0].contains("it is right on 100.0 % of the images that it is surest of, but on "),
            "{found:?}"
        );
        // A network that knows its images agrees as seldom where three tenths of the labels are wrong.
        let (mut labels, belief) = draws(800, 0.9, 5);
        let mut draws = stream(6, Purpose::Synthetic, 3, 0);
        for label in &mut labels {
            if draws.chance(0.3) {
                *label = (*label + 1 + draws.below(3) as u16) % CLASSES as u16;
            }
        }
        let (found, accused) = judged(&labels, &belief);
        assert!(found.knows_split && found.withheld.is_empty() && accused > 200, "{accused} {found:?}");
    }

    #[test]
    fn a_class_that_is_never_predicted_is_not_accused() {
        let (labels, mut belief) = draws(800, 0.95, 3);
        // What was class 3 is class 0 to this network.
        for row in belief.chunks_exact_mut(CLASSES).filter(|row| predicted_class(row) == 3) {
            row.swap(0, 3);
        }
        let (found, _) = judged(&labels, &belief);
        assert!(found.knows_split, "{found:?}");
        assert!(!found.knows(3) && found.knows(1) && found.knows(2), "{found:?}");
        assert!(
            found.withheld.iter().any(|reason| reason.ends_with("since the network never predicts dog")),
            "{found:?}"
        );
        // Once is not enough: nearly all labels of the class would be called wrong.
        let one = labels.iter().position(|label| *label == 3).unwrap() * CLASSES;
        belief[one..one + CLASSES].copy_from_slice(&[0.02, 0.02, 0.02, 0.94]);
        let (found, _) = judged(&labels, &belief);
        assert!(found.knows_split && !found.knows(3), "{found:?}");
        assert!(
            found.withheld.iter().any(|reason| reason.contains("of its 200 labels wrong, which is more than half")),
            "{found:?}"
        );
    }
}
