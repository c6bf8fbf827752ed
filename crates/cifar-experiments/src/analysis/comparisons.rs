//! Compares every two combinations on the pool's images.

use serde::{Deserialize, Serialize};

use super::ScoredRun;
use super::combinations::Answers;
use cifar_eval::statistics::association::holm;
use cifar_eval::statistics::comparison::McNemar;
use cifar_eval::statistics::contrast::{Estimate, Group, Stratum, contrast};

/// Maximum number of combinations of which all pairs are compared; with more, none is.
pub const MOST_COMPARED: usize = 40;

/// Two combinations on the pool's images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first.
    pub first: String,
    /// The second.
    pub second: String,
    /// Mean accuracy of the first's runs minus that of the second's. If either has a single run,
    /// the interval and `p` cover only the sampling of images, and so apply only to these runs.
    pub difference: Estimate,
    /// Its p-value, corrected for the number of comparisons (Holm).
    pub p_holm: f64,
    /// Number of runs of the first and of the second.
    pub runs: [usize; 2],
    /// Comparisons of runs of the same seed, as description: each p-value is about two runs and not
    /// corrected.
    pub by_seed: Vec<SeedComparison>,
}

/// Two runs of one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedComparison {
    /// The seed.
    pub seed: u64,
    /// Number of images that only one of the two classifies correctly.
    #[serde(flatten)]
    pub table: McNemar,
}

/// Compares all pairs; returns none for more than [`MOST_COMPARED`] combinations.
pub(super) fn comparisons(groups: &[(&str, Vec<&ScoredRun>)], answers: &[Answers], labels: &[u16]) -> Vec<Comparison> {
    if answers.len() > MOST_COMPARED {
        return Vec::new();
    }
    let compare = |Pair { first, second, difference, p_holm }: Pair| Comparison {
        first: groups[first].0.into(),
        second: groups[second].0.into(),
        difference,
        p_holm,
        runs: [answers[first].len(), answers[second].len()],
        by_seed: by_seed(&groups[first].1, &groups[second].1, labels),
    };
    pairs(answers).into_iter().map(compare).collect()
}

/// Two indices in the list of combinations, and their difference.
#[derive(Debug, Clone, Copy)]
struct Pair {
    first: usize,
    second: usize,
    difference: Estimate,
    p_holm: f64,
}

fn pairs(answers: &[Answers]) -> Vec<Pair> {
    let images = answers.first().and_then(|runs| runs.first()).map_or(0, Vec::len);
    let pool = [Stratum { weight: 1.0, images: (0..images).collect() }];
    let every = (0..answers.len()).flat_map(|first| (first + 1..answers.len()).map(move |second| (first, second)));
    let mut pairs: Vec<Pair> = every
        .filter_map(|(first, second)| {
            let difference = contrast(&[Group::new(1.0, &answers[first]), Group::new(-1.0, &answers[second])], &pool)?;
            Some(Pair { first, second, difference, p_holm: 1.0 })
        })
        .collect();
    let corrected = holm(&pairs.iter().map(|pair| pair.difference.p).collect::<Vec<_>>());
    pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_holm = p);
    pairs
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

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, Stream, stream};

    use super::*;

    const LEVEL: f64 = 0.05;

    /// The model of a simulated grid. All terms are in probits: an image has a difficulty shared by
    /// all runs and one per combination, each run has a random effect ("luck"), and each prediction
    /// some noise.
    struct Model {
        images: usize,
        runs: usize,
        /// Standard deviation of the runs' luck, for each combination.
        luck: Vec<f64>,
        /// How much better each combination is, before the other terms are added.
        better: Vec<f64>,
    }

    const DIFFICULTY: f64 = 1.5;
    const OWN: f64 = 0.3;
    const NOISE: f64 = 0.5;

    impl Model {
        fn equal(combinations: usize, luck: f64) -> Self {
            Self { images: 400, runs: 3, luck: vec![luck; combinations], better: vec![0.0; combinations] }
        }

        fn draw(&self, draws: &mut Stream) -> Vec<Answers> {
            let difficulty: Vec<f64> = (0..self.images).map(|_| DIFFICULTY * draws.normal()).collect();
            let combination = |(luck, better): (&f64, &f64)| {
                let own: Vec<f64> = difficulty.iter().map(|shared| shared + OWN * draws.normal()).collect();
                // The expected accuracy is the probability that a standard normal is below 0.9 +
                // better, for any standard deviation of the luck.
                let scatter = [DIFFICULTY, OWN, NOISE, *luck].iter().map(|x| x * x).sum::<f64>().sqrt();
                let run = |draws: &mut Stream| {
                    let middle = (0.9 + better) * scatter + luck * draws.normal();
                    own.iter().map(|own| middle + own + NOISE * draws.normal() > 0.0).collect()
                };
                (0..self.runs).map(|_| run(draws)).collect()
            };
            self.luck.iter().zip(&self.better).map(combination).collect()
        }
    }

    fn found(pairs: &[Pair]) -> impl Iterator<Item = &Pair> {
        pairs.iter().filter(|pair| pair.p_holm < LEVEL)
    }

    #[test]
    fn at_most_one_in_twenty_grids_without_a_difference_concludes_one() {
        let grids = 2000;
        for (name, luck) in [
            ("none", vec![0.0; 5]),
            ("little", vec![0.1; 5]),
            ("much", vec![0.5; 5]),
            ("unequal", vec![0.02, 0.05, 0.1, 0.2, 0.4]),
            ("one combination's", vec![0.0, 0.0, 0.0, 0.0, 0.4]),
        ] {
            let model = Model { luck, ..Model::equal(5, 0.0) };
            let mut draws = stream(11, Purpose::Synthetic, 0, 0);
            let conclude = (0..grids).filter(|_| found(&pairs(&model.draw(&mut draws))).next().is_some()).count();
            assert!(conclude as f64 <= LEVEL * f64::from(grids), "seeds' luck: {name}: {conclude} of {grids} grids");
        }
    }

    #[test]
    fn real_differences_are_found() {
        // 8.7 points better: 81.6 % become 90.3 %. A luck of 0.05 gives runs a standard deviation
        // of 0.8 points.
        for luck in [0.0, 0.05] {
            let mut model = Model { images: 2000, ..Model::equal(5, luck) };
            model.better[4] = 0.4;
            let mut draws = stream(12, Purpose::Synthetic, 0, 0);
            let grids = 100;
            let right = (0..grids).filter(|_| {
                let pairs = pairs(&model.draw(&mut draws));
                found(&pairs).filter(|pair| pair.second == 4 && pair.difference.value < 0.0).count() == 4
            });
            let right = right.count();
            assert!(right >= 80, "luck {luck}: {right} of {grids} grids find all four");
        }
    }

    #[test]
    fn a_single_better_combination_differs_from_all_others_and_no_other_pair_does() {
        let mut model = Model { images: 1000, ..Model::equal(23, 0.03) };
        // 50 % become 80 %.
        model.better = vec![-0.9; 23];
        model.better[7] = 0.84 - 0.9;
        let pairs = pairs(&model.draw(&mut stream(13, Purpose::Synthetic, 0, 0)));
        assert_eq!(pairs.len(), 253);
        let found: Vec<(usize, usize)> = found(&pairs).map(|pair| (pair.first, pair.second)).collect();
        let expected: Vec<(usize, usize)> =
            pairs.iter().map(|pair| (pair.first, pair.second)).filter(|(a, b)| *a == 7 || *b == 7).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn conclusions_of_grids_of_one_seed_apply_only_to_their_runs() {
        let mut model = Model { images: 1000, runs: 1, ..Model::equal(3, 0.0) };
        model.better[2] = 0.6;
        let pairs = pairs(&model.draw(&mut stream(14, Purpose::Synthetic, 0, 0)));
        assert!(pairs.iter().all(|pair| !pair.difference.covers_seeds()));
        assert!(pairs[1].p_holm < LEVEL && pairs[2].p_holm < LEVEL && pairs[0].p_holm > LEVEL, "{pairs:?}");
    }
}
