//! `summary.json`: the figures over all runs of a grid, and what each may be used for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::curve::{LearningCurve, learning_curves};
use super::{Runs, ScoredRun};
use crate::statistics::Spread;
use crate::statistics::agreement::Agreement;
use crate::statistics::bootstrap::{Estimate, RESAMPLES, holm, resampled_means};
use crate::statistics::comparison::McNemar;

const SCHEMA: u32 = 1;
/// Key of the resamples of all images, and of those of one class; classes count up from the latter.
const RESAMPLE_POOL: u64 = 0;
const RESAMPLE_CLASS: u64 = 1;
/// Every pair of so many combinations is compared; of more, none.
pub const MOST_COMPARED: usize = 40;

/// Figures over all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this file's layout.
    pub schema: u32,
    /// Where the images came from.
    pub source: String,
    /// Images of the evaluation pool, the same for all runs.
    pub pool_images: usize,
    /// Resamples of images behind the intervals of comparisons and classes.
    pub resamples: usize,
    /// Names of the finished runs.
    pub runs: Vec<String>,
    /// Runs of the grid that are not finished.
    pub missing: Vec<String>,
    /// Programs that trained the runs: figures of several may differ for that alone.
    pub programs: usize,
    /// What runs that differ in the seed alone came to.
    pub combinations: Vec<Combination>,
    /// Every two combinations on the same images.
    pub comparisons: Vec<Comparison>,
    /// Error over the number of training images, one curve for each set of other parameters.
    pub learning_curves: Vec<LearningCurve>,
    /// Classes, hardest first.
    pub classes: Vec<Class>,
    /// The two hardest classes, and in what share of the resamples it is these two; none for fewer than three classes.
    pub hardest_two: Option<HardestTwo>,
    /// Images of the pool that no run got right.
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
    /// Images of its own test split.
    pub test_images: usize,
    /// Accuracy on its own test split.
    pub test: Spread,
    /// Accuracy on the pool.
    pub pool: Spread,
    /// Whether its runs say the same of an image of the pool; none for one run.
    pub agreement: Option<Agreement>,
}

/// Two combinations on the pool's images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first.
    pub first: String,
    /// The second.
    pub second: String,
    /// Mean accuracy of the first's runs less that of the second's, with its interval for the sampling of images.
    pub difference: Estimate,
    /// Its probability, corrected for the number of comparisons (Holm).
    pub p_holm: f64,
    /// Runs of the same seed, as description.
    pub by_seed: Vec<SeedComparison>,
}

/// Two runs of one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedComparison {
    /// The seed.
    pub seed: u64,
    /// Who was right where the other was not.
    #[serde(flatten)]
    pub table: McNemar,
}

/// One class, over all runs; every combination counts the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its images in the pool.
    pub images: usize,
    /// Share of them that runs got right, with its interval for the sampling of images; `p` is of no use here.
    pub recall: [f64; 3],
    /// The share less the mean share of the other classes.
    pub difference: Estimate,
    /// Its probability, corrected for the number of classes (Holm).
    pub p_holm: f64,
    /// The share for each combination, over its runs.
    pub by_combination: BTreeMap<String, Spread>,
}

/// The two classes of which the fewest images are got right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardestTwo {
    /// Their names, the hardest first.
    pub classes: [String; 2],
    /// Share of the resamples in which these two are the hardest, in either order.
    pub share: f64,
}

/// An image that no run got right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Missed {
    /// Its identity.
    pub id: u32,
    /// Its file.
    pub file: String,
    /// Its label.
    pub label: String,
    /// What most runs say; the first class among equals.
    pub said: String,
    /// Share of the runs that say it.
    pub share: f64,
}

/// The runs of one combination, in order of the grid.
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

/// All figures. `missing` names the runs of the grid that are not finished.
pub fn summarise(runs: &Runs, missing: Vec<String>) -> Summary {
    let groups = grouped(runs);
    let combinations: Vec<Combination> =
        groups.iter().filter_map(|(name, group)| combination(name, group, runs)).collect();
    let outcomes = outcomes(&groups, &runs.pool.labels);
    let (classes, hardest_two) = classes(runs, &groups, &outcomes);
    let mut programs: Vec<&str> = runs.runs.iter().map(|r| r.record.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    Summary {
        schema: SCHEMA,
        source: runs.runs.first().map(|r| r.source.clone()).unwrap_or_default(),
        pool_images: runs.pool.ids.len(),
        resamples: RESAMPLES,
        runs: runs.runs.iter().map(|r| r.record.name.clone()).collect(),
        missing,
        programs: programs.len(),
        learning_curves: learning_curves(&groups, &combinations),
        comparisons: comparisons(&groups, &outcomes, &runs.pool.labels),
        combinations,
        classes,
        hardest_two,
        missed_by_all: missed_by_all(runs).len(),
    }
}

fn combination(name: &str, group: &[&ScoredRun], runs: &Runs) -> Option<Combination> {
    let accuracies = |of: fn(&ScoredRun) -> f64| Spread::of(&group.iter().map(|r| of(r)).collect::<Vec<_>>());
    let predictions: Vec<&[u16]> = group.iter().map(|r| r.predicted.as_slice()).collect();
    let first = group.first()?;
    Some(Combination {
        name: name.into(),
        seeds: group.iter().map(|r| r.record.seed).collect(),
        train_images: first.train_images,
        test_images: first.test.images,
        test: accuracies(|r| r.test.accuracy)?,
        pool: accuracies(|r| r.pool.accuracy)?,
        agreement: Agreement::of(&predictions, runs.pool.classes.len()),
    })
}

/// One row an image, one column a combination: the share of its runs that got the image right.
fn outcomes(groups: &[(&str, Vec<&ScoredRun>)], labels: &[u16]) -> Vec<f64> {
    let right = |group: &[&ScoredRun], image: usize| {
        let count = group.iter().filter(|r| r.predicted[image] == labels[image]).count();
        count as f64 / group.len() as f64
    };
    (0..labels.len()).flat_map(|image| groups.iter().map(move |(_, group)| right(group, image))).collect()
}

fn comparisons(groups: &[(&str, Vec<&ScoredRun>)], outcomes: &[f64], labels: &[u16]) -> Vec<Comparison> {
    let columns = groups.len();
    if !(2..=MOST_COMPARED).contains(&columns) {
        return Vec::new();
    }
    let images = labels.len() as f64;
    let mean = |column: usize| outcomes.iter().skip(column).step_by(columns).sum::<f64>() / images;
    let resampled = resampled_means(outcomes, columns, RESAMPLE_POOL, RESAMPLES);
    let pairs: Vec<(usize, usize)> = (0..columns).flat_map(|a| (a + 1..columns).map(move |b| (a, b))).collect();
    let estimates: Vec<Estimate> = pairs
        .iter()
        .map(|(a, b)| {
            let differences = resampled[*a].iter().zip(&resampled[*b]).map(|(x, y)| x - y).collect();
            Estimate::new(mean(*a) - mean(*b), differences)
        })
        .collect();
    let corrected = holm(&estimates.iter().map(|e| e.p).collect::<Vec<_>>());
    let compare = |((a, b), (difference, p_holm)): ((usize, usize), (Estimate, f64))| Comparison {
        first: groups[a].0.into(),
        second: groups[b].0.into(),
        difference,
        p_holm,
        by_seed: by_seed(&groups[a].1, &groups[b].1, labels),
    };
    pairs.into_iter().zip(estimates.into_iter().zip(corrected)).map(compare).collect()
}

fn by_seed(first: &[&ScoredRun], second: &[&ScoredRun], labels: &[u16]) -> Vec<SeedComparison> {
    let pairs = first.iter().filter_map(|a| Some((a, second.iter().find(|b| b.record.seed == a.record.seed)?)));
    pairs
        .map(|(a, b)| {
            let both = a.predicted.iter().zip(&b.predicted).zip(labels).map(|((x, y), label)| (x == label, y == label));
            SeedComparison { seed: a.record.seed, table: McNemar::of(both) }
        })
        .collect()
}

/// Classes, hardest first. Resamples keep the number of images of each class.
fn classes(runs: &Runs, groups: &[(&str, Vec<&ScoredRun>)], outcomes: &[f64]) -> (Vec<Class>, Option<HardestTwo>) {
    let columns = groups.len();
    let of_class =
        |class: usize| (0..runs.pool.labels.len()).filter(move |i| usize::from(runs.pool.labels[*i]) == class);
    let row_mean = |image: usize| outcomes[image * columns..][..columns].iter().sum::<f64>() / columns as f64;
    // Classes without an image in the pool have no recall.
    let values: Vec<(usize, Vec<f64>)> = (0..runs.pool.classes.len())
        .map(|class| (class, of_class(class).map(row_mean).collect::<Vec<f64>>()))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    let recalls: Vec<f64> = values.iter().map(|(_, v)| v.iter().sum::<f64>() / v.len() as f64).collect();
    let resampled: Vec<Vec<f64>> = values
        .iter()
        .flat_map(|(class, values)| resampled_means(values, 1, RESAMPLE_CLASS + *class as u64, RESAMPLES))
        .collect();
    let others = values.len().saturating_sub(1).max(1) as f64;
    let against = |at: usize, all: &dyn Fn(usize) -> f64| {
        let rest: f64 = (0..values.len()).filter(|k| *k != at).map(all).sum();
        all(at) - rest / others
    };
    let estimates: Vec<Estimate> = (0..values.len())
        .map(|at| {
            let differences = (0..RESAMPLES).map(|r| against(at, &|k| resampled[k][r])).collect();
            Estimate::new(against(at, &|k| recalls[k]), differences)
        })
        .collect();
    let corrected = holm(&estimates.iter().map(|e| e.p).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| recalls[*a].total_cmp(&recalls[*b]).then(a.cmp(b)));
    let list = order.iter().map(|at| {
        let (class, of_images) = &values[*at];
        let interval = Estimate::new(recalls[*at], resampled[*at].clone());
        let share = |run: &&ScoredRun| {
            let right = of_class(*class).filter(|i| usize::from(run.predicted[*i]) == *class).count();
            right as f64 / of_images.len() as f64
        };
        let spread = |(name, group): &(&str, Vec<&ScoredRun>)| {
            Some(((*name).to_string(), Spread::of(&group.iter().map(share).collect::<Vec<_>>())?))
        };
        Class {
            name: runs.pool.classes[*class].clone(),
            images: of_images.len(),
            recall: [recalls[*at], interval.low, interval.high],
            difference: estimates[*at],
            p_holm: corrected[*at],
            by_combination: groups.iter().filter_map(spread).collect(),
        }
    });
    let list: Vec<Class> = list.collect();
    let hardest = (order.len() > 2).then(|| {
        let same = (0..RESAMPLES).filter(|r| {
            let worst_of_two = resampled[order[0]][*r].max(resampled[order[1]][*r]);
            order[2..].iter().all(|k| resampled[*k][*r] > worst_of_two)
        });
        let share = same.count() as f64 / RESAMPLES as f64;
        HardestTwo { classes: [list[0].name.clone(), list[1].name.clone()], share }
    });
    (list, hardest)
}

/// The images of the pool that no run got right, in their order.
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
