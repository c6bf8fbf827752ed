//! Writes the files about all runs: `runs.csv`, `comparisons.csv`, `classes.csv`,
//! `missed_by_all.csv`, `summary.json`, `report.md`, `report.html`.
//!
//! Equal runs produce identical files: none contains a time or a host name.

use std::collections::BTreeSet;
use std::path::Path;

use cifar_data::output::{write_file, write_json};
use cifar_data::spreadsheet::csv;
use serde_json::Value;

use super::{GridSummary, Runs, markdown, missed_by_all, page};
use cifar_eval::Result;
use cifar_eval::statistics::contrast::Estimate;

/// File name of the figures.
pub const SUMMARY: &str = "summary.json";

/// File name of the page.
pub const REPORT: &str = "report.html";

/// Writes all files into `folder`, each of them atomically.
pub fn write(runs: &Runs, summary: &GridSummary, folder: &Path) -> Result<()> {
    let files = [
        ("runs.csv", runs_csv(runs)),
        ("comparisons.csv", comparisons_csv(summary)),
        ("classes.csv", classes_csv(summary)),
        ("missed_by_all.csv", missed_csv(runs)),
        ("report.md", markdown(summary).into_bytes()),
        (REPORT, page(runs, summary).into_bytes()),
    ];
    for (name, bytes) in files {
        write_file(&folder.join(name), &bytes)?;
    }
    Ok(write_json(&folder.join(SUMMARY), summary)?)
}

/// Returns one row per run; the middle columns are the keys of the grid.
fn runs_csv(runs: &Runs) -> Vec<u8> {
    let keys: BTreeSet<&str> = runs.runs.iter().flat_map(|r| r.record.setting.keys()).map(String::as_str).collect();
    // Intervals of one run are for other images, not other seeds.
    let fixed = [
        "train_images",
        "epochs",
        "steps",
        "test_images",
        "test_accuracy",
        "test_accuracy_low",
        "test_accuracy_high",
        "test_cross_entropy",
        "pool_images",
        "pool_accuracy",
        "pool_accuracy_low",
        "pool_accuracy_high",
        "pool_cross_entropy",
    ];
    let header: Vec<&str> = ["name", "combination"].into_iter().chain(keys.iter().copied()).chain(fixed).collect();
    let rows = runs.runs.iter().map(|run| {
        let value = |key: &&str| match run.record.setting.get(*key) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let names = [run.record.name.clone(), run.record.combination.clone()];
        let epochs = run.epochs().map(|n| n.to_string()).unwrap_or_default();
        let training = [run.train_images.to_string(), epochs, run.steps.to_string()];
        let scores = [&run.test, &run.pool].into_iter().flat_map(|set| {
            let shares = [set.accuracy, set.accuracy_low, set.accuracy_high, set.cross_entropy];
            [set.images.to_string()].into_iter().chain(shares.map(|x| x.to_string()))
        });
        names.into_iter().chain(keys.iter().map(value)).chain(training).chain(scores).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

/// Returns one row per comparison, and one per seed that both combinations have. Rows of a seed are
/// `McNemar`'s test of two runs: they have `only_first` and `only_second` and no interval. `about`
/// says whether an interval is for training (other seeds and images) or for these runs (other
/// images).
fn comparisons_csv(summary: &GridSummary) -> Vec<u8> {
    let header = [
        "first",
        "second",
        "images",
        "seed",
        "about",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "se_images",
        "se_seeds",
        "degrees",
        "only_first",
        "only_second",
    ];
    let images = summary.pool_images;
    let rows = summary.comparisons.iter().flat_map(|c| {
        let names = || vec![c.first.clone(), c.second.clone(), images.to_string()];
        let about = if c.difference.covers_seeds() { "training" } else { "these runs" };
        let figures = estimate(Some(&c.difference), Some(c.p_holm));
        let empty = [String::new(), String::new()];
        let all = names().into_iter().chain(["all".into(), about.into()]).chain(figures).chain(empty);
        let seeds = c.by_seed.iter().map(move |s| {
            let difference = (s.table.only_first as f64 - s.table.only_second as f64) / images as f64;
            let mut figures = estimate(None, None);
            figures[0] = difference.to_string();
            figures[3] = s.table.p.to_string();
            let counts = [s.table.only_first.to_string(), s.table.only_second.to_string()];
            let seed = [s.seed.to_string(), "these runs".into()];
            names().into_iter().chain(seed).chain(figures).chain(counts).collect::<Vec<_>>()
        });
        [all.collect::<Vec<_>>()].into_iter().chain(seeds).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

/// Returns value, low, high, p, corrected p, both standard errors and degrees of freedom; empty
/// where there is none.
fn estimate(found: Option<&Estimate>, corrected: Option<f64>) -> [String; 8] {
    let of = |figure: fn(&Estimate) -> f64| found.map(figure);
    let figures = [of(|e| e.value), of(|e| e.low), of(|e| e.high), of(|e| e.p), corrected];
    let errors = [of(|e| e.se_images), found.and_then(|e| e.se_seeds), of(|e| e.degrees)];
    let mut cells = figures.into_iter().chain(errors).map(|x| x.map(|x| x.to_string()).unwrap_or_default());
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

fn classes_csv(summary: &GridSummary) -> Vec<u8> {
    let header = [
        "class",
        "images",
        "recall",
        "low",
        "high",
        "less_mean_of_others",
        "difference_low",
        "difference_high",
        "p",
        "p_holm",
        "difference_se_images",
        "difference_se_seeds",
        "difference_degrees",
    ];
    let rows = summary.classes.iter().map(|c| {
        let recall = [c.recall.value, c.recall.low, c.recall.high].map(|x| x.to_string());
        let difference = estimate(c.difference.as_ref(), c.p_holm);
        [c.name.clone(), c.images.to_string()].into_iter().chain(recall).chain(difference).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

fn missed_csv(runs: &Runs) -> Vec<u8> {
    let rows =
        missed_by_all(runs).into_iter().map(|m| vec![m.id.to_string(), m.file, m.label, m.said, m.share.to_string()]);
    csv(&["id", "file", "label", "said_by_most", "share_of_runs"], rows)
}
