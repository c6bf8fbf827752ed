//! Compares the measures with known values of the images: labels that are known to be wrong, or how
//! hard people find an image.
//!
//! The truth is a CSV file with `id` and a column of 0/1 or numbers. This module and
//! [`crate::study`] only score measures; they compute none.

mod agreement;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use serde::{Deserialize, Serialize};

use crate::evaluate::quoted;
use crate::measures::MEASURES;
use crate::{EvalError, Result};

pub use agreement::{BootstrapEstimate, MeasureAgreement, RESAMPLES, TruthKind};

/// Names of the sets of images on which measures are compared.
const SPLITS: [&str; 4] = ["all", "train", "val", "test"];
/// File name of the table.
pub const AGREEMENT: &str = "measures.csv";

/// What to compare.
#[derive(Debug, Clone, Copy)]
pub struct TruthParams<'a> {
    /// The measures: `hard_images.csv` of an analysis, or the means of several such tables.
    pub hard_images: &'a Path,
    /// The truth: a CSV file with `id` and a column of 0/1 or numbers, and optionally `content` and
    /// `file`.
    pub truth: &'a Path,
    /// The column with the truth. If none, the only one besides `id`, `content` and `file`.
    pub column: Option<&'a str>,
    /// Seed of the bootstrap resamples.
    pub seed: u64,
    /// Folder to write [`AGREEMENT`] to. It is replaced.
    pub out: &'a Path,
}

/// The comparison of all measures with a truth.
#[derive(Debug, Clone, PartialEq)]
pub struct TruthComparison {
    /// One row per split and measure, in the order of the table.
    pub rows: Vec<ComparedMeasure>,
    /// Number of rows of the truth.
    pub truth_rows: usize,
    /// Number of those rows without `content`. If files were added or removed since they were
    /// written, their ids belong to other images.
    pub truth_rows_without_content: usize,
}

/// How one measure agrees with the truth on one split, or on all images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedMeasure {
    /// `all`, or the name of the split.
    pub split: String,
    /// The column of `hard_images.csv`.
    pub measure: String,
    /// Where the images come from, according to the table of the analysis; empty if it does not
    /// say.
    pub source: String,
    /// The agreement.
    #[serde(flatten)]
    pub agreement: MeasureAgreement,
}

/// Compares every measure with the truth, over all images and within each split, and writes the
/// table. Images that the truth does not list are ignored, and for each measure those to which it
/// does not apply.
///
/// ```
/// use cifar_eval::measures::MEASURES;
/// use cifar_eval::truth::{TruthParams, compare, in_words};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let hard_images = folder.path().join("hard_images.csv");
/// # let truth = folder.path().join("truth.csv");
/// // The table of an analysis, in which every measure of an image has the value of its id.
/// let columns: Vec<&str> = MEASURES.iter().map(|measure| measure.key).collect();
/// let mut table = format!("id,split,{}\n", columns.join(","));
/// for id in 0..4 {
///     table += &format!("{id},train,{}\n", vec![id.to_string(); columns.len()].join(","));
/// }
/// std::fs::write(&hard_images, table).unwrap();
/// std::fs::write(&truth, "id,is_wrong\n0,0\n1,0\n2,1\n3,1\n").unwrap();
///
/// let out = folder.path().join("out");
/// let params = TruthParams {
///     hard_images: &hard_images,
///     truth: &truth,
///     column: None,
///     seed: 1,
///     out: &out,
/// };
/// let found = compare(&params)?;
/// let loss = found.rows.iter().find(|row| row.measure == "loss").unwrap();
/// assert_eq!(loss.agreement.auroc.unwrap().value, 1.0);
/// assert!(in_words(&found.rows).contains("AUROC"));
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If a file cannot be read or written, a column is missing, an id is unknown or appears twice, a
/// row is about another image than the one with its id, a value is not a finite number, or all
/// values of the truth are the same.
pub fn compare(params: &TruthParams) -> Result<TruthComparison> {
    let images = table::read_images(params.hard_images)?;
    let truth = table::read_truth(params.truth, params.column, &images)?;
    let wrong = |problem: String| EvalError::Malformed { path: params.truth.to_path_buf(), problem };
    let (lowest, highest) = truth
        .values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
    if truth.values.is_empty() || agreement::is_equal(lowest, highest) {
        return Err(wrong(match truth.values.first() {
            Some((_, value)) => {
                format!("has the value {value} for every image; at least two different values are needed")
            }
            None => "lists no image".into(),
        }));
    }
    // The kind of the whole column: a split of it may contain only 0 and 1.
    let kind = TruthKind::of(truth.values.iter().map(|(_, value)| *value));
    let mut rows = Vec::new();
    for split in SPLITS {
        let of_split: Vec<(usize, f64)> =
            truth.values.iter().copied().filter(|(at, _)| split == "all" || images[*at].split == split).collect();
        for (which, measure) in MEASURES.iter().enumerate() {
            let pairs: Vec<(f64, f64)> = of_split
                .iter()
                .filter_map(|(at, truth)| {
                    Some((measure.direction.higher_is_harder(images[*at].values[which]?), *truth))
                })
                .collect();
            if let Some(agreement) = MeasureAgreement::of(&pairs, kind, params.seed) {
                rows.push(ComparedMeasure {
                    split: split.into(),
                    measure: measure.key.into(),
                    source: images[0].source.clone(),
                    agreement,
                });
            }
        }
    }
    let folder = OutputFolder::create(params.out)?;
    folder.write(AGREEMENT, to_csv(&rows).as_bytes())?;
    folder.commit()?;
    Ok(TruthComparison { rows, truth_rows: truth.rows, truth_rows_without_content: truth.rows_without_content })
}

/// Returns a table for people. The best agreement comes first: by AUROC, or by Spearman's ρ if the
/// truth is a number.
pub fn in_words(rows: &[ComparedMeasure]) -> String {
    let is_binary = rows.iter().any(|row| row.agreement.auroc.is_some());
    let (primary, second) = if is_binary { ("AUROC", "average precision") } else { ("Spearman's ρ", "") };
    let mut text =
        format!("{:<6} {:<20} {:<27} {second:<27} n", "split", "measure", format!("{primary} (95 % interval)"));
    for split in SPLITS {
        let mut of_split: Vec<&ComparedMeasure> = rows.iter().filter(|row| row.split == split).collect();
        of_split.sort_by(|a, b| {
            let by = |row: &ComparedMeasure| row.agreement.primary().value;
            by(b).total_cmp(&by(a)).then_with(|| a.measure.cmp(&b.measure))
        });
        for ComparedMeasure { measure, agreement, .. } in of_split {
            let second = agreement.average_precision.as_ref().map(shown).unwrap_or_default();
            let first = shown(agreement.primary());
            let _ = write!(text, "\n{split:<6} {measure:<20} {first:<27} {second:<27} {}", agreement.images);
        }
    }
    let _ = write!(text, "\nintervals: {RESAMPLES} bootstrap resamples of the images");
    if let Some(first) = rows.first().filter(|first| !first.source.is_empty()) {
        let _ = write!(text, "\n({})", first.source);
    }
    text
}

fn shown(estimate: &BootstrapEstimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{:.4} ({low:.4} to {high:.4})", estimate.value),
        _ => format!("{:.4} (no interval)", estimate.value),
    }
}

fn to_csv(rows: &[ComparedMeasure]) -> String {
    let figures = ["auroc", "average_precision", "precision_at_100", "recall_at_n", "spearman"];
    let columns: Vec<String> = figures.iter().map(|f| format!("{f},{f}_low,{f}_high")).collect();
    let mut text = format!("split,measure,images,positives,{},source\n", columns.join(","));
    let optional = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
    for ComparedMeasure { split, measure, source, agreement: a } in rows {
        let positives = a.positives.map(|n| n.to_string()).unwrap_or_default();
        let spearman = Some(a.spearman);
        let figures =
            [&a.auroc, &a.average_precision, &a.precision_at_100, &a.recall_at_n, &spearman].map(|e| match e {
                Some(BootstrapEstimate { value, low, high }) => {
                    format!("{value},{},{}", optional(*low), optional(*high))
                }
                None => ",,".into(),
            });
        let _ = writeln!(text, "{split},{measure},{},{positives},{},{}", a.images, figures.join(","), quoted(source));
    }
    text
}

#[cfg(test)]
mod tests {
    use cifar_data::{Content, DataError, Stage};

    use super::*;

    /// Writes the table of an analysis. All measures of an image have the value `score(id)`. Ids 0
    /// to 39 are train, 40 to 59 test.
    fn table(folder: &Path, score: impl Fn(u32) -> String) -> std::path::PathBuf {
        let names: Vec<&str> = MEASURES.iter().map(|measure| measure.key).collect();
        let mut text = format!("id,split,{},source\n", names.join(","));
        for id in 0..60 {
            let values = vec![score(id); names.len()].join(",");
            let _ = writeln!(text, "{id},{},{values},\"SYNTHETIC, 60 images\"", if id < 40 { "train" } else { "test" });
        }
        let path = folder.join("hard_images.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Compares the table with `truth(id)`. Returns the rows and the file.
    fn compared(
        score: impl Fn(u32) -> String,
        truth: impl Fn(u32) -> String,
    ) -> Result<(Vec<ComparedMeasure>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<String> = (0..60).map(|id| format!("{id},{}\n", truth(id))).collect();
        let path = folder.path().join("truth.csv");
        std::fs::write(&path, format!("id,truth\n{}", rows.concat())).unwrap();
        let images = table(folder.path(), score);
        let out = folder.path().join("out");
        let params = TruthParams { hard_images: &images, truth: &path, column: None, seed: 1, out: &out };
        Ok((compare(&params)?.rows, std::fs::read_to_string(out.join(AGREEMENT)).unwrap()))
    }

    /// Returns the value that is printed first in each row, with its split.
    fn printed(rows: &[ComparedMeasure]) -> Vec<(String, f64)> {
        let text = in_words(rows);
        let lines =
            text.lines().filter(|line| SPLITS.iter().any(|split| line.starts_with(split)) && !line.contains("measure"));
        let fields = lines.map(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>());
        fields.map(|fields| (fields[0].clone(), fields[2].parse().unwrap())).collect()
    }

    #[test]
    fn the_table_is_sorted_by_the_value_that_it_prints_first() {
        // The truth column is numeric, but 0 or 1 on all test images.
        let (numbers, csv) =
            compared(|id| (id * 7 % 31).to_string(), |id| if id < 40 { id * 7 % 31 } else { id % 2 }.to_string())
                .unwrap();
        let text = in_words(&numbers);
        assert!(text.starts_with("split  measure              Spearman's ρ (95 % interval)"), "{text}");
        assert!(
            text.ends_with("\nintervals: 1000 bootstrap resamples of the images\n(SYNTHETIC, 60 images)"),
            "{text}"
        );
        assert!(numbers.iter().all(|row| row.agreement.auroc.is_none()), "all splits have the kind of the column");
        assert_eq!(csv.lines().filter(|line| line.ends_with(",\"SYNTHETIC, 60 images\"")).count(), numbers.len());
        let (binary, _) =
            compared(|id| (id * 7 % 31).to_string(), |id| u32::from(id * 7 % 31 > 12 + id % 9).to_string()).unwrap();
        assert!(in_words(&binary).starts_with("split  measure              AUROC (95 % interval)"));
        for rows in [numbers, binary] {
            let shown = printed(&rows);
            assert_eq!(shown.len(), rows.len());
            // Measures have both directions, so the order is not that of equal values.
            assert!(shown[0].1 > shown[MEASURES.len() - 1].1, "{shown:?}");
            assert!(shown.is_sorted_by(|a, b| a.0 != b.0 || a.1 >= b.1), "{shown:?}");
        }
    }

    #[test]
    fn wrong_cells_of_the_analysis_are_refused() {
        let refused =
            |score: &str| compared(|id| if id == 3 { score.into() } else { id.to_string() }, |id| id.to_string());
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

    /// Compares the analysis of two images, with contents, with the truth `text`.
    fn of_two_images(text: &str, column: Option<&str>) -> Result<TruthComparison> {
        let folder = tempfile::tempdir().unwrap();
        let (images, truth) = (folder.path().join("hard_images.csv"), folder.path().join("truth.csv"));
        let names: Vec<&str> = MEASURES.iter().map(|measure| measure.key).collect();
        let mut table = format!("id,content,file,split,{}\n", names.join(","));
        for id in 0..2 {
            let values = vec![id.to_string(); names.len()].join(",");
            let _ = writeln!(table, "{id},{},cat/{id}.png,train,{values}", content(id));
        }
        std::fs::write(&images, table).unwrap();
        std::fs::write(&truth, text).unwrap();
        let out = folder.path().join("out");
        compare(&TruthParams { hard_images: &images, truth: &truth, column, seed: 1, out: &out })
    }

    fn content(id: u8) -> Content {
        Content::of(&[id; 12])
    }

    #[test]
    fn rows_are_matched_by_id_and_content() {
        let text = format!("id,content,wrong\n0,{},0\n1,{},1\n", content(0), content(1));
        let found = of_two_images(&text, None).unwrap();
        assert_eq!((found.truth_rows, found.truth_rows_without_content), (2, 0));
        let found = of_two_images(&format!("id,content,wrong\n0,,0\n1,{},1\n", content(1)), None).unwrap();
        assert_eq!((found.truth_rows, found.truth_rows_without_content), (2, 1));

        let text = format!("id,content,wrong\n0,{},0\n1,{},1\n", content(0), content(2));
        let error = of_two_images(&text, None).unwrap_err();
        let expected = format!(
            "line 3: image 1 of the analysis is {} (cat/1.png), but this row is about image {}",
            content(1),
            content(2)
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert!(matches!(error, EvalError::Data(DataError::Misplaced { line: 3, .. })), "{error:?}");
    }

    #[test]
    fn a_truth_that_cannot_be_used_is_refused() {
        let refused = |text: &str, column: Option<&str>| of_two_images(text, column).unwrap_err().to_string();
        let check = |text: &str, column: Option<&str>, expected: &str| {
            let message = refused(text, column);
            assert!(message.ends_with(expected), "{message}");
        };
        let constant = "has the value 1 for every image; at least two different values are needed";
        check("id,wrong\n0,1\n1,1\n", None, constant);
        check("id,wrong\n", None, "truth.csv: lists no image");
        check("id,a,b\n0,1,0\n", None, "truth.csv: has the columns id, a, b; expected one column besides `id`");
        check("id,a\n0,1\n", Some("b"), "truth.csv: has the columns id, a; expected a column `b`");
        check("number,a\n0,1\n", None, "truth.csv: has no column `id`, only number, a");
        check("id,a\n7,1\n", None, "line 2: there is no image 7 in the analysis");
    }

    #[test]
    fn an_analysis_that_is_missing_or_old_names_the_stage_that_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hard_images.csv");
        let problem = |expected: &str| match table::read_images(&path).map(|_| ()).unwrap_err() {
            EvalError::Data(
                DataError::Missing { problem, made_by, .. } | DataError::Stale { problem, made_by, .. },
            ) => assert_eq!((problem.as_str(), made_by), (expected, Stage::HardImages.alone())),
            other => panic!("{other}"),
        };
        problem("there is no such file");
        table(folder.path(), |id| id.to_string());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("el2n", "el3n")).unwrap();
        problem("has no column `el2n`");
        // Tables of earlier versions have no outlier scores.
        std::fs::write(&path, text.replace("outlier_score", "other")).unwrap();
        let images = table::read_images(&path).map_err(|e| e.to_string()).unwrap();
        assert!(images.iter().all(|image| image.values[17].is_none() && image.values[16].is_some()));
    }
}
