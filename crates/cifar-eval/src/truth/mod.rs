//! How well measures of hardness agree with what a person knows: any CSV with an `id` and a column of 0/1 or numbers.
//!
//! This and [`crate::study`] compare scores with a truth; no score is made here.

mod agreement;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::Monitor;
use cifar_data::output::OutputFolder;
use serde::{Deserialize, Serialize};

use crate::measures::{Harder, MEASURES};
use crate::{EvalError, Result};

pub use agreement::{Agreement, Estimate};

/// File name of the table.
pub const AGREEMENT: &str = "measures.csv";

/// How one measure agrees with the truth, on one split or on all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// `all`, or the split.
    pub split: String,
    /// The column of `hard_images.csv`.
    pub measure: String,
    /// The figures.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// Compares every measure of `hard_images`, the table of an analysis, with the column `column` of `truth`, or with the only one
/// beside `id`, `content` and `file`, and writes `out`. Images that the truth does not name are left out, and for each measure
/// those without it.
///
/// # Errors
/// If a file cannot be read or written, has no such column, an id that is not a number, unknown or there twice, a content that its
/// image does not have, a value that is not a number, or if all values are the same.
pub fn judge(
    hard_images: &Path,
    truth: &Path,
    column: Option<&str>,
    seed: u64,
    out: &Path,
    monitor: &dyn Monitor,
) -> Result<Vec<Judged>> {
    let images = table::read_images(hard_images)?;
    let truth_of = table::read_truth(truth, column, &images, monitor)?;
    let wrong = |problem: String| EvalError::Malformed { path: truth.to_path_buf(), problem };
    let (first, last) = truth_of
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
    if truth_of.is_empty() || agreement::is(first, last) {
        return Err(wrong(match truth_of.first() {
            Some((_, value)) => {
                format!("says {value} of every image; it takes two different values to tell images apart")
            }
            None => "names no image".into(),
        }));
    }
    let mut judged = Vec::new();
    for split in ["all", "train", "val", "test"] {
        let of_split: Vec<(usize, f64)> =
            truth_of.iter().copied().filter(|(at, _)| split == "all" || images[*at].split == split).collect();
        for (which, (name, harder)) in MEASURES.iter().enumerate() {
            let known: Vec<(f64, f64)> = of_split
                .iter()
                .filter_map(|(at, truth)| {
                    let value = images[*at].values[which]?;
                    Some((if *harder == Harder::Lower { -value } else { value }, *truth))
                })
                .collect();
            if let Some(agreement) = Agreement::of(&known, seed) {
                judged.push(Judged { split: split.into(), measure: (*name).into(), agreement });
            }
        }
    }
    let folder = OutputFolder::create(out)?;
    folder.write(AGREEMENT, to_csv(&judged).as_bytes())?;
    folder.commit()?;
    Ok(judged)
}

/// A table for people: what agrees best comes first.
pub fn in_words(judged: &[Judged]) -> String {
    let mut text = String::from("split  measure              AUROC (95 % interval)   average precision       n");
    for split in ["all", "train", "val", "test"] {
        let mut rows: Vec<&Judged> = judged.iter().filter(|row| row.split == split).collect();
        let key = |row: &Judged| row.agreement.auroc.as_ref().unwrap_or(&row.agreement.spearman).value;
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
        for row in rows {
            let shown = |estimate: &Option<Estimate>| match estimate {
                Some(e) => format!("{:.4} ({:.4}–{:.4})", e.value, e.low, e.high),
                None => "–".into(),
            };
            let (a, name) = (&row.agreement, &row.measure);
            let _ = write!(
                text,
                "\n{split:<6} {name:<20} {:<23} {:<23} {}",
                shown(&a.auroc),
                shown(&a.average_precision),
                a.images
            );
        }
    }
    text
}

fn to_csv(judged: &[Judged]) -> String {
    let figures = ["auroc", "average_precision", "precision_at_100", "recall_at_n", "spearman"];
    let columns: Vec<String> = figures.iter().map(|f| format!("{f},{f}_low,{f}_high")).collect();
    let mut text = format!("split,measure,images,positives,{}\n", columns.join(","));
    for Judged { split, measure, agreement: a } in judged {
        let positives = a.positives.map(|n| n.to_string()).unwrap_or_default();
        let spearman = Some(a.spearman);
        let figures =
            [&a.auroc, &a.average_precision, &a.precision_at_100, &a.recall_at_n, &spearman].map(|e| match e {
                Some(Estimate { value, low, high }) => format!("{value},{low},{high}"),
                None => ",,".into(),
            });
        let _ = writeln!(text, "{split},{measure},{},{positives},{}", a.images, figures.join(","));
    }
    text
}
