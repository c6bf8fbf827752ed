//! The results of a study: `study.csv`, `measures.csv`, `summary.json`, and a table for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use serde::{Deserialize, Serialize};

use super::differences::{Difference, from_base};
use super::{Arm, BaseAnalysis, Outcome};
use crate::Result;
use crate::evaluate::quoted;
use crate::statistics::Spread;
use crate::truth::{BootstrapEstimate, MeasureAgreement};

/// An arm over all seeds. The interval of the accuracy is over the choice of seeds (Student's t),
/// and for this arm alone; none for one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// The arm.
    pub arm: Arm,
    /// Accuracy on test images.
    pub accuracy: Spread,
    /// Accuracy minus that of the base under the same seeds, with an interval that holds for all
    /// arms at once; none for the base.
    pub over_base: Option<Difference>,
    /// Mean number of training images.
    pub train_images: f64,
    /// Mean fraction of the training images whose label is wrong.
    pub wrong_share: f64,
}

/// How well a measure finds wrong labels, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureSummary {
    /// The column of `hard_images.csv`.
    pub measure: String,
    /// Mean number of training images to which it applies. The other values are over these images.
    pub images: f64,
    /// AUROC for wrong labels; see [`MeasureAgreement`].
    pub auroc: Spread,
    /// Average precision for wrong labels.
    pub average_precision: Spread,
    /// Recall among the n highest, where n is the number of wrong labels.
    pub recall_at_n: Spread,
}

/// The results of a study over all seeds: `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudySummary {
    /// Where the images come from.
    pub source: String,
    /// How labels were made wrong, in words.
    pub noise: String,
    /// Number of test images. The study does not change their labels.
    pub test_images: usize,
    /// Number of seeds.
    pub seeds: usize,
    /// Number of differences from the base that `over_base` is corrected for.
    pub comparisons: usize,
    /// Fraction of the flagged images whose label is wrong, over the seeds under which images were
    /// flagged; none if there are none.
    pub precision: Option<Spread>,
    /// Fraction of the wrong labels that are flagged.
    pub recall: Option<Spread>,
    /// Fraction of the flagged images whose suggested label is the true one.
    pub suggested_right: Option<Spread>,
    /// The arms, in the order of [`Arm::ALL`].
    pub arms: Vec<ArmSummary>,
    /// The measures, best AUROC first.
    pub measures: Vec<MeasureSummary>,
    /// Why no image, or no image of some classes, is flagged: each reason with its seed.
    pub withheld: Vec<String>,
}

/// Summarises outcomes over the seeds. `source` says where the images come from, and `noise` how
/// labels were made wrong.
///
/// ```
/// use cifar_eval::study::{Arm, Outcome, summarise, write};
///
/// let outcome = |arm, seed, accuracy| Outcome {
///     arm,
///     seed,
///     train_images: 100,
///     wrong_labels: 20,
///     accuracy,
///     test_images: 50,
///     found: None,
/// };
/// let outcomes = [
///     outcome(Arm::Base, 1, 0.80),
///     outcome(Arm::Dropped, 1, 0.85),
///     outcome(Arm::Base, 2, 0.82),
///     outcome(Arm::Dropped, 2, 0.87),
/// ];
/// let summary = summarise(&outcomes, "drawn images", "20 % random labels");
/// assert!((summary.arms[1].over_base.unwrap().mean - 0.05).abs() < 1e-12);
/// assert!(summary.in_words().contains("dropped: better than base"));
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path().join("study");
/// write(&outcomes, &summary, &out)?;
/// assert!(out.join("summary.json").is_file());
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
pub fn summarise(outcomes: &[Outcome], source: &str, noise: &str) -> StudySummary {
    let differences = differences(outcomes);
    let arms = Arm::ALL.into_iter().filter_map(|arm| {
        let of_arm: Vec<&Outcome> = outcomes.iter().filter(|o| o.arm == arm).collect();
        let n = of_arm.len() as f64;
        Some(ArmSummary {
            arm,
            accuracy: spread_of_fractions(&of_arm.iter().map(|o| o.accuracy).collect::<Vec<_>>())?,
            over_base: differences.iter().find(|(of, _)| *of == arm).map(|(_, difference)| *difference),
            train_images: of_arm.iter().map(|o| o.train_images as f64).sum::<f64>() / n,
            wrong_share: of_arm.iter().map(|o| o.wrong_labels as f64 / o.train_images as f64).sum::<f64>() / n,
        })
    });
    let arms = arms.collect();
    let found: Vec<_> = outcomes.iter().filter_map(|o| Some((o, o.found.as_ref()?))).collect();
    let fraction = |of: &dyn Fn(&Outcome, &BaseAnalysis) -> (usize, usize)| {
        let fractions: Vec<f64> = found
            .iter()
            .map(|(o, f)| of(o, f))
            .filter(|(_, n)| *n > 0)
            .map(|(hits, n)| hits as f64 / n as f64)
            .collect();
        spread_of_fractions(&fractions)
    };
    let withheld = found.iter().flat_map(|(o, f)| f.withheld.iter().map(|reason| format!("seed {}: {reason}", o.seed)));
    let seeds: BTreeSet<u64> = outcomes.iter().map(|o| o.seed).collect();
    StudySummary {
        source: source.into(),
        noise: noise.into(),
        test_images: outcomes.first().map_or(0, |o| o.test_images),
        seeds: seeds.len(),
        comparisons: differences.len(),
        precision: fraction(&|_, f| (f.flagged_wrong, f.flagged)),
        recall: fraction(&|o, f| (f.flagged_wrong, o.wrong_labels)),
        suggested_right: fraction(&|_, f| (f.suggested_right, f.flagged)),
        arms,
        measures: measures(&found.iter().map(|(_, f)| f.measures.as_slice()).collect::<Vec<_>>()),
        withheld: withheld.collect(),
    }
}

/// Compares the arms with the base under the seeds that all arms have.
fn differences(outcomes: &[Outcome]) -> Vec<(Arm, Difference)> {
    let arms: Vec<Arm> = Arm::ALL.into_iter().filter(|arm| outcomes.iter().any(|o| o.arm == *arm)).collect();
    let of = |arm: Arm, seed: u64| outcomes.iter().find(|o| o.arm == arm && o.seed == seed).map(|o| o.accuracy);
    let seeds: BTreeSet<u64> = outcomes.iter().map(|o| o.seed).collect();
    let complete: Vec<u64> =
        seeds.into_iter().filter(|seed| arms.iter().all(|arm| of(*arm, *seed).is_some())).collect();
    if complete.is_empty() || arms.first() != Some(&Arm::Base) {
        return Vec::new();
    }
    let accuracy: Vec<Vec<f64>> =
        arms.iter().map(|arm| complete.iter().filter_map(|seed| of(*arm, *seed)).collect()).collect();
    arms[1..].iter().copied().zip(from_base(&accuracy)).collect()
}

/// Returns the spread of fractions, with the interval clamped to 0 to 1.
fn spread_of_fractions(values: &[f64]) -> Option<Spread> {
    let spread = Spread::of(values)?;
    let clamped = |end: Option<f64>| end.map(|end| end.clamp(0.0, 1.0));
    Some(Spread { low: clamped(spread.low), high: clamped(spread.high), ..spread })
}

fn measures(runs: &[&[(String, MeasureAgreement)]]) -> Vec<MeasureSummary> {
    let names = runs.first().into_iter().flat_map(|run| run.iter().map(|(name, _)| name));
    let over = |name: &str, figure: fn(&MeasureAgreement) -> Option<BootstrapEstimate>| {
        let values = runs.iter().filter_map(|run| figure(&run.iter().find(|(n, _)| n == name)?.1));
        spread_of_fractions(&values.map(|estimate| estimate.value).collect::<Vec<_>>())
    };
    let mut measures: Vec<MeasureSummary> = names
        .filter_map(|name| {
            let images: Vec<f64> = (runs.iter().flat_map(|run| run.iter()))
                .filter(|(n, _)| n == name)
                .map(|(_, agreement)| agreement.images as f64)
                .collect();
            Some(MeasureSummary {
                measure: name.clone(),
                images: Spread::of(&images)?.mean,
                auroc: over(name, |a| a.auroc)?,
                average_precision: over(name, |a| a.average_precision)?,
                recall_at_n: over(name, |a| a.recall_at_n)?,
            })
        })
        .collect();
    measures.sort_by(|a, b| b.auroc.mean.total_cmp(&a.auroc.mean).then_with(|| a.measure.cmp(&b.measure)));
    measures
}

impl StudySummary {
    /// Returns two tables for people and the conclusions.
    pub fn in_words(&self) -> String {
        let mut text = format!("{}; {}\n\n", self.source, self.noise);
        let _ = writeln!(
            text,
            "training on            images  wrong labels   test accuracy (mean over seeds)      difference from base"
        );
        for arm in &self.arms {
            let _ = writeln!(
                text,
                "{:<20} {:>8.0} {:>12.2} %   {:<34}   {}",
                arm.arm.name(),
                arm.train_images,
                arm.wrong_share * 100.0,
                percent(&arm.accuracy),
                arm.over_base.as_ref().map(points).unwrap_or_default()
            );
        }
        let _ = writeln!(text, "n = {} test images, with unchanged labels", self.test_images);
        let _ = match self.comparisons {
            0 => writeln!(text),
            1 => writeln!(text, "95 % intervals over the seeds (Student's t)\n"),
            count => writeln!(
                text,
                "95 % intervals over the seeds (Student's t): of accuracies for each arm alone, of differences for all \
                 {count} comparisons at once\n(Bonferroni; one variance for all arms)\n"
            ),
        };
        for reason in &self.withheld {
            let _ = writeln!(text, "{reason}");
        }
        for (what, spread) in [
            ("flagged images whose label is wrong", &self.precision),
            ("wrong labels that are flagged", &self.recall),
            ("flagged images whose suggested label is the true one", &self.suggested_right),
        ] {
            if let Some(spread) = spread {
                let of = if spread.n == self.seeds {
                    String::new()
                } else {
                    format!(", {} of {} seeds", spread.n, self.seeds)
                };
                let _ = writeln!(text, "{what}: {}{of}", percent(spread));
            }
        }
        let _ = writeln!(text, "\nmeasure              AUROC    average precision   recall at n    images");
        for m in &self.measures {
            let (auroc, precision, recall) = (m.auroc.mean, m.average_precision.mean, m.recall_at_n.mean);
            let _ =
                writeln!(text, "{:<20} {auroc:.4}   {precision:<17.4}   {recall:<11.4} {:>9.0}", m.measure, m.images);
        }
        text + &self.verdict()
    }

    /// Says whether each arm helped, according to the intervals that hold for all arms at once.
    fn verdict(&self) -> String {
        let lines =
            self.arms.iter().filter_map(|a| Some((a.arm.name(), a.over_base?))).map(|(name, difference)| {
                match (difference.low, difference.high) {
                    (Some(low), _) if low > 0.0 => format!("{name}: better than base"),
                    (_, Some(high)) if high < 0.0 => format!("{name}: worse than base"),
                    (Some(_), Some(_)) => format!("{name}: no difference established with {} seeds", difference.n),
                    _ => format!("{name}: no conclusion from one seed"),
                }
            });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn percent(spread: &Spread) -> String {
    shown([Some(spread.mean), spread.low, spread.high], |value| format!("{:.2}", value * 100.0), " %")
}

fn points(difference: &Difference) -> String {
    let values = [Some(difference.mean), difference.low, difference.high];
    shown(values, |value| format!("{:+.2}", value * 100.0), " points")
}

/// Formats a mean with its interval.
fn shown(values: [Option<f64>; 3], number: impl Fn(f64) -> String, unit: &str) -> String {
    match values.map(|value| value.map(&number)) {
        [Some(mean), Some(low), Some(high)] => format!("{mean}{unit} ({low} to {high})"),
        [mean, ..] => format!("{}{unit} (n = 1)", mean.unwrap_or_default()),
    }
}

/// Writes `study.csv`, `measures.csv` and `summary.json` to the folder `out`, which is replaced.
///
/// # Errors
/// If a file cannot be written.
pub fn write(outcomes: &[Outcome], summary: &StudySummary, out: &Path) -> Result<()> {
    let source = quoted(&summary.source);
    let mut rows = String::from("seed,arm,train_images,wrong_labels,test_images,accuracy,source\n");
    let mut measures =
        String::from("seed,measure,images,wrong,auroc,auroc_low,auroc_high,average_precision,recall_at_n,source\n");
    let optional = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
    for o in outcomes {
        let arm = o.arm.name();
        let _ = writeln!(
            rows,
            "{},{arm},{},{},{},{},{source}",
            o.seed, o.train_images, o.wrong_labels, o.test_images, o.accuracy
        );
        for (name, a) in o.found.iter().flat_map(|found| &found.measures) {
            let (Some(auroc), Some(precision), Some(recall)) = (a.auroc, a.average_precision, a.recall_at_n) else {
                continue;
            };
            let _ = writeln!(
                measures,
                "{},{name},{},{},{},{},{},{},{},{source}",
                o.seed,
                a.images,
                a.positives.unwrap_or_default(),
                auroc.value,
                optional(auroc.low),
                optional(auroc.high),
                precision.value,
                recall.value
            );
        }
    }
    let folder = OutputFolder::create(out)?;
    folder.write("study.csv", rows.as_bytes())?;
    folder.write("measures.csv", measures.as_bytes())?;
    folder.write_json("summary.json", summary)?;
    folder.commit()?;
    Ok(())
}
