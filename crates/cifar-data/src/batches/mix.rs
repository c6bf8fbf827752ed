//! Mixup: each image of a batch becomes a weighted mean of itself and the next one (Zhang et al.
//! 2018, arXiv 1710.09412).

use crate::SampleId;
use crate::random::{Purpose, Stream, stream};

/// The mixtures of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// Label of the second image of each mixture.
    pub partner_labels: Vec<u32>,
    /// Fraction of the first image in each mixture, 0..=1; the rest is the second one.
    pub shares: Vec<f32>,
}

/// Mixes every image with the next one of the batch, and the last one with the first. The order of
/// an epoch is random, so this is a random partner.
///
/// Fractions are drawn from Beta(`alpha`, `alpha`) by seed, visit and id. Values are rounded to
/// bytes, which changes them by at most 1/510 of the range, far less than an image's noise.
pub(super) fn mix(
    ids: &[SampleId],
    visits: impl Iterator<Item = u64>,
    labels: &[u32],
    pixels: &mut [u8],
    alpha: f64,
    seed: u64,
) -> Mix {
    let draw =
        |(id, visit): (&SampleId, u64)| beta(&mut stream(seed, Purpose::Mixup, visit, u64::from(id.0)), alpha) as f32;
    let shares: Vec<f32> = ids.iter().zip(visits).map(draw).collect();
    let mut partner_labels = labels.to_vec();
    let bytes = pixels.len() / ids.len().max(1);
    if bytes > 0 {
        partner_labels.rotate_left(1);
        let first = pixels[..bytes].to_vec();
        for (index, share) in shares.iter().enumerate() {
            let (image, next) = pixels[index * bytes..].split_at_mut(bytes);
            // The next image is still unmixed, except after the last one.
            let next = if next.is_empty() { &first } else { &next[..bytes] };
            for (a, b) in image.iter_mut().zip(next) {
                *a = (share * f32::from(*a) + (1.0 - share) * f32::from(*b)).round() as u8;
            }
        }
    }
    Mix { partner_labels, shares }
}

/// Returns a draw from Beta(α, α), as X / (X + Y) of two draws from Gamma(α).
fn beta(random: &mut Stream, alpha: f64) -> f64 {
    let (x, y) = (gamma(random, alpha), gamma(random, alpha));
    // If α is so small that both vanish, the distribution is close to a coin toss.
    if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(random.chance(0.5))) }
}

/// Returns a draw from Gamma(`shape`, 1) by rejection (Marsaglia & Tsang 2000). A shape below 1
/// uses the draw for `shape` + 1, times U^(1 / shape).
fn gamma(random: &mut Stream, shape: f64) -> f64 {
    if shape < 1.0 {
        let power = libm::log(1.0 - random.unit()) / shape;
        return gamma(random, shape + 1.0) * libm::exp(power);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = random.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - random.unit();
        if v > 0.0 && libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_its_mean_and_variance() {
        for alpha in [0.05, 0.2, 0.9, 1.0, 1.7, 10.0] {
            let mut random = stream(1, Purpose::Mixup, 0, 0);
            let draws: Vec<f64> = (0..40_000).map(|_| beta(&mut random, alpha)).collect();
            let mean = draws.iter().sum::<f64>() / 4e4;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4e4;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            // Five standard errors of a mean, and of a variance whose fourth moment is at most a
            // quarter of the second.
            assert!((mean - 0.5).abs() < 5.0 * (expected / 4e4).sqrt(), "{alpha}: {mean}");
            assert!((variance - expected).abs() < 5.0 * (expected / 4.0 / 4e4).sqrt(), "{alpha}: {variance}");
        }
    }

    #[test]
    fn a_vanishing_shape_gives_0_or_1() {
        let mut random = stream(1, Purpose::Mixup, 0, 0);
        let draws: Vec<f64> = (0..100).map(|_| beta(&mut random, 1e-9)).collect();
        assert!(draws.iter().all(|x| [0.0, 1.0].contains(x)) && draws.contains(&0.0) && draws.contains(&1.0));
    }
}
