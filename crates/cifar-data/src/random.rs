//! Every random draw of the project: a `ChaCha8` stream keyed by (seed, purpose, epoch, sample).
//!
//! A draw depends on its key alone, not on the thread, the batch or the order of calls. Shuffles,
//! bounded integers and normals are implemented here, since those of `rand` may change between
//! versions.
//!
//! ```
//! use cifar_data::random::{Purpose, stream};
//!
//! let mut random = stream(42, Purpose::Augment, 0, 7);
//! let first = random.unit();
//! assert!((0.0..1.0).contains(&first));
//! assert_eq!(stream(42, Purpose::Augment, 0, 7).unit(), first);
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The purpose of a stream. The numbers are part of every result: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Drawing the synthetic set.
    Synthetic = 1,
    /// Dividing images into train, validation and test.
    Split = 2,
    /// The order of the training images in an epoch.
    Shuffle = 3,
    /// Flip and crop of one image.
    Augment = 4,
    /// Initial weights; the "sample" is the parameter's number.
    Init = 5,
    /// Dropout of one image; the layer is folded into the sample's upper half.
    Dropout = 6,
    /// Resampling for confidence intervals.
    Bootstrap = 7,
    /// Whether an image is mirrored in the first epoch, where epochs alternate.
    AlternatingFlip = 8,
    /// Brightness and contrast of one image.
    Jitter = 9,
    /// Position of the square that is erased from one image.
    Cutout = 10,
    /// Fraction of an image in its mixture.
    Mixup = 11,
    /// Settings that tuning tries.
    Tune = 12,
    /// The fold of a training image.
    Fold = 13,
    /// Which labels a study replaces, and by which.
    LabelNoise = 14,
    /// The order in which the images of one class take turns, where all classes are drawn equally
    /// often; the "epoch" is the round, the "sample" the class.
    BalancedSampling = 15,
    /// The map of features: where its layout starts, and the points that repel each other; the
    /// "epoch" is that of the layout.
    Map = 16,
    /// The epochs in which an un-augmented training image is recorded.
    Dynamics = 20,
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

/// Returns the stream of one purpose, epoch and sample under `seed`.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> Stream {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, sample]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Stream(ChaCha8Rng::from_seed(key))
}

impl Stream {
    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns 32 random bits.
    pub fn bits32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Returns a uniform draw from 0..`bound`, without bias (Lemire 2019, arXiv 1805.10941).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "`bound` must be above 0");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Returns a uniform draw from [0, 1), a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a uniform draw from [`low`, `high`).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Returns true with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Returns a standard normal draw (Box & Muller 1958). Uses `libm`, so that every platform
    /// draws the same.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// Shuffles in place; every order is equally likely (Fisher & Yates; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_never_change() {
        let mut s = stream(42, Purpose::Augment, 3, 7);
        assert_eq!([s.bits(), s.bits()], PINNED);
    }
    const PINNED: [u64; 2] = [5_414_072_235_348_488_728, 12_384_256_979_827_015_173];

    #[test]
    fn streams_differ_in_every_part_of_their_key() {
        let first = |seed, purpose, epoch, sample| stream(seed, purpose, epoch, sample).bits();
        let all = [
            first(1, Purpose::Split, 0, 0),
            first(2, Purpose::Split, 0, 0),
            first(1, Purpose::Shuffle, 0, 0),
            first(1, Purpose::Split, 1, 0),
            first(1, Purpose::Split, 0, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn bounded_draws_are_uniform() {
        let mut s = stream(0, Purpose::Shuffle, 0, 0);
        let mut counts = [0i32; 7];
        for _ in 0..70_000 {
            counts[s.below(7) as usize] += 1;
        }
        // Five standard deviations of a binomial with n = 70 000 and p = 1/7 are 463.
        assert!(counts.iter().all(|c| (c - 10_000).abs() < 463), "{counts:?}");
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut s = stream(0, Purpose::Init, 0, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| s.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        // Five standard errors: 5/√n for the mean, 5·√(2/n) for the variance.
        assert!(mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023, "{mean} {variance}");
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        stream(9, Purpose::Shuffle, 0, 0).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
