//! Measures over the epochs of training (training dynamics).
//!
//! Notation: epochs e = 1…E; logits z and probabilities p = softmax(z) of an image in an epoch; its
//! label y. An image is correctly classified in an epoch if y has the highest probability.

use rayon::prelude::*;

use crate::Result;
use crate::predictions::predicted_class;

/// The measures of one image over all epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trajectory {
    /// Area under the margin: the mean over epochs of `z_y − max_{k≠y} z_k`. Any number; lower is
    /// harder (Pleiss et al. 2020, arXiv 2001.10528).
    pub aum: f64,
    /// The same for probabilities: the mean of `p_y − max_{k≠y} p_k`. −1 to 1; lower is harder.
    pub mean_margin: f64,
    /// Number of times that the image was correctly classified in one epoch and misclassified in
    /// the next. 0 to E / 2; higher is harder (Toneva et al. 2019, arXiv 1812.05159).
    pub forgetting_events: u32,
    /// First epoch, counted from 1, in which the image was correctly classified; none if it never
    /// was. Later is harder, and never is the hardest (Toneva et al. 2019).
    pub first_learnt: Option<u32>,
    /// EL2N: the mean over the first half of the epochs (⌈E / 2⌉) of ‖p − one-hot(y)‖₂. It is the
    /// most informative early in training. 0 to √2; higher is harder (Paul et al. 2021, arXiv
    /// 2107.07075).
    pub el2n: f64,
    /// The mean of `p_y`. 0 to 1; lower is harder (data maps: Swayamdipta et al. 2020, arXiv
    /// 2009.10795).
    pub confidence: f64,
    /// The standard deviation of `p_y`. 0 to ½; higher is more ambiguous (data maps).
    pub variability: f64,
    /// Fraction of epochs in which the image was correctly classified. 0 to 1; lower is harder
    /// (data maps).
    pub correctness: f64,
    /// The mean of `−ln p_y`, nats; higher is harder.
    pub mean_loss: f64,
}

/// The trajectories of all images of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectories {
    /// Number of epochs, E.
    pub epochs: usize,
    /// One per image, in the order of the set.
    pub images: Vec<Trajectory>,
    /// Weighted means of p over the epochs: images × classes. Epoch e has the weight e², because
    /// early networks are uninformative.
    pub late_probabilities: Vec<f32>,
}

/// Sums over the epochs so far.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    logit_margin: f64,
    margin: f64,
    early_distance: f64,
    p: f64,
    p_squared: f64,
    loss: f64,
    correct: u32,
    forgotten: u32,
    first_learnt: Option<u32>,
    was_correct: bool,
}

impl Trajectories {
    /// Computes the measures of the images with these labels. `logits` returns the logits of an
    /// epoch, counted from 0, as images × `classes`. Returns none if there are no epochs.
    ///
    /// ```
    /// use cifar_eval::measures::Trajectories;
    ///
    /// // One image of class 0 in three epochs: misclassified, correct, correct.
    /// let logits = [[0.0, 1.0], [1.0, 0.0], [3.0, 0.0]];
    /// let found = Trajectories::from_logits(2, &[0], 3, |epoch| logits[epoch].to_vec())?.unwrap();
    /// assert_eq!((found.images[0].aum, found.images[0].first_learnt), (1.0, Some(2)));
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// If the logits of an epoch are not images × `classes`.
    pub fn from_logits(
        classes: usize,
        labels: &[u16],
        epochs: usize,
        mut logits: impl FnMut(usize) -> Vec<f32>,
    ) -> Result<Option<Self>> {
        let mut sums = vec![Sums::default(); labels.len()];
        let mut means = vec![0.0f32; labels.len() * classes];
        let mut probabilities = vec![0.0; labels.len() * classes];
        for epoch in 0..epochs {
            let logits = logits(epoch);
            cifar_kernels::softmax(labels.len(), classes, &logits, &mut probabilities)
                .map_err(|e| cifar_model::ModelError::Unsuitable(e.to_string()))?;
            let is_early = epoch < epochs.div_ceil(2);
            let weight = ((epoch + 1) * (epoch + 1)) as f32;
            (sums.par_iter_mut().zip(means.par_chunks_mut(classes)))
                .zip(logits.par_chunks(classes).zip(probabilities.par_chunks(classes)))
                .zip(labels)
                .with_min_len(256)
                .for_each(|(((sums, means), (z, p)), label)| {
                    sums.add(epoch as u32 + 1, is_early, z, p, usize::from(*label));
                    means.iter_mut().zip(p).for_each(|(mean, p)| *mean += weight * p);
                });
        }
        if epochs == 0 {
            return Ok(None);
        }
        // The sum of the first squares.
        let weights = (epochs * (epochs + 1) * (2 * epochs + 1) / 6) as f32;
        means.par_iter_mut().for_each(|mean| *mean /= weights);
        let images = sums.iter().map(|sums| sums.finish(epochs)).collect();
        Ok(Some(Self { epochs, images, late_probabilities: means }))
    }
}

impl Sums {
    fn add(&mut self, epoch: u32, is_early: bool, z: &[f32], p: &[f32], label: usize) {
        let largest_other = |row: &[f32]| {
            let others = row.iter().enumerate().filter(|(k, _)| *k != label);
            f64::from(others.fold(f32::NEG_INFINITY, |largest, (_, value)| largest.max(*value)))
        };
        let p_label = f64::from(p[label]);
        self.logit_margin += f64::from(z[label]) - largest_other(z);
        self.margin += p_label - largest_other(p);
        if is_early {
            let square: f64 = p.iter().map(|p| f64::from(p * p)).sum();
            self.early_distance += (square + 1.0 - 2.0 * p_label).max(0.0).sqrt();
        }
        self.p += p_label;
        self.p_squared += p_label * p_label;
        self.loss += crate::metrics::loss(p[label]);
        let is_correct = predicted_class(p) == label;
        self.correct += u32::from(is_correct);
        self.forgotten += u32::from(self.was_correct && !is_correct);
        if is_correct && self.first_learnt.is_none() {
            self.first_learnt = Some(epoch);
        }
        self.was_correct = is_correct;
    }

    fn finish(&self, epochs: usize) -> Trajectory {
        let n = epochs as f64;
        let confidence = self.p / n;
        Trajectory {
            aum: self.logit_margin / n,
            mean_margin: self.margin / n,
            forgetting_events: self.forgotten,
            first_learnt: self.first_learnt,
            el2n: self.early_distance / epochs.div_ceil(2) as f64,
            confidence,
            variability: (self.p_squared / n - confidence * confidence).max(0.0).sqrt(),
            correctness: f64::from(self.correct) / n,
            mean_loss: self.loss / n,
        }
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    /// The definitions, literally, for one image. `z` has one row per epoch.
    fn naive(z: &[Vec<f64>], y: usize) -> Trajectory {
        let epochs = z.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let softmax = |z: &Vec<f64>| {
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            z.iter().map(|z| z.exp() / sum).collect::<Vec<f64>>()
        };
        let p: Vec<Vec<f64>> = z.iter().map(softmax).collect();
        let margin = |row: &Vec<f64>| {
            let mut others = row.clone();
            others.remove(y);
            row[y] - others.into_iter().fold(f64::NEG_INFINITY, f64::max)
        };
        let correct: Vec<bool> = z.iter().map(|row| margin(row) > 0.0).collect();
        let distance = |p: &Vec<f64>| {
            let target = |k| if k == y { 1.0 } else { 0.0 };
            p.iter().enumerate().map(|(k, p)| (p - target(k)).powi(2)).sum::<f64>().sqrt()
        };
        let of_label: Vec<f64> = p.iter().map(|p| p[y]).collect();
        let confidence = mean(&of_label);
        Trajectory {
            aum: mean(&z.iter().map(margin).collect::<Vec<_>>()),
            mean_margin: mean(&p.iter().map(margin).collect::<Vec<_>>()),
            forgetting_events: correct.windows(2).filter(|w| w[0] && !w[1]).count() as u32,
            first_learnt: correct.iter().position(|correct| *correct).map(|at| at as u32 + 1),
            el2n: mean(&p[..z.len().div_ceil(2)].iter().map(distance).collect::<Vec<_>>()),
            confidence,
            variability: mean(&of_label.iter().map(|p| (p - confidence).powi(2)).collect::<Vec<_>>()).sqrt(),
            correctness: correct.iter().filter(|correct| **correct).count() as f64 / epochs,
            mean_loss: mean(&of_label.iter().map(|p| -p.ln()).collect::<Vec<_>>()),
        }
    }

    #[test]
    fn measures_match_their_definitions() {
        let (images, classes) = (300, 4);
        for epochs in [1, 2, 5] {
            let draw = |epoch: usize| {
                let mut random = stream(3, Purpose::Init, epoch as u64, 0);
                (0..images * classes).map(|_| random.normal() as f32 * 2.0).collect::<Vec<f32>>()
            };
            let labels: Vec<u16> = (0..images).map(|i| (i % classes) as u16).collect();
            let found = Trajectories::from_logits(classes, &labels, epochs, draw).unwrap().unwrap();
            let all: Vec<Vec<f32>> = (0..epochs).map(draw).collect();
            let weights: f32 = (1..=epochs).map(|e| (e * e) as f32).sum();
            check_late_probabilities(&found.late_probabilities, &all, classes, weights);
            for (i, found) in found.images.iter().enumerate() {
                let row = |z: &Vec<f32>| z[i * classes..(i + 1) * classes].iter().map(|z| f64::from(*z)).collect();
                let expected = naive(&all.iter().map(row).collect::<Vec<_>>(), usize::from(labels[i]));
                let pairs = [
                    (found.aum, expected.aum),
                    (found.mean_margin, expected.mean_margin),
                    (found.el2n, expected.el2n),
                    (found.confidence, expected.confidence),
                    (found.variability, expected.variability),
                    (found.correctness, expected.correctness),
                    (found.mean_loss, expected.mean_loss),
                ];
                // Probabilities are f32, and the root of a difference of squares loses half of the
                // digits.
                assert!(pairs.iter().all(|(a, b)| (a - b).abs() < 1e-3), "{found:?} {expected:?}");
                assert_eq!(found.forgetting_events, expected.forgetting_events);
                assert_eq!(found.first_learnt, expected.first_learnt);
            }
        }
    }

    /// Compares the weighted means with a plain softmax.
    fn check_late_probabilities(found: &[f32], all: &[Vec<f32>], classes: usize, weights: f32) {
        for (at, found) in found.iter().enumerate() {
            let row = at / classes * classes;
            let p = |z: &Vec<f32>| z[at].exp() / z[row..row + classes].iter().map(|z| z.exp()).sum::<f32>();
            let expected: f32 = all.iter().enumerate().map(|(e, z)| ((e + 1) * (e + 1)) as f32 * p(z)).sum();
            assert!((found - expected / weights).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn forgetting_and_learning_are_counted() {
        // Correct, wrong, correct, wrong: learnt in the first epoch, forgotten twice.
        let margins = [1.0f32, -1.0, 3.0, -2.0];
        let found = Trajectories::from_logits(2, &[0], 4, |epoch| vec![margins[epoch], 0.0]).unwrap().unwrap();
        let image = found.images[0];
        assert_eq!((image.forgetting_events, image.first_learnt, image.correctness), (2, Some(1), 0.5));
        assert!((image.aum - 0.25).abs() < 1e-12);
        let never = Trajectories::from_logits(2, &[1], 1, |_| vec![1.0, 0.0]).unwrap().unwrap().images[0];
        assert_eq!((never.first_learnt, never.forgetting_events, never.variability), (None, 0, 0.0));
        assert_eq!(Trajectories::from_logits(2, &[1], 0, |_| Vec::new()).unwrap(), None);
        assert!(
            Trajectories::from_logits(2, &[1, 0], 1, |_| vec![1.0, 0.0]).is_err(),
            "logits of one image for two labels"
        );
    }
}
