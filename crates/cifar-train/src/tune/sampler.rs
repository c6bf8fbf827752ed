//! Samplers: the next point of the unit cube to try.

use cifar_data::random::{Purpose, Stream, stream};

use super::SamplerKind;

/// A point that was tried, with its score after the first rung.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tried {
    pub(super) point: Vec<f64>,
    /// Higher is better; negative infinity for a failed trial.
    pub(super) score: f64,
}

/// Suggests points.
pub(super) trait Sampler {
    /// Returns the point of trial `number`, counted from 1: `axes` coordinates in [0, 1).
    ///
    /// `tried` holds the earlier trials, in order; all their scores belong to the same number of
    /// epochs and the same seed. The same arguments give the same point.
    fn suggest(&self, number: usize, axes: usize, tried: &[Tried]) -> Vec<f64>;
}

/// Returns the sampler of this kind.
pub(super) fn sampler(kind: SamplerKind, seed: u64) -> Box<dyn Sampler> {
    match kind {
        SamplerKind::QuasiRandom => Box::new(QuasiRandom { seed }),
        SamplerKind::Tpe => Box::new(Tpe { seed }),
    }
}

/// The additive sequence of Roberts (2018), "The unreasonable effectiveness of quasirandom
/// sequences": coordinate k of point n is the fractional part of s + n / φᵏ, where φ solves φ^(d+1)
/// = φ + 1. The shift s is drawn from the seed.
struct QuasiRandom {
    seed: u64,
}

impl Sampler for QuasiRandom {
    fn suggest(&self, number: usize, axes: usize, _: &[Tried]) -> Vec<f64> {
        let phi = (0..64).fold(1.5f64, |phi, _| libm::pow(1.0 + phi, 1.0 / (axes as f64 + 1.0)));
        let mut random = stream(self.seed, Purpose::Tune, 0, 0);
        let coordinate = |k: usize| {
            let shift = random.unit();
            let x = shift + number as f64 / libm::pow(phi, k as f64 + 1.0);
            x - x.floor()
        };
        (0..axes).map(coordinate).collect()
    }
}

/// The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
/// optimization"), with independent axes.
///
/// The best quarter of the trials and the rest each give a density: a mixture of a uniform density
/// and a normal one around each point. Of several draws from the density of the good trials, the
/// one with the highest ratio of the two densities is suggested. The first trials are quasi-random.
struct Tpe {
    seed: u64,
}

impl Tpe {
    /// Number of quasi-random trials at the start.
    const BEFORE: usize = 8;
    /// Fraction of the trials that count as good.
    const GOOD: f64 = 0.25;
    /// Number of draws to choose from.
    const CANDIDATES: usize = 24;
}

impl Sampler for Tpe {
    fn suggest(&self, number: usize, axes: usize, tried: &[Tried]) -> Vec<f64> {
        let trained = tried.iter().filter(|t| t.score.is_finite()).count();
        if number <= Self::BEFORE || tried.len() < 2 || trained == 0 {
            return QuasiRandom { seed: self.seed }.suggest(number, axes, tried);
        }
        let mut order: Vec<&Tried> = tried.iter().collect();
        // A stable sort: ties go to the earlier trial.
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        // A failed trial never counts as good.
        let good = ((Self::GOOD * tried.len() as f64).ceil() as usize).clamp(1, trained.min(tried.len() - 1));
        let mut random = stream(self.seed, Purpose::Tune, 1, number as u64);
        let suggest = |axis: usize| {
            let density = |points: &[&Tried]| Parzen::new(points.iter().map(|t| t.point[axis]).collect());
            let (good, bad) = (density(&order[..good]), density(&order[good..]));
            let candidates = (0..Self::CANDIDATES).map(|_| good.draw(&mut random));
            let ratio = |x: f64| good.at(x) / bad.at(x);
            candidates.fold((0.5, f64::NEG_INFINITY), |best, x| if ratio(x) > best.1 { (x, ratio(x)) } else { best }).0
        };
        (0..axes).map(suggest).collect()
    }
}

/// A mixture of a uniform density over [0, 1) and a normal density around each point.
struct Parzen {
    points: Vec<f64>,
    width: f64,
}

impl Parzen {
    fn new(points: Vec<f64>) -> Self {
        // Scott's rule for the standard deviation of a uniform density, 0.29, with a lower limit
        // that keeps it from trying the same point again.
        let width = (0.29 * libm::pow(points.len() as f64, -0.2)).max(0.05);
        Self { points, width }
    }

    fn at(&self, x: f64) -> f64 {
        let normal = |point: f64| {
            let z = (x - point) / self.width;
            libm::exp(-0.5 * z * z) / (self.width * (2.0 * std::f64::consts::PI).sqrt())
        };
        (1.0 + self.points.iter().map(|p| normal(*p)).sum::<f64>()) / (self.points.len() as f64 + 1.0)
    }

    fn draw(&self, random: &mut Stream) -> f64 {
        let which = random.below(self.points.len() as u64 + 1) as usize;
        let Some(point) = self.points.get(which) else { return random.unit() };
        // Rejection sampling for the part outside.
        loop {
            let x = point + self.width * random.normal();
            if (0.0..1.0).contains(&x) {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(sampler: &dyn Sampler, count: usize, score: impl Fn(&[f64]) -> f64) -> Vec<Tried> {
        let mut tried = Vec::new();
        for number in 1..=count {
            let point = sampler.suggest(number, 2, &tried);
            assert!(point.len() == 2 && point.iter().all(|x| (0.0..1.0).contains(x)));
            tried.push(Tried { score: score(&point), point });
        }
        tried
    }

    /// The mean squared difference between the fraction of points in a rectangle from the origin
    /// and its area, over a grid of rectangles in the unit square.
    fn discrepancy(points: &[Tried]) -> f64 {
        let grid = || (1..=20).map(|k| f64::from(k) / 20.0);
        let squares = grid().flat_map(|x| grid().map(move |y| (x, y))).map(|(x, y)| {
            let within = points.iter().filter(|t| t.point[0] < x && t.point[1] < y).count();
            (within as f64 / points.len() as f64 - x * y).powi(2)
        });
        squares.sum::<f64>() / 400.0
    }

    #[test]
    fn quasi_random_points_are_more_even_than_random_ones() {
        for seed in 0..5 {
            let quasi = discrepancy(&points(&QuasiRandom { seed }, 64, |_| 0.0));
            let mut random = stream(seed, Purpose::Tune, 9, 0);
            let drawn: Vec<Tried> =
                (0..64).map(|_| Tried { point: vec![random.unit(), random.unit()], score: 0.0 }).collect();
            assert!(quasi * 2.0 < discrepancy(&drawn), "seed {seed}: {quasi} and {}", discrepancy(&drawn));
        }
    }

    #[test]
    fn tpe_comes_closer_to_the_best_point_than_quasi_random_sampling() {
        let score = |x: &[f64]| -((x[0] - 0.3).powi(2) + 0.5 * (x[1] - 0.8).powi(2));
        let best = |sampler: &dyn Sampler| {
            points(sampler, 40, score).iter().map(|t| t.score).fold(f64::NEG_INFINITY, f64::max)
        };
        let mut differences: Vec<f64> = (0..15).map(|seed| best(&Tpe { seed }) - best(&QuasiRandom { seed })).collect();
        differences.sort_by(f64::total_cmp);
        assert!(differences[7] > 0.0, "{differences:?}");
        // Its later points are also good on average.
        let later = points(&Tpe { seed: 1 }, 40, score)[20..].iter().map(|t| t.score).sum::<f64>() / 20.0;
        let even = points(&QuasiRandom { seed: 1 }, 40, score)[20..].iter().map(|t| t.score).sum::<f64>() / 20.0;
        assert!(later > even / 2.0, "{later} {even}");
    }

    #[test]
    fn a_failed_trial_never_counts_as_good() {
        // One of 16 trials succeeds, far from the failed ones.
        let tried = |at: f64| -> Vec<Tried> {
            let failed = (0..15).map(|_| Tried { point: vec![0.9], score: f64::NEG_INFINITY });
            failed.chain([Tried { point: vec![at], score: 0.5 }]).collect()
        };
        let tpe = Tpe { seed: 4 };
        let near = (17..117).filter(|n| tpe.suggest(*n, 1, &tried(0.1))[0] < 0.5).count();
        assert!(near > 95, "only {near} of 100 suggestions avoid the failed points");
        let all_failed = vec![Tried { point: vec![0.9], score: f64::NEG_INFINITY }; 15];
        assert_eq!(tpe.suggest(16, 1, &all_failed), QuasiRandom { seed: 4 }.suggest(16, 1, &[]));
    }

    #[test]
    fn tpe_avoids_failures() {
        let failing = |x: &[f64]| if x[0] > 0.5 { f64::NEG_INFINITY } else { x[0] };
        let tried = points(&Tpe { seed: 3 }, 30, failing);
        assert!(tried[10..].iter().filter(|t| t.point[0] <= 0.5).count() > 12);
    }
}
