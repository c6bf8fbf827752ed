//! `summary.json`: the figures over all runs of a grid.

use serde::{Deserialize, Serialize};

use super::classes::{Class, HardestTwo, classes};
use super::comparisons::{Comparison, comparisons};
use super::curve::{LearningCurve, learning_curves};
use super::{Runs, ScoredRun};
use cifar_eval::interval::Interval;
use cifar_eval::statistics::Spread;
use cifar_eval::statistics::agreement::RunAgreement;
use cifar_eval::statistics::bootstrap::RESAMPLES;

/// 2: comparisons and classes have standard errors of images and seeds; combinations have steps.
const SCHEMA: u32 = 2;

/// Figures over all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridSummary {
    /// Version of this file's layout.
    pub schema: u32,
    /// The source of the images.
    pub source: String,
    /// Number of shared test images (the evaluation pool), the same for all runs.
    pub pool_images: usize,
    /// Number of resamples of images and seeds used for `hardest_two`.
    pub resamples: usize,
    /// Names of the finished runs.
    pub runs: Vec<String>,
    /// Runs of the grid that are not finished.
    pub missing: Vec<String>,
    /// Identities of the programs that trained the runs; different programs alone can change
    /// figures.
    pub programs: usize,
    /// The figures of each combination, over its seeds.
    pub combinations: Vec<Combination>,
    /// Comparisons of every two combinations on the same images.
    pub comparisons: Vec<Comparison>,
    /// Error over the number of training images, one curve for each set of other parameters.
    pub learning_curves: Vec<LearningCurve>,
    /// Classes, hardest first.
    pub classes: Vec<Class>,
    /// The two hardest classes, and the fraction of resamples in which they are the hardest two;
    /// none for fewer than three classes.
    pub hardest_two: Option<HardestTwo>,
    /// Images of the pool that every run misclassified.
    pub missed_by_all: usize,
}

/// Runs that differ in the seed alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// Its name.
    pub name: String,
    /// Seeds of its runs.
    pub seeds: Vec<u64>,
    /// Number of training images.
    pub train_images: usize,
    /// Mean number of optimiser steps over its runs, which differ if training stops early.
    pub steps: f64,
    /// Number of images of its own test split.
    pub test_images: usize,
    /// Accuracy on its own test split; the interval in it is for the choice of seeds, on these
    /// images.
    pub test: Spread,
    /// 95 % interval of the mean accuracy on its own test split for other seeds and images; of one
    /// run, for other images.
    pub test_interval: Interval,
    /// Accuracy on the pool; the interval in it is for the choice of seeds, on these images.
    pub pool: Spread,
    /// 95 % interval of the mean accuracy on the pool for other seeds and images; of one run, for
    /// other images.
    pub pool_interval: Interval,
    /// How often its runs predict the same class for an image of the pool; none for one run.
    pub agreement: Option<RunAgreement>,
}

/// An image that every run misclassified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Missed {
    /// Its id.
    pub id: u32,
    /// Its file.
    pub file: String,
    /// Its label.
    pub label: String,
    /// The class that most runs predict; of ties, the first.
    pub said: String,
    /// Fraction of the runs that predict it.
    pub share: f64,
}

/// Returns the runs of each combination, in order of the grid.
pub(super) fn grouped(runs: &Runs) -> Vec<(&str, Vec<&ScoredRun>)> {
    let mut groups: Vec<(&str, Vec<&ScoredRun>)> = Vec::new();
    for run in &runs.runs {
        let name = run.record.combination.as_str();
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(run),
            None => groups.push((name, vec![run])),
        }
    }
    groups
}

/// Returns for each run of a combination whether it classifies each image of the pool correctly.
pub(super) type Answers = Vec<Vec<bool>>;

/// Returns all figures. `missing` names the runs of the grid that are not finished.
pub fn summarise(runs: &Runs, missing: Vec<String>) -> GridSummary {
    let groups = grouped(runs);
    let combinations: Vec<Combination> =
        groups.iter().filter_map(|(name, group)| combination(name, group, runs)).collect();
    let labels = &runs.pool.labels;
    let right = |run: &&ScoredRun| run.predicted.iter().zip(labels).map(|(said, label)| said == label).collect();
    let answers: Vec<Answers> = groups.iter().map(|(_, group)| group.iter().map(right).collect()).collect();
    let (classes, hardest_two) = classes(runs, &groups, &answers);
    let mut programs: Vec<&str> = runs.runs.iter().map(|r| r.record.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    GridSummary {
        schema: SCHEMA,
        source: runs.runs.first().map(|r| r.source.clone()).unwrap_or_default(),
        pool_images: runs.pool.ids.len(),
        resamples: RESAMPLES,
        runs: runs.runs.iter().map(|r| r.record.name.clone()).collect(),
        missing,
        programs: programs.len(),
        learning_curves: learning_curves(&groups, &answers, &combinations),
        comparisons: comparisons(&groups, &answers, labels),
        combinations,
        classes,
        hardest_two,
        missed_by_all: missed_by_all(runs).len(),
    }
}

fn combination(name: &str, group: &[&ScoredRun], runs: &Runs) -> Option<Combination> {
    let figures = |of: fn(&ScoredRun) -> f64| Spread::of(&group.iter().map(|r| of(r)).collect::<Vec<_>>());
    let predictions: Vec<&[u16]> = group.iter().map(|r| r.predicted.as_slice()).collect();
    let first = group.first()?;
    let (test, pool) = (figures(|r| r.test.accuracy)?, figures(|r| r.pool.accuracy)?);
    Some(Combination {
        name: name.into(),
        seeds: group.iter().map(|r| r.record.seed).collect(),
        train_images: first.train_images,
        steps: figures(|r| r.steps as f64)?.mean,
        test_images: first.test.images,
        test,
        test_interval: test.accuracy_interval(first.test.images),
        pool,
        pool_interval: pool.accuracy_interval(runs.pool.ids.len()),
        agreement: RunAgreement::of(&predictions, runs.pool.classes.len()),
    })
}

/// Returns the images of the pool that every run misclassified, in their order.
pub fn missed_by_all(runs: &Runs) -> Vec<Missed> {
    let pool = &runs.pool;
    let missed = (0..pool.ids.len()).filter(|i| runs.runs.iter().all(|run| run.predicted[*i] != pool.labels[*i]));
    missed
        .map(|i| {
            let mut counts = vec![0usize; pool.classes.len()];
            runs.runs.iter().for_each(|run| counts[usize::from(run.predicted[i])] += 1);
            let most = (1..counts.len()).fold(0, |best, k| if counts[k] > counts[best] { k } else { best });
            Missed {
                id: pool.ids[i],
                file: pool.files[i].clone(),
                label: pool.classes[usize::from(pool.labels[i])].clone(),
                said: pool.classes[most].clone(),
                share: counts[most] as f64 / runs.runs.len() as f64,
            }
        })
        .collect()
}
