//! The files over all runs: `runs.csv`, `comparisons.csv`, `classes.csv`, `missed_by_all.csv`, `summary.json`, `report.md`,
//! `report.html`.
//!
//! Equal runs give equal bytes: no file holds a time or a host.

use std::collections::BTreeSet;
use std::path::Path;

use cifar_data::output::write_file;
use cifar_data::spreadsheet::csv;
use serde_json::Value;

use super::{Runs, Summary, markdown, missed_by_all, page};
use crate::Result;

/// File name of the figures.
pub const SUMMARY: &str = "summary.json";

/// File name of the page.
pub const REPORT: &str = "report.html";

/// Writes all files into `folder`, each of them whole.
pub fn write(runs: &Runs, summary: &Summary, folder: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(summary).unwrap_or_default() + "\n";
    let files = [
        ("runs.csv", runs_csv(runs)),
        ("comparisons.csv", comparisons_csv(summary)),
        ("classes.csv", classes_csv(summary)),
        ("missed_by_all.csv", missed_csv(runs)),
        ("report.md", markdown(summary).into_bytes()),
        (REPORT, page(runs, summary).into_bytes()),
        (SUMMARY, json.into_bytes()),
    ];
    for (name, bytes) in files {
        write_file(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// One row a run; the columns in the middle are the keys of the grid.
fn runs_csv(runs: &Runs) -> Vec<u8> {
    let keys: BTreeSet<&str> = runs.runs.iter().flat_map(|r| r.record.setting.keys()).map(String::as_str).collect();
    let fixed = [
        "train_images",
        "test_images",
        "test_accuracy",
        "test_cross_entropy",
        "pool_images",
        "pool_accuracy",
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
        let figures = [
            run.train_images.to_string(),
            run.test.images.to_string(),
            run.test.accuracy.to_string(),
            run.test.cross_entropy.to_string(),
            run.pool.images.to_string(),
            run.pool.accuracy.to_string(),
            run.pool.cross_entropy.to_string(),
        ];
        names.into_iter().chain(keys.iter().map(value)).chain(figures).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

/// One row a comparison, and one a seed of it: rows of a seed have `only_first` and `only_second`, the others an interval.
fn comparisons_csv(summary: &Summary) -> Vec<u8> {
    let header =
        ["first", "second", "images", "seed", "difference", "low", "high", "p", "p_holm", "only_first", "only_second"];
    let images = summary.pool_images;
    let rows = summary.comparisons.iter().flat_map(|c| {
        let d = &c.difference;
        let names = || vec![c.first.clone(), c.second.clone(), images.to_string()];
        let figures = [d.value, d.low, d.high, d.p, c.p_holm].map(|x| x.to_string());
        let all = names().into_iter().chain(["all".into()]).chain(figures).chain([String::new(), String::new()]);
        let seeds = c.by_seed.iter().map(move |s| {
            let difference = (s.table.only_first as f64 - s.table.only_second as f64) / images as f64;
            let figures = [s.seed.to_string(), difference.to_string(), String::new(), String::new()];
            let last = [s.table.p.to_string(), String::new()];
            let counts = [s.table.only_first.to_string(), s.table.only_second.to_string()];
            names().into_iter().chain(figures).chain(last).chain(counts).collect::<Vec<_>>()
        });
        [all.collect::<Vec<_>>()].into_iter().chain(seeds).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

fn classes_csv(summary: &Summary) -> Vec<u8> {
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
    ];
    let rows = summary.classes.iter().map(|c| {
        let d = &c.difference;
        let figures = c.recall.into_iter().chain([d.value, d.low, d.high, d.p, c.p_holm]).map(|x| x.to_string());
        [c.name.clone(), c.images.to_string()].into_iter().chain(figures).collect::<Vec<_>>()
    });
    csv(&header, rows)
}

fn missed_csv(runs: &Runs) -> Vec<u8> {
    let rows =
        missed_by_all(runs).into_iter().map(|m| vec![m.id.to_string(), m.file, m.label, m.said, m.share.to_string()]);
    csv(&["id", "file", "label", "said_by_most", "share_of_runs"], rows)
}
