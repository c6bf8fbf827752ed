//! Error on the pool over the number of training images, and what twice the data would give.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScoredRun;
use super::summary::Combination;
use crate::statistics::power_law::{PowerLaw, Predicted};

/// The keys that decide which training images there are; combinations on a curve differ in these alone.
const DATA: [&str; 2] = ["dataset_version", "split.train_images"];

/// Combinations that differ in their training images alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// What else the grid gives to all of them, such as `train.epochs=5`; empty if nothing.
    pub setting: String,
    /// One for each combination, in order of their numbers of images.
    pub points: Vec<CurvePoint>,
    /// The line through them; none unless two numbers of images differ and no error is 0.
    pub law: Option<PowerLaw>,
    /// EXTRAPOLATION: what the law says of twice the greatest number of images.
    pub doubled: Option<Doubled>,
}

/// A combination on a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Its name.
    pub combination: String,
    /// Number of training images.
    pub train_images: usize,
    /// Mean error of its runs on the pool, 0..1.
    pub error: f64,
    /// Number of its runs.
    pub runs: usize,
}

/// An extrapolation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doubled {
    /// Number of training images.
    pub train_images: usize,
    /// The error that the law says.
    #[serde(flatten)]
    pub predicted: Predicted,
}

/// A curve for each set of other parameters that has two combinations or more.
pub(super) fn learning_curves(groups: &[(&str, Vec<&ScoredRun>)], combinations: &[Combination]) -> Vec<LearningCurve> {
    let mut curves: Vec<LearningCurve> = Vec::new();
    for ((_, group), combination) in groups.iter().zip(combinations) {
        let setting = group.first().map(|run| others(run)).unwrap_or_default();
        let point = CurvePoint {
            combination: combination.name.clone(),
            train_images: combination.train_images,
            error: 1.0 - combination.pool.mean,
            runs: combination.pool.n,
        };
        match curves.iter_mut().find(|curve| curve.setting == setting) {
            Some(curve) => curve.points.push(point),
            None => curves.push(LearningCurve { setting, points: vec![point], law: None, doubled: None }),
        }
    }
    curves.retain(|curve| curve.points.len() > 1);
    for curve in &mut curves {
        curve.points.sort_by_key(|p| p.train_images);
        curve.law = PowerLaw::fit(&curve.points.iter().map(|p| (p.train_images as f64, p.error)).collect::<Vec<_>>());
        let twice = curve.points.last().map_or(0, |p| 2 * p.train_images);
        curve.doubled = curve.law.map(|law| Doubled { train_images: twice, predicted: law.at(twice as f64) });
    }
    curves
}

/// What the grid gives besides data and seed.
fn others(run: &ScoredRun) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let rest = run.record.setting.iter().filter(|(key, _)| *key != "random_seed" && !DATA.contains(&key.as_str()));
    rest.map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(" ")
}
