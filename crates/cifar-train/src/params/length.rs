//! How long a run is: its epochs and steps, from the number of training images.

use super::{MAX_EPOCHS, TrainParams};
use crate::{Result, TrainError};

impl TrainParams {
    /// Returns the number of steps of an epoch over `images` training images, at least 1.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        images.div_ceil(self.batch_size.max(1)).max(1)
    }

    /// Returns the parameters of a run on `images` training images, with the epochs that it takes.
    ///
    /// If `epochs` make fewer steps than `min_steps`, they are raised to the smallest number that
    /// makes enough, as [`TrainParams::stretched_to`] does. The number of epochs is what
    /// [`Run`](crate::Run), searches, folds and estimates of memory use. The result has the same
    /// length for the same images, so that this can be called again.
    ///
    /// ```
    /// use cifar_train::TrainParams;
    ///
    /// let of = |min_steps| TrainParams { epochs: 8, batch_size: 250, min_steps, ..Default::default() };
    /// let params = TrainParams { warmup_epochs: 2.0, ..of(160) };
    /// // 1,000 images make 4 steps per epoch.
    /// let small = params.for_images(1000);
    /// assert_eq!((small.epochs, small.warmup_epochs), (40, 10.0));
    /// assert_eq!(params.for_images(50_000), params);
    /// ```
    #[must_use]
    pub fn for_images(&self, images: usize) -> Self {
        let epochs = self.min_steps.div_ceil(self.steps_per_epoch(images));
        if epochs <= self.epochs { self.clone() } else { self.stretched_to(epochs) }
    }

    /// Returns the parameters of the same run over another number of epochs: `warmup_epochs` and
    /// `whitening_bias_epochs` (rounded) keep their fraction of it.
    #[must_use]
    pub fn stretched_to(&self, epochs: usize) -> Self {
        let stretch = epochs as f64 / self.epochs.max(1) as f64;
        Self {
            epochs,
            // Rounding must not put the end of the warm-up behind that of the run.
            warmup_epochs: (self.warmup_epochs * stretch).min(epochs as f64),
            whitening_bias_epochs: (self.whitening_bias_epochs as f64 * stretch).round() as usize,
            ..self.clone()
        }
    }

    /// Returns how `min_steps` lengthens a run on `images` training images, in one line. `None` if
    /// it does not.
    pub fn raised_epochs(&self, images: usize) -> Option<String> {
        let epochs = self.for_images(images).epochs;
        let per_epoch = self.steps_per_epoch(images);
        (epochs > self.epochs).then(|| {
            format!(
                "train.min_steps: {} steps are {epochs} epochs of {per_epoch}, instead of {} (train.epochs)",
                self.min_steps, self.epochs
            )
        })
    }

    /// Checks that `min_steps` on `images` training images takes no more epochs than a run may have.
    pub(super) fn check_length(&self, images: usize) -> Result<()> {
        let epochs = self.for_images(images).epochs;
        if epochs <= MAX_EPOCHS {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key: "train.min_steps",
            value: self.min_steps.to_string(),
            allowed: format!(
                "with {} steps per epoch it takes {epochs} epochs, and a run has at most {MAX_EPOCHS}; lower it, or train.batch_size",
                self.steps_per_epoch(images)
            ),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
pub(super) fn is_zero(steps: &usize) -> bool {
    *steps == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(min_steps: usize) -> TrainParams {
        TrainParams {
            epochs: 8,
            batch_size: 100,
            warmup_epochs: 0.5,
            whitening_bias_epochs: 3,
            min_steps,
            ..Default::default()
        }
    }

    #[test]
    fn epochs_are_the_fewest_with_enough_steps() {
        // 250 images make 3 steps per epoch, so 24 without a minimum.
        let check = |min_steps, expected: (usize, f64, usize)| {
            let found = params(min_steps).for_images(250);
            assert_eq!((found.epochs, found.warmup_epochs, found.whitening_bias_epochs), expected, "{min_steps}");
            assert_eq!(found.for_images(250), found, "again");
        };
        check(0, (8, 0.5, 3));
        check(24, (8, 0.5, 3));
        // Nine epochs: warm-up 0.5 · 9/8, whitening bias 3 · 9/8 = 3.375.
        check(25, (9, 0.5625, 3));
        check(48, (16, 1.0, 6));
        check(49, (17, 1.0625, 6));
        let whole = TrainParams { warmup_epochs: 8.0, ..params(100) }.for_images(250);
        assert_eq!((whole.epochs, whole.warmup_epochs), (34, 34.0));
        assert_eq!(params(7).for_images(0).epochs, 8, "no images are one step");
    }

    #[test]
    fn a_raised_number_of_epochs_is_said() {
        assert_eq!(params(24).raised_epochs(250), None);
        let expected = "train.min_steps: 25 steps are 9 epochs of 3, instead of 8 (train.epochs)";
        assert_eq!(params(25).raised_epochs(250).as_deref(), Some(expected));
    }

    #[test]
    fn more_epochs_than_a_run_may_have_are_refused() {
        params(300_000).check_length(250).unwrap();
        assert_eq!(
            params(300_001).check_length(250).unwrap_err().to_string(),
            "train.min_steps: 300001 is not allowed; with 3 steps per epoch it takes 100001 epochs, and a run has at most 100000; lower it, or train.batch_size"
        );
        params(usize::MAX).check_length(1).unwrap_err();
    }
}
