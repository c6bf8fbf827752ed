//! The category of an image, with the reasons in words.

use cifar_data::SampleId;
use cifar_data::duplicates::Kind;
use cifar_data::splits::Split;

use super::figures::{Figures, LIKELY_WRONG};
use crate::data_quality::Issue;

/// An image is ambiguous if the second highest class probability is at least this fraction of the
/// highest.
const MIN_RUNNER_UP_RATIO: f32 = 0.5;

/// The categories, the most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// The label is more likely wrong than right, given the class probabilities and how often
    /// labels of the split are wrong, and another class is suggested.
    LikelyMislabelled,
    /// An exact or near copy has another label, or exactly one of the two is a test image.
    DuplicateOrLeak,
    /// The image is dark, bright, low in information or blurred, by the absolute tests of
    /// [`crate::data_quality`].
    PoorImage,
    /// The second highest class probability is at least half of the highest, and the image is
    /// misclassified or the highest is not that of its label.
    Ambiguous,
    /// The image is misclassified, and none of the above explains it.
    ClearButMissed,
}

impl Category {
    /// All categories, the most serious first.
    pub const ALL: [Self; 5] =
        [Self::LikelyMislabelled, Self::DuplicateOrLeak, Self::PoorImage, Self::Ambiguous, Self::ClearButMissed];

    /// Returns the name in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::LikelyMislabelled => "likely mislabelled",
            Self::DuplicateOrLeak => "duplicate or leak",
            Self::PoorImage => "poor image",
            Self::Ambiguous => "ambiguous",
            Self::ClearButMissed => "clear but missed",
        }
    }
}

/// The category of an image, with the reasons.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) category: Category,
    pub(super) reason: String,
}

/// The other image of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partner {
    pub(super) id: SampleId,
    pub(super) kind: Kind,
    pub(super) split: Split,
    pub(super) label: u16,
}

/// What the category of an image depends on.
pub(super) struct Subject<'a> {
    pub(super) classes: &'a [String],
    pub(super) split: Split,
    pub(super) label: u16,
    pub(super) figures: &'a Figures,
    pub(super) epochs: usize,
    pub(super) partners: &'a [Partner],
    /// The failed tests of its pixels.
    pub(super) issues: &'a [Issue],
}

/// Returns the most serious category that applies, with the reasons of all that apply; `None` if
/// none applies. Categories that depend on the predictions apply only to classes that the network
/// knows ([`super::competence`]).
pub(super) fn triage(subject: &Subject) -> Option<Finding> {
    let found: Vec<Finding> =
        [mislabelled(subject), duplicate(subject), poor(subject), ambiguous(subject)].into_iter().flatten().collect();
    let found = if found.is_empty() { misclassified(subject).into_iter().collect() } else { found };
    let category = found.first()?.category;
    let reasons: Vec<String> = found.into_iter().map(|finding| finding.reason).collect();
    Some(Finding { category, reason: reasons.join("; ") })
}

fn mislabelled(s: &Subject) -> Option<Finding> {
    let (f, label) = (s.figures, &s.classes[usize::from(s.label)]);
    let ((class, p), rate) = (f.suggested?, f.rate?);
    if f.p_wrong <= LIKELY_WRONG || !f.knows_label || !f.knows_suggested {
        return None;
    }
    let class = &s.classes[usize::from(class)];
    let history = f.trajectory.map_or_else(String::new, |t| {
        let correct = (t.correctness * s.epochs as f64).round();
        format!("; the network predicted its label in {correct} of {} epochs", s.epochs)
    });
    let of_label = f.class_p_label;
    let why = if p > of_label {
        format!("the network favours {class} ({p:.2}) over {label} ({of_label:.2})")
    } else if f.is_rank_matched {
        format!(
            "the network fits its label {label} ({of_label:.2}) less well than those of other images; its best other class is {class} ({p:.2})"
        )
    } else {
        format!(
            "{class} ({p:.2}) is less probable than {label} ({of_label:.2}), but images with such predictions often have the wrong label"
        )
    };
    let reason = format!(
        "the label is wrong with probability {:.2}: {why}, and an estimated {:.1} % of {class} images are labelled {label}{history}",
        f.p_wrong,
        rate * 100.0
    );
    Some(Finding { category: Category::LikelyMislabelled, reason })
}

fn duplicate(s: &Subject) -> Option<Finding> {
    let is_reason = |partner: &&Partner| {
        let is_copy = partner.kind != Kind::Similar;
        is_copy && (partner.label != s.label || (partner.split == Split::Test) != (s.split == Split::Test))
    };
    let reasons: Vec<String> = (s.partners.iter().filter(is_reason))
        .map(|partner| {
            let kind = if partner.kind == Kind::Exact { "an exact copy" } else { "a near copy" };
            let label = &s.classes[usize::from(partner.label)];
            format!("{kind} of {}, a {} image labelled {label}", partner.id, partner.split)
        })
        .collect();
    (!reasons.is_empty()).then(|| Finding { category: Category::DuplicateOrLeak, reason: reasons.join(", ") })
}

fn poor(s: &Subject) -> Option<Finding> {
    let reasons: Vec<String> =
        s.issues.iter().map(|issue| format!("{}: {}", issue.name().replace('_', " "), issue.test())).collect();
    (!reasons.is_empty()).then(|| Finding { category: Category::PoorImage, reason: reasons.join(", ") })
}

fn ambiguous(s: &Subject) -> Option<Finding> {
    let [(first, highest), (second, next)] = s.figures.leading;
    let is_wrong = s.figures.predicted != s.label || first != s.label;
    if next < MIN_RUNNER_UP_RATIO * highest || !is_wrong || !s.figures.knows_label {
        return None;
    }
    let (first, second) = (&s.classes[usize::from(first)], &s.classes[usize::from(second)]);
    Some(Finding {
        category: Category::Ambiguous,
        reason: format!("the network hesitates between {first} ({highest:.2}) and {second} ({next:.2})"),
    })
}

fn misclassified(s: &Subject) -> Option<Finding> {
    let f = s.figures;
    if f.predicted == s.label || !f.knows_label {
        return None;
    }
    let (class, label) = (&s.classes[usize::from(f.predicted)], &s.classes[usize::from(s.label)]);
    let reason = format!(
        "the network predicts {class} and gives {label} a probability of {:.2}; nothing suggests a wrong label",
        f.p_label
    );
    Some(Finding { category: Category::ClearButMissed, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            predicted: 0,
            p_label: 0.9,
            suggested: None,
            is_rank_matched: false,
            margin: 0.8,
            entropy: 0.1,
            loss: 0.1,
            trajectory: None,
            out_of_fold: None,
            label_issue: 0.5,
            hardness: 0.5,
            outlier: None,
            p_wrong: 0.1,
            rate: None,
            leading: [(0, 0.9), (1, 0.1)],
            class_p_label: 0.9,
            knows_label: true,
            knows_suggested: true,
        }
    }

    fn check(figures: &Figures, partners: &[Partner], issues: &[Issue], expected: Option<(Category, &str)>) {
        let classes = ["cat".to_string(), "dog".to_string(), "owl".to_string()];
        let subject =
            Subject { classes: &classes, split: Split::Train, label: 0, figures, epochs: 4, partners, issues };
        let found = triage(&subject).map(|f| (f.category, f.reason));
        assert_eq!(found, expected.map(|(category, reason)| (category, reason.to_string())));
    }

    #[test]
    fn each_category_has_its_reason() {
        check(&figures(), &[], &[], None);
        let wrong = Figures {
            predicted: 1,
            p_label: 0.1,
            suggested: Some((1, 0.8)),
            p_wrong: 0.75,
            rate: Some(0.021),
            leading: [(1, 0.8), (0, 0.1)],
            class_p_label: 0.1,
            ..figures()
        };
        let reason = "the label is wrong with probability 0.75: the network favours dog (0.80) over cat (0.10), and an estimated 2.1 % of dog images are labelled cat";
        check(&wrong, &[], &[], Some((Category::LikelyMislabelled, reason)));
        // Predictions of classes that the network does not know are no reason.
        check(&Figures { knows_label: false, ..wrong }, &[], &[], None);
        let reason = "the network predicts dog and gives cat a probability of 0.10; nothing suggests a wrong label";
        let no_suggestion = Figures { knows_suggested: false, ..wrong };
        check(&no_suggestion, &[], &[], Some((Category::ClearButMissed, reason)));
        // Another class is more probable, but the label is as likely right as wrong.
        let ambiguous = Figures {
            leading: [(1, 0.5), (0, 0.4)],
            class_p_label: 0.4,
            suggested: Some((1, 0.5)),
            rate: Some(0.021),
            p_wrong: 0.5,
            ..figures()
        };
        check(
            &ambiguous,
            &[],
            &[],
            Some((Category::Ambiguous, "the network hesitates between dog (0.50) and cat (0.40)")),
        );
        let missed = Figures { predicted: 2, p_label: 0.3, ..figures() };
        let reason = "the network predicts owl and gives cat a probability of 0.30; nothing suggests a wrong label";
        check(&missed, &[], &[], Some((Category::ClearButMissed, reason)));
        check(
            &figures(),
            &[],
            &[Issue::LowInformation],
            Some((Category::PoorImage, "low information: the entropy of brightness is below 4 bits per pixel")),
        );
        let partner = |kind, label, split| Partner { id: SampleId(7), kind, split, label };
        check(&figures(), &[partner(Kind::Near, 0, Split::Val)], &[], None);
        check(&figures(), &[partner(Kind::Similar, 1, Split::Test)], &[], None);
        let reason = "a near copy of 7, a val image labelled dog";
        check(&figures(), &[partner(Kind::Near, 1, Split::Val)], &[], Some((Category::DuplicateOrLeak, reason)));
        let reason = "an exact copy of 7, a test image labelled cat; low information: the entropy of brightness is below 4 bits per pixel";
        check(
            &figures(),
            &[partner(Kind::Exact, 0, Split::Test)],
            &[Issue::LowInformation],
            Some((Category::DuplicateOrLeak, reason)),
        );
    }
}
