//! Recall of classes over all runs: which are hard, with intervals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::combinations::Answers;
use super::{Runs, ScoredRun};
use cifar_eval::statistics::Spread;
use cifar_eval::statistics::association::holm;
use cifar_eval::statistics::bootstrap::{RESAMPLES, resampled_accuracies, resampled_seeds};
use cifar_eval::statistics::contrast::{Estimate, Group, Stratum, contrast};

/// First random key for the resamples of seeds, one per combination. Keys of a class's images start
/// at 0.
const RESAMPLE_SEEDS: u64 = 1 << 32;

/// One class, over all runs; every combination has the same weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Number of its images in the pool.
    pub images: usize,
    /// Fraction of them that runs classify correctly, with its interval; `p` has no meaning here.
    pub recall: Estimate,
    /// This fraction minus the mean fraction of the other classes; none if there is no other class.
    pub difference: Option<Estimate>,
    /// Its p-value, corrected for the number of classes (Holm).
    pub p_holm: Option<f64>,
    /// The fraction for each combination, over its runs.
    pub by_combination: BTreeMap<String, Spread>,
}

/// The two classes of which the fewest images are classified correctly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardestTwo {
    /// Their names, the hardest first.
    pub classes: [String; 2],
    /// Fraction of the resamples of images and seeds in which these two are the hardest, in either
    /// order.
    pub share: f64,
}

/// Returns classes, hardest first, and the two hardest; classes without an image in the pool are
/// left out.
pub(super) fn classes(
    runs: &Runs,
    groups: &[(&str, Vec<&ScoredRun>)],
    answers: &[Answers],
) -> (Vec<Class>, Option<HardestTwo>) {
    let of_class = |class: usize| -> Vec<usize> {
        (0..runs.pool.labels.len()).filter(|i| usize::from(runs.pool.labels[*i]) == class).collect()
    };
    let present: Vec<(usize, Vec<usize>)> = (0..runs.pool.classes.len())
        .map(|class| (class, of_class(class)))
        .filter(|(_, images)| !images.is_empty())
        .collect();
    let weight = 1.0 / groups.len() as f64;
    let all: Vec<Group> = answers.iter().map(|runs| Group::new(weight, runs)).collect();
    let stratum = |weight: f64, at: usize| Stratum { weight, images: present[at].1.clone() };
    let recalls: Vec<Estimate> = (0..present.len()).filter_map(|at| contrast(&all, &[stratum(1.0, at)])).collect();
    let against_others = |at: usize| {
        let other = -1.0 / (present.len() as f64 - 1.0);
        let strata: Vec<Stratum> = (0..present.len()).map(|k| stratum(if k == at { 1.0 } else { other }, k)).collect();
        contrast(&all, &strata)
    };
    let differences: Vec<Option<Estimate>> =
        (0..present.len()).map(|at| (present.len() > 1).then(|| against_others(at)).flatten()).collect();
    let corrected = holm(&differences.iter().map(|d| d.map_or(1.0, |d| d.p)).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..recalls.len()).collect();
    order.sort_by(|a, b| recalls[*a].value.total_cmp(&recalls[*b].value).then(a.cmp(b)));
    let list: Vec<Class> = order
        .iter()
        .map(|at| {
            let (class, images) = &present[*at];
            let recall = |run: &Vec<bool>| images.iter().filter(|i| run[**i]).count() as f64 / images.len() as f64;
            let spread = |((name, _), runs): (&(&str, Vec<&ScoredRun>), &Answers)| {
                Some(((*name).to_string(), Spread::of(&runs.iter().map(recall).collect::<Vec<_>>())?))
            };
            Class {
                name: runs.pool.classes[*class].clone(),
                images: images.len(),
                recall: recalls[*at],
                difference: differences[*at],
                p_holm: differences[*at].map(|_| corrected[*at]),
                by_combination: groups.iter().zip(answers).filter_map(spread).collect(),
            }
        })
        .collect();
    let hardest = (order.len() > 2).then(|| HardestTwo {
        classes: [list[0].name.clone(), list[1].name.clone()],
        share: share_of_hardest_two(&order, &present, answers),
    });
    (list, hardest)
}

/// Returns the fraction of the resamples in which the first two of `order` have the lowest recalls.
fn share_of_hardest_two(order: &[usize], present: &[(usize, Vec<usize>)], answers: &[Answers]) -> f64 {
    let flat: Vec<&[bool]> = answers.iter().flatten().map(Vec::as_slice).collect();
    // By index in `order` and run, one value per resample.
    let resampled: Vec<Vec<Vec<f64>>> =
        (order.iter()).map(|at| resampled_accuracies(&flat, &present[*at].1, present[*at].0 as u64)).collect();
    let same = (0..RESAMPLES).filter(|resample| {
        let mut recalls = vec![0.0; order.len()];
        let mut first = 0;
        for (key, runs) in (RESAMPLE_SEEDS..).zip(answers) {
            let drawn = resampled_seeds(runs.len(), key, *resample);
            for (recall, by_run) in recalls.iter_mut().zip(&resampled) {
                *recall += drawn.iter().map(|run| by_run[first + run][*resample]).sum::<f64>() / drawn.len() as f64;
            }
            first += runs.len();
        }
        let worse = recalls[0].max(recalls[1]);
        recalls[2..].iter().all(|recall| *recall > worse)
    });
    same.count() as f64 / RESAMPLES as f64
}
