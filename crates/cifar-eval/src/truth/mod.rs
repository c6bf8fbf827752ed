//! How well measures of hardness agree with what a person knows: any CSV with an `id` and a column of 0/1 or numbers.
//!
//! This and [`crate::study`] compare scores with a truth; no score is made here.

mod agreement;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::Progress;
use cifar_data::output::OutputFolder;
use serde::{Deserialize, Serialize};

use crate::evaluate::quoted;
use crate::measures::{Harder, MEASURES};
use crate::{EvalError, Result};

pub use agreement::{Agreement, Estimate, Kind, RESAMPLES};

/// Names of the parts that measures are judged on.
const SPLITS: [&str; 4] = ["all", "train", "val", "test"];
/// File name of the table.
pub const AGREEMENT: &str = "measures.csv";

/// How one measure agrees with the truth, on one split or on all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// `all`, or the split.
    pub split: String,
    /// The column of `hard_images.csv`.
    pub measure: String,
    /// Where the images came from, as the table of the analysis says; empty if it does not.
    pub source: String,
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
    monitor: &dyn Progress,
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
    // Of the whole column: a split that happens to hold 0 and 1 alone is no other kind of truth.
    let kind = Kind::of(truth_of.iter().map(|(_, value)| *value));
    let mut judged = Vec::new();
    for split in SPLITS {
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
            if let Some(agreement) = Agreement::of(&known, kind, seed) {
                judged.push(Judged {
                    split: split.into(),
                    measure: (*name).into(),
                    source: images[0].source.clone(),
                    agreement,
                });
            }
        }
    }
    let folder = OutputFolder::create(out)?;
    folder.write(AGREEMENT, to_csv(&judged).as_bytes())?;
    folder.commit()?;
    Ok(judged)
}

/// A table for people, ordered by the figure that it prints first: AUROC where the truth is 0 and 1, Spearman's ρ where it is a
/// number. What agrees best comes first.
pub fn in_words(judged: &[Judged]) -> String {
    let is_binary = judged.iter().any(|row| row.agreement.auroc.is_some());
    let (key, second) = if is_binary { ("AUROC", "average precision") } else { ("Spearman's ρ", "") };
    let mut text = format!("{:<6} {:<20} {:<27} {second:<27} n", "split", "measure", format!("{key} (95 % interval)"));
    for split in SPLITS {
        let mut rows: Vec<&Judged> = judged.iter().filter(|row| row.split == split).collect();
        rows.sort_by(|a, b| {
            let by = |row: &Judged| row.agreement.key().value;
            by(b).total_cmp(&by(a)).then_with(|| a.measure.cmp(&b.measure))
        });
        for Judged { measure, agreement, .. } in rows {
            let second = agreement.average_precision.as_ref().map(shown).unwrap_or_default();
            let first = shown(agreement.key());
            let _ = write!(text, "\n{split:<6} {measure:<20} {first:<27} {second:<27} {}", agreement.images);
        }
    }
    let _ = write!(text, "\nintervals: {RESAMPLES} bootstrap resamples of the images");
    if let Some(first) = judged.first().filter(|first| !first.source.is_empty()) {
        let _ = write!(text, "\n({})", first.source);
    }
    text
}

fn shown(estimate: &Estimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{:.4} ({low:.4} to {high:.4})", estimate.value),
        _ => format!("{:.4} (no interval)", estimate.value),
    }
}

fn to_csv(judged: &[Judged]) -> String {
    let figures = ["auroc", "average_precision", "precision_at_100", "recall_at_n", "spearman"];
    let columns: Vec<String> = figures.iter().map(|f| format!("{f},{f}_low,{f}_high")).collect();
    let mut text = format!("split,measure,images,positives,{},source\n", columns.join(","));
    let optional = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
    for Judged { split, measure, source, agreement: a } in judged {
        let positives = a.positives.map(|n| n.to_string()).unwrap_or_default();
        let spearman = Some(a.spearman);
        let figures =
            [&a.auroc, &a.average_precision, &a.precision_at_100, &a.recall_at_n, &spearman].map(|e| match e {
                Some(Estimate { value, low, high }) => format!("{value},{},{}", optional(*low), optional(*high)),
                None => ",,".into(),
            });
        let _ = writeln!(text, "{split},{measure},{},{positives},{},{}", a.images, figures.join(","), quoted(source));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of an analysis: `score` is every measure of each image; ids 0 to 39 are train, 40 to 59 test.
    fn table(folder: &Path, score: impl Fn(u32) -> String) -> std::path::PathBuf {
        let names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
        let mut text = format!("id,split,{},source\n", names.join(","));
        for id in 0..60 {
            let values = vec![score(id); names.len()].join(",");
            let _ = writeln!(text, "{id},{},{values},\"SYNTHETIC, 60 images\"", if id < 40 { "train" } else { "test" });
        }
        let path = folder.join("hard_images.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn judged(score: impl Fn(u32) -> String, truth: impl Fn(u32) -> String) -> Result<(Vec<Judged>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<String> = (0..60).map(|id| format!("{id},{}\n", truth(id))).collect();
        let rows = rows.concat();
        std::fs::write(folder.path().join("truth.csv"), format!("id,truth\n{rows}")).unwrap();
        let images = table(folder.path(), score);
        let out = folder.path().join("out");
        let judged = judge(&images, &folder.path().join("truth.csv"), None, 1, &out, &cifar_data::Silent)?;
        Ok((judged, std::fs::read_to_string(out.join(AGREEMENT)).unwrap()))
    }

    /// The figures that are printed first, with the split of each.
    fn printed(judged: &[Judged]) -> Vec<(String, f64)> {
        let text = in_words(judged);
        let lines =
            text.lines().filter(|line| SPLITS.iter().any(|split| line.starts_with(split)) && !line.contains("measure"));
        let fields = lines.map(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>());
        fields.map(|fields| (fields[0].clone(), fields[2].parse().unwrap())).collect()
    }

    #[test]
    fn what_is_printed_first_is_what_orders_the_table() {
        // Numbers: between 0 and 1 on test images alone.
        let (numbers, csv) =
            judged(|id| (id * 7 % 31).to_string(), |id| if id < 40 { id * 7 % 31 } else { id % 2 }.to_string())
                .unwrap();
        let text = in_words(&numbers);
        assert!(text.starts_with("split  measure              Spearman's ρ (95 % interval)"), "{text}");
        assert!(
            text.ends_with("\nintervals: 1000 bootstrap resamples of the images\n(SYNTHETIC, 60 images)"),
            "{text}"
        );
        assert!(numbers.iter().all(|row| row.agreement.auroc.is_none()), "a part of the column is no other kind");
        assert_eq!(csv.lines().filter(|line| line.ends_with(",\"SYNTHETIC, 60 images\"")).count(), numbers.len());
        let (binary, _) =
            judged(|id| (id * 7 % 31).to_string(), |id| u32::from(id * 7 % 31 > 12 + id % 9).to_string()).unwrap();
        assert!(in_words(&binary).starts_with("split  measure              AUROC (95 % interval)"));
        for judged in [numbers, binary] {
            let shown = printed(&judged);
            assert_eq!(shown.len(), judged.len());
            // Measures point both ways, so that the order is one of something.
            assert!(shown[0].1 > shown[MEASURES.len() - 1].1, "{shown:?}");
            assert!(shown.is_sorted_by(|a, b| a.0 != b.0 || a.1 >= b.1), "{shown:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let refused =
            |score: &str| judged(|id| if id == 3 { score.into() } else { id.to_string() }, |id| id.to_string());
        for score in ["NaN", "inf", "-inf", "x"] {
            let message = refused(score).unwrap_err().to_string();
            let expected =
                if score == "x" { "\"x\" is not a number".into() } else { format!("{score} is not a finite number") };
            assert!(message.ends_with(&format!("line 5: p_label {expected}")), "{message}");
        }
        assert!(refused("").is_ok(), "a measure may not apply");
        let folder = tempfile::tempdir().unwrap();
        let path = table(folder.path(), |id| id.to_string());
        let text = std::fs::read_to_string(&path).unwrap();
        let check = |from: &str, to: &str, expected: &str| {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let message = table::read_images(&path).map(|_| ()).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        };
        check("\n7,train", "\n6,train", "line 9: id 6 appears twice");
        check("\n7,train", "\n7,trian", "line 9: split \"trian\" is not train, val or test");
    }
}
