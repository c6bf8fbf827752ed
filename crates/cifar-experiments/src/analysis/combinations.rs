//! The runs of each combination, and the figures over its seeds.

use serde::{Deserialize, Serialize};

use super::{Runs, ScoredRun};
use cifar_eval::interval::Interval;
use cifar_eval::statistics::Spread;
use cifar_eval::statistics::agreement::RunAgreement;

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
    /// Number of its own test images.
    pub test_images: usize,
    /// Accuracy on its own test images; the interval in it is for the choice of seeds, on these
    /// images.
    pub test: Spread,
    /// 95 % interval of the mean accuracy on its own test images for other seeds and images; of one
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

/// For each run of a combination, whether it classifies each image of the pool correctly.
pub(super) type Answers = Vec<Vec<bool>>;

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

/// Returns the figures of one combination; none if it has no runs.
pub(super) fn combination(name: &str, group: &[&ScoredRun], runs: &Runs) -> Option<Combination> {
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
