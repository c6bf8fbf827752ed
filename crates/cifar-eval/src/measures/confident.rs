//! Confident learning: an estimate of how many images of each class carry which label
//! (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

/// The joint distribution of given and true labels, as counts, and the images off its diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidentJoint {
    classes: usize,
    /// Estimated number of images by given label (row) and true label (column). A row adds up to
    /// the number of images with the label.
    counts: Vec<f64>,
    /// For each image, the class that it confidently belongs to if that is not its label.
    pub label_issues: Vec<Option<u16>>,
}

impl ConfidentJoint {
    /// Estimates the joint from labels and probabilities (images × classes). The probabilities
    /// should come from networks that were not trained on these images.
    ///
    /// The threshold of a class is the mean probability of the class over the images labelled as
    /// it. An image confidently belongs to the most probable of the classes whose threshold it
    /// reaches. Images are counted by label and confident class, and each row is scaled to the
    /// number of images with the label. A class without images has no threshold, so no image
    /// confidently belongs to it.
    ///
    /// ```
    /// use cifar_eval::measures::ConfidentJoint;
    ///
    /// // Four images of two classes. The second is labelled 0, but looks like class 1.
    /// let probabilities = [0.9, 0.1, 0.2, 0.8, 0.3, 0.7, 0.1, 0.9];
    /// let joint = ConfidentJoint::estimate(2, &[0, 0, 1, 1], &probabilities);
    /// assert_eq!(joint.label_issues, [None, Some(1), None, None]);
    /// assert_eq!((joint.get(0, 1), joint.mislabelled()), (1.0, 1.0));
    /// ```
    pub fn estimate(classes: usize, labels: &[u16], probabilities: &[f32]) -> Self {
        let rows = || labels.iter().map(|l| usize::from(*l)).zip(probabilities.chunks_exact(classes));
        let (mut sums, mut images) = (vec![0.0f64; classes], vec![0usize; classes]);
        for (label, row) in rows() {
            sums[label] += f64::from(row[label]);
            images[label] += 1;
        }
        let reaches = |k: usize, p: f32| images[k] > 0 && f64::from(p) >= sums[k] / images[k] as f64;
        let confident_class = |row: &[f32]| {
            let candidates = row.iter().enumerate().filter(|(k, p)| reaches(*k, **p));
            candidates.fold(None, |best: Option<(usize, f32)>, (k, p)| match best {
                Some((_, highest)) if highest >= *p => best,
                _ => Some((k, *p)),
            })
        };
        let mut counts = vec![0.0; classes * classes];
        let mut label_issues = Vec::with_capacity(labels.len());
        for (label, row) in rows() {
            let class = confident_class(row).map(|(k, _)| k);
            if let Some(class) = class {
                counts[label * classes + class] += 1.0;
            }
            label_issues.push(class.filter(|class| *class != label).map(|class| class as u16));
        }
        for (label, row) in counts.chunks_exact_mut(classes).enumerate() {
            let sum: f64 = row.iter().sum();
            if sum == 0.0 {
                row[label] = images[label] as f64;
            } else {
                let scale = images[label] as f64 / sum;
                for count in row {
                    *count *= scale;
                }
            }
        }
        Self { classes, counts, label_issues }
    }

    /// Returns the estimated number of images with the label `label` whose true class is `class`.
    pub fn get(&self, label: usize, class: usize) -> f64 {
        self.counts[label * self.classes + class]
    }

    /// Returns the estimated number of images with a wrong label.
    pub fn mislabelled(&self) -> f64 {
        self.counts.iter().enumerate().filter(|(at, _)| at / self.classes != at % self.classes).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_joint_has_the_counts_of_the_definition() {
        // Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6; class 1 (0.9 + 0.3) / 2 = 0.6; class 2
        // has no images.
        let probabilities = [0.9, 0.1, 0.0, 0.8, 0.2, 0.0, 0.1, 0.7, 0.2, 0.05, 0.9, 0.05, 0.3, 0.3, 0.4];
        let joint = ConfidentJoint::estimate(3, &[0, 0, 0, 1, 1], &probabilities);
        assert_eq!(joint.label_issues, [None, None, Some(1), None, None]);
        let found: Vec<f64> = (0..9).map(|at| joint.get(at / 3, at % 3)).collect();
        // The last image reaches no threshold, so its row is scaled from one image to two.
        assert_eq!(found, [2.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((joint.mislabelled() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn planted_label_noise_is_recovered() {
        // 1,000 images per class. Every fifth image of class 0 carries the label 1, and the network
        // is most confident about those.
        let truth: Vec<u16> = (0..2000).map(|i| u16::from(i >= 1000)).collect();
        let labels: Vec<u16> =
            truth.iter().enumerate().map(|(i, t)| if i % 5 == 0 && i < 1000 { 1 } else { *t }).collect();
        let rows = truth.iter().zip(&labels).flat_map(|rows| match rows {
            (0, 0) => [0.8, 0.2],
            (0, _) => [0.85, 0.15],
            _ => [0.2, 0.8],
        });
        let joint = ConfidentJoint::estimate(2, &labels, &rows.collect::<Vec<f32>>());
        assert!((joint.get(1, 0) - 200.0).abs() < 1e-9 && joint.get(0, 1) == 0.0, "{joint:?}");
    }
}
