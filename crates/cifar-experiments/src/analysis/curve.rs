//! Error on the pool over the number of training images, and its extrapolation to twice the data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScoredRun;
use super::combinations::{Answers, Combination};
use cifar_eval::interval::Interval;
use cifar_eval::statistics::contrast::{Group, Stratum, contrast};
use cifar_eval::statistics::power_law::PowerLaw;

/// The keys that decide which training images there are; combinations on a curve differ only in
/// these.
const DATA: [&str; 2] = ["dataset_version", "split.train_images"];

/// A law needs a largest number of images of at least this many times the smallest. Partitions of one
/// size differ by a few images in a thousand, which says nothing about more data.
const MIN_RANGE: f64 = 1.1;

/// Numbers of steps count as equal if the largest is at most this many times the smallest.
const SAME_STEPS: f64 = 1.1;

/// Combinations that differ only in their training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// The other values that the grid sets for all of them, such as `train.epochs=5`; empty if
    /// none.
    pub setting: String,
    /// One point per combination, in ascending order of images.
    pub points: Vec<CurvePoint>,
    /// The power law through the points; none unless the numbers of images differ by a tenth and no
    /// error is 0.
    pub law: Option<PowerLaw>,
    /// 95 % interval of the law's exponent for other seeds and test images; none if a combination
    /// has one run.
    ///
    /// Training sets are treated as fixed: the interval ignores that they are nested, and which
    /// images were drawn.
    pub exponent: Option<Interval>,
    /// EXTRAPOLATION of the law to twice the largest number of images.
    pub doubled: Option<Doubled>,
}

/// A combination on a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Its name.
    pub combination: String,
    /// Number of training images.
    pub train_images: usize,
    /// Mean number of optimiser steps over its runs.
    pub steps: f64,
    /// Mean error of its runs on the pool, 0..1.
    pub error: f64,
    /// 95 % interval of the error for other seeds and images; of one run, for other images.
    pub interval: Interval,
    /// Number of its runs.
    pub runs: usize,
}

/// An extrapolation. It has no interval, since the runs cannot show whether the law holds beyond
/// them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doubled {
    /// Number of training images.
    pub train_images: usize,
    /// The error by the law, 0..1.
    pub error: f64,
}

impl LearningCurve {
    /// Returns the smallest and the largest number of steps of its points.
    pub fn steps(&self) -> [f64; 2] {
        self.points.iter().fold([f64::INFINITY, 0.0], |[least, most], p| [least.min(p.steps), most.max(p.steps)])
    }

    /// Returns whether the error is established to fall with the number of images: the 95 % interval of
    /// the exponent is above 0. Without that, nothing is extrapolated.
    pub fn has_trend(&self) -> bool {
        self.exponent.is_some_and(|interval| interval.low > 0.0)
    }

    /// Returns whether all points took about the same number of steps, so that they differ in
    /// images alone.
    pub fn has_constant_steps(&self) -> bool {
        let [least, most] = self.steps();
        most <= SAME_STEPS * least
    }
}

/// Returns a curve for each set of other parameters that has two or more combinations.
pub(super) fn learning_curves(
    groups: &[(&str, Vec<&ScoredRun>)],
    answers: &[Answers],
    combinations: &[Combination],
) -> Vec<LearningCurve> {
    let mut curves: Vec<(String, Vec<(CurvePoint, &Answers)>)> = Vec::new();
    for (((_, group), answers), combination) in groups.iter().zip(answers).zip(combinations) {
        let setting = group.first().map(|run| others(run)).unwrap_or_default();
        let Interval { low, high } = combination.pool_interval;
        let point = CurvePoint {
            combination: combination.name.clone(),
            train_images: combination.train_images,
            steps: combination.steps,
            error: 1.0 - combination.pool.mean,
            interval: Interval { low: 1.0 - high, high: 1.0 - low },
            runs: combination.pool.n,
        };
        match curves.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, points)) => points.push((point, answers)),
            None => curves.push((setting, vec![(point, answers)])),
        }
    }
    curves.retain(|(_, points)| points.len() > 1);
    let sorted = |(setting, mut points): (String, Vec<(CurvePoint, &Answers)>)| {
        points.sort_by_key(|(point, _)| point.train_images);
        let (points, members): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        with_law(LearningCurve { setting, points, law: None, exponent: None, doubled: None }, &members)
    };
    curves.into_iter().map(sorted).collect()
}

fn with_law(mut curve: LearningCurve, members: &[&Answers]) -> LearningCurve {
    let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (p.train_images as f64, p.error)).collect();
    let range = |points: &[(f64, f64)]| Some(points.last()?.0 / points.first()?.0);
    if range(&points).is_none_or(|range| range < MIN_RANGE) {
        return curve;
    }
    let Some(law) = PowerLaw::fit(&points) else { return curve };
    curve.exponent = exponent_interval(&law, &points, members);
    let twice = curve.points.last().map_or(0, |p| 2 * p.train_images);
    curve.doubled = Some(Doubled { train_images: twice, error: law.at(twice as f64) });
    curve.law = Some(law);
    curve
}

/// Returns the interval of the exponent. To first order it is a weighted sum of accuracies on the
/// same images: the delta method on the predictions of all runs for each image.
fn exponent_interval(law: &PowerLaw, points: &[(f64, f64)], members: &[&Answers]) -> Option<Interval> {
    let images = members.first()?.first()?.len();
    let groups: Vec<Group> =
        PowerLaw::gradient(points).into_iter().zip(members).map(|(weight, runs)| Group::new(weight, runs)).collect();
    let change = contrast(&groups, &[Stratum { weight: 1.0, images: (0..images).collect() }])?;
    let half = change.half_width();
    change.covers_seeds().then_some(Interval { low: law.exponent - half, high: law.exponent + half })
}

/// Returns the values that the grid sets besides data and seed.
fn others(run: &ScoredRun) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let rest = run.record.setting.iter().filter(|(key, _)| *key != "random_seed" && !DATA.contains(&key.as_str()));
    rest.map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    #[test]
    fn partitions_of_one_size_are_no_learning_curve() {
        let law = |sizes: [usize; 2]| {
            let point = |(train_images, error): (usize, f64)| CurvePoint {
                combination: train_images.to_string(),
                train_images,
                steps: 1.0,
                error,
                interval: Interval { low: error, high: error },
                runs: 1,
            };
            let points = sizes.into_iter().zip([0.5, 0.25]).map(point).collect();
            let curve = LearningCurve { setting: String::new(), points, law: None, exponent: None, doubled: None };
            let answers: [Answers; 2] = [vec![vec![true, false, true, false]], vec![vec![true, true, true, false]]];
            with_law(curve, &answers.each_ref())
        };
        let same = law([13_990, 14_010]);
        assert!(same.law.is_none() && same.doubled.is_none() && same.exponent.is_none(), "{same:?}");
        let doubled = law([14_000, 28_000]);
        assert!((doubled.law.unwrap().exponent - 1.0).abs() < 1e-12);
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover_the_exponent() {
        let (sizes, images, trials) = ([5000.0, 10_000.0, 14_000.0, 14_000.0, 28_000.0], 1500, 1000);
        let truth = 0.4;
        for luck in [0.0, 0.02] {
            let mut draws = stream(21, Purpose::Synthetic, 0, 0);
            let mut covered = 0;
            for _ in 0..trials {
                // All runs below an image's difficulty misclassify it, so runs agree on most
                // images.
                let difficulty: Vec<f64> = (0..images).map(|_| draws.unit()).collect();
                let members: Vec<Answers> = (sizes.iter())
                    .map(|n: &f64| {
                        let error = 8.0 * n.powf(-truth);
                        let runs = (0..3).map(|_| {
                            let error = error * (1.0 + luck * draws.normal());
                            difficulty.iter().map(|d| *d > error + 0.05 * draws.uniform(-1.0, 1.0)).collect()
                        });
                        runs.collect()
                    })
                    .collect();
                let right = |runs: &Answers| runs.iter().flatten().filter(|right| **right).count() as f64;
                let points: Vec<(f64, f64)> = (sizes.iter().zip(&members))
                    .map(|(n, runs)| (*n, 1.0 - right(runs) / (3 * images) as f64))
                    .collect();
                let law = PowerLaw::fit(&points).unwrap();
                let interval = exponent_interval(&law, &points, &members.iter().collect::<Vec<_>>()).unwrap();
                covered += u32::from(interval.low <= truth && truth <= interval.high);
            }
            let share = f64::from(covered) / f64::from(trials);
            // Three standard errors of a fraction of 0.95 in 1,000 are 0.021.
            assert!(share > 0.929, "luck {luck}: {share}");
        }
    }
}
