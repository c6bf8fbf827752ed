//! What a study comes to: `study.csv`, `measures.csv`, `summary.json`, and a table for people.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use serde::{Deserialize, Serialize};

use super::{Arm, Outcome};
use crate::Result;
use crate::statistics::Spread;
use crate::truth::{Agreement, Estimate};

/// An arm over the seeds. Intervals are for the choice of seeds (Student's t), none for one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// The arm.
    pub arm: Arm,
    /// Accuracy on test images.
    pub accuracy: Spread,
    /// Accuracy less that of the base under the same seed.
    pub over_base: Spread,
    /// Mean number of training images.
    pub train_images: f64,
    /// Mean share of them whose label is wrong.
    pub wrong_share: f64,
}

/// A measure over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureSummary {
    /// The column of `hard_images.csv`.
    pub measure: String,
    /// Mean number of training images that have it; the figures are of those alone.
    pub images: f64,
    /// How well it finds the wrong labels among the training images.
    pub auroc: Spread,
    /// The same.
    pub average_precision: Spread,
    /// The same.
    pub recall_at_n: Spread,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudySummary {
    /// Where the images came from.
    pub source: String,
    /// The labels that were spoilt, in words.
    pub noise: String,
    /// Number of test images, whose labels are as they came.
    pub test_images: usize,
    /// Share of the flagged images whose label is wrong, over the seeds; none if nothing was flagged.
    pub precision: Option<Spread>,
    /// Share of the wrong labels that are flagged.
    pub recall: Option<Spread>,
    /// Share of the flagged images whose suggested label is the true one.
    pub suggested_right: Option<Spread>,
    /// In the order of [`Arm::ALL`].
    pub arms: Vec<ArmSummary>,
    /// Best AUROC first.
    pub measures: Vec<MeasureSummary>,
}

/// Figures over the seeds.
pub fn summarise(outcomes: &[Outcome], source: &str, noise: &str) -> StudySummary {
    let base = |seed| outcomes.iter().find(|o| o.arm == Arm::Base && o.seed == seed);
    let arms = Arm::ALL.into_iter().filter_map(|arm| {
        let of_arm: Vec<&Outcome> = outcomes.iter().filter(|o| o.arm == arm).collect();
        let n = of_arm.len() as f64;
        let over_base: Vec<f64> = of_arm.iter().filter_map(|o| Some(o.accuracy - base(o.seed)?.accuracy)).collect();
        Some(ArmSummary {
            arm,
            accuracy: Spread::of(&of_arm.iter().map(|o| o.accuracy).collect::<Vec<_>>())?,
            over_base: Spread::of(&over_base)?,
            train_images: of_arm.iter().map(|o| o.train_images as f64).sum::<f64>() / n,
            wrong_share: of_arm.iter().map(|o| o.wrong_labels as f64 / o.train_images as f64).sum::<f64>() / n,
        })
    });
    let arms = arms.collect();
    let found: Vec<_> = outcomes.iter().filter_map(|o| Some((o, o.found.as_ref()?))).collect();
    let shares = |of: &dyn Fn(&Outcome, &super::Found) -> (usize, usize)| {
        let shares: Vec<f64> = found
            .iter()
            .map(|(o, f)| of(o, f))
            .filter(|(_, n)| *n > 0)
            .map(|(hits, n)| hits as f64 / n as f64)
            .collect();
        Spread::of(&shares)
    };
    StudySummary {
        source: source.into(),
        noise: noise.into(),
        test_images: outcomes.first().map_or(0, |o| o.test_images),
        precision: shares(&|_, f| (f.flagged_wrong, f.flagged)),
        recall: shares(&|o, f| (f.flagged_wrong, o.wrong_labels)),
        suggested_right: shares(&|_, f| (f.suggested_right, f.flagged)),
        arms,
        measures: measures(&found.iter().map(|(_, f)| f.measures.as_slice()).collect::<Vec<_>>()),
    }
}

fn measures(runs: &[&[(String, Agreement)]]) -> Vec<MeasureSummary> {
    let names = runs.first().into_iter().flat_map(|run| run.iter().map(|(name, _)| name));
    let over = |name: &str, figure: fn(&Agreement) -> Option<Estimate>| {
        let values = runs.iter().filter_map(|run| figure(&run.iter().find(|(n, _)| n == name)?.1));
        Spread::of(&values.map(|estimate| estimate.value).collect::<Vec<_>>())
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
    /// Two tables for people, and what they say.
    pub fn in_words(&self) -> String {
        let mut text = format!("{}; {}\n\n", self.source, self.noise);
        let _ = writeln!(
            text,
            "training on            images  wrong labels   test accuracy over the seeds         against base"
        );
        for arm in &self.arms {
            let _ = writeln!(
                text,
                "{:<20} {:>8.0} {:>12.2} %   {:<34}   {}",
                arm.arm.name(),
                arm.train_images,
                arm.wrong_share * 100.0,
                percent(&arm.accuracy),
                if arm.arm == Arm::Base { String::new() } else { points(&arm.over_base) }
            );
        }
        let _ = writeln!(text, "n = {} test images, labels as they came\n", self.test_images);
        for (what, spread) in [
            ("flagged images whose label is wrong", &self.precision),
            ("wrong labels that are flagged", &self.recall),
            ("flagged images whose suggested label is the true one", &self.suggested_right),
        ] {
            if let Some(spread) = spread {
                let _ = writeln!(text, "{what}: {}", percent(spread));
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

    /// Whether acting on the flags helped, as far as the seeds carry it.
    fn verdict(&self) -> String {
        let told = self.arms.iter().filter(|a| a.arm != Arm::Base).map(|a| {
            let name = a.arm.name();
            match (a.over_base.low, a.over_base.high) {
                (Some(low), _) if low > 0.0 => format!("{name}: better than base"),
                (_, Some(high)) if high < 0.0 => format!("{name}: worse than base"),
                (Some(_), Some(_)) => format!("{name}: no difference that {} seeds could show", a.over_base.n),
                _ => format!("{name}: one seed, so nothing can be said"),
            }
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

fn percent(spread: &Spread) -> String {
    shown(spread, |value| format!("{:.2}", value * 100.0), " %")
}

fn points(spread: &Spread) -> String {
    shown(spread, |value| format!("{:+.2}", value * 100.0), " points")
}

fn shown(spread: &Spread, number: impl Fn(f64) -> String, unit: &str) -> String {
    match (spread.low, spread.high) {
        (Some(low), Some(high)) => format!("{}{unit} ({} to {})", number(spread.mean), number(low), number(high)),
        _ => format!("{}{unit} (n = 1)", number(spread.mean)),
    }
}

/// Writes the files.
///
/// # Errors
/// If one cannot be written.
pub fn write(outcomes: &[Outcome], summary: &StudySummary, out: &Path) -> Result<()> {
    let mut rows = String::from("seed,arm,train_images,wrong_labels,test_images,accuracy\n");
    let mut measures =
        String::from("seed,measure,images,wrong,auroc,auroc_low,auroc_high,average_precision,recall_at_n\n");
    for o in outcomes {
        let arm = o.arm.name();
        let _ =
            writeln!(rows, "{},{arm},{},{},{},{}", o.seed, o.train_images, o.wrong_labels, o.test_images, o.accuracy);
        for (name, a) in o.found.iter().flat_map(|found| &found.measures) {
            let (Some(auroc), Some(precision), Some(recall)) = (a.auroc, a.average_precision, a.recall_at_n) else {
                continue;
            };
            let _ = writeln!(
                measures,
                "{},{name},{},{},{},{},{},{},{}",
                o.seed,
                a.images,
                a.positives.unwrap_or_default(),
                auroc.value,
                auroc.low,
                auroc.high,
                precision.value,
                recall.value
            );
        }
    }
    let folder = OutputFolder::create(out)?;
    folder.write("study.csv", rows.as_bytes())?;
    folder.write("measures.csv", measures.as_bytes())?;
    folder.write("summary.json", (serde_json::to_string_pretty(summary).unwrap_or_default() + "\n").as_bytes())?;
    folder.commit()?;
    Ok(())
}
