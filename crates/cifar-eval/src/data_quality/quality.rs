//! Quality measures of one image, and the tests that flag suspicious images.
//!
//! The tests are absolute: whether an image fails does not depend on other images. The thresholds
//! come from the extremes of CIFAR-10, where each test flags fewer than 2 in 1,000 images.

use serde::{Deserialize, Serialize};

/// An image is dark if 99 % of its pixels have at most this brightness, 0 to 255.
const DARK: u8 = 100;
/// An image is bright if 95 % of its pixels have at least this brightness, 0 to 255.
const BRIGHT: u8 = 180;
/// An image has little information if the entropy of its brightness is below this value, in bits
/// per pixel, 0 to 8.
const LOW_INFORMATION: f64 = 4.0;
/// An image is blurred if its sharpness is below this value.
const BLURRED: f64 = 0.3;

/// A test that flags suspicious images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issue {
    /// Almost all pixels are dark.
    Dark,
    /// Almost all pixels are bright.
    Bright,
    /// The entropy of the brightness is low.
    LowInformation,
    /// Neighbouring pixels differ little, relative to the contrast.
    Blurred,
}

impl Issue {
    /// All tests, in display order.
    pub const ALL: [Self; 4] = [Self::Dark, Self::Bright, Self::LowInformation, Self::Blurred];

    /// Returns the name used in files.
    ///
    /// ```
    /// use cifar_eval::data_quality::Issue;
    ///
    /// assert_eq!(Issue::LowInformation.name(), "low_information");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Bright => "bright",
            Self::LowInformation => "low_information",
            Self::Blurred => "blurred",
        }
    }

    /// Returns the criterion in words.
    ///
    /// ```
    /// use cifar_eval::data_quality::Issue;
    ///
    /// let criterion = Issue::Dark.test();
    /// assert_eq!(criterion, "99 % of the pixels have a brightness of at most 100 of 255");
    /// ```
    pub fn test(self) -> String {
        match self {
            Self::Dark => format!("99 % of the pixels have a brightness of at most {DARK} of 255"),
            Self::Bright => format!("95 % of the pixels have a brightness of at least {BRIGHT} of 255"),
            Self::LowInformation => format!("the entropy of brightness is below {LOW_INFORMATION} bits per pixel"),
            Self::Blurred => {
                format!("the standard deviation of the Laplacian is below {BLURRED} times that of the brightness")
            }
        }
    }
}

/// Quality measures of one image.
///
/// Brightness is the luma of JPEG, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Mean brightness.
    pub mean: f64,
    /// Standard deviation of the brightness.
    pub contrast: f64,
    /// The 99 % quantile of the brightness.
    pub bright_end: u8,
    /// The 5 % quantile of the brightness.
    pub dark_end: u8,
    /// Entropy of the brightness histogram in bits per pixel, 0 to 8.
    pub entropy: f64,
    /// Maximum minus minimum of red, green and blue, mean over pixels, 0 to 255. 0 if grey.
    pub saturation: f64,
    /// Standard deviation of the Laplacian (four neighbours), divided by the contrast. `None` for
    /// an image without contrast or with a side below three pixels.
    pub sharpness: Option<f64>,
}

impl Quality {
    /// Measures an RGB image with `width` pixels per row, one byte per value.
    ///
    /// ```
    /// use cifar_eval::data_quality::{Issue, Quality};
    ///
    /// let black = Quality::of(&[0; 32 * 32 * 3], 32);
    /// assert_eq!((black.mean, black.contrast, black.sharpness), (0.0, 0.0, None));
    /// let issues: Vec<Issue> = black.issues().into_iter().map(|(issue, _)| issue).collect();
    /// assert_eq!(issues, [Issue::Dark, Issue::LowInformation]);
    /// ```
    pub fn of(pixels: &[u8], width: usize) -> Self {
        let luma: Vec<i32> = pixels
            .chunks_exact(3)
            .map(|p| (77 * i32::from(p[0]) + 150 * i32::from(p[1]) + 29 * i32::from(p[2]) + 128) >> 8)
            .collect();
        let mut counts = [0u32; 256];
        for value in &luma {
            counts[*value as usize] += 1;
        }
        let n = luma.len().max(1) as f64;
        let (mean, contrast) = moments(luma.iter().copied());
        let entropy = counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / n).map(|p| -p * libm::log2(p)).sum();
        let laplacian = luma.windows(width.max(1) * 2 + 1).enumerate().filter_map(|(at, window)| {
            // The window spans from the pixel above to the one below. Edge pixels lack a neighbour.
            let inside = (1..width.saturating_sub(1)).contains(&(at % width.max(1)));
            let middle = width;
            inside.then(|| 4 * window[middle] - window[0] - window[middle - 1] - window[middle + 1] - window[2 * width])
        });
        let (_, change) = moments(laplacian);
        let saturation: u32 =
            (pixels.chunks_exact(3)).map(|p| u32::from(p[0].max(p[1]).max(p[2]) - p[0].min(p[1]).min(p[2]))).sum();
        let has_inside = width > 2 && luma.len() / width.max(1) > 2;
        Self {
            mean,
            contrast,
            bright_end: quantile(&counts, 0.99),
            dark_end: quantile(&counts, 0.05),
            entropy,
            saturation: f64::from(saturation) / n,
            sharpness: (contrast > 0.0 && has_inside).then(|| change / contrast),
        }
    }

    /// Returns the tests that the image fails, each with the measure that was tested.
    pub fn issues(&self) -> Vec<(Issue, f64)> {
        let mut issues = Vec::new();
        if self.bright_end <= DARK {
            issues.push((Issue::Dark, f64::from(self.bright_end)));
        }
        if self.dark_end >= BRIGHT {
            issues.push((Issue::Bright, f64::from(self.dark_end)));
        }
        if self.entropy < LOW_INFORMATION {
            issues.push((Issue::LowInformation, self.entropy));
        }
        if let Some(sharpness) = self.sharpness.filter(|sharpness| *sharpness < BLURRED) {
            issues.push((Issue::Blurred, sharpness));
        }
        issues
    }
}

/// Returns mean and standard deviation, or zeros without values.
fn moments(values: impl Iterator<Item = i32>) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0i64, 0i64, 0i64);
    for value in values {
        let value = i64::from(value);
        n += 1;
        sum += value;
        squares += value * value;
    }
    let count = n.max(1) as f64;
    // Integers up to here, so that equal values have a deviation of exactly zero.
    let spread = (n * squares - sum * sum).max(0) as f64;
    (sum as f64 / count, spread.sqrt() / count)
}

/// Returns the smallest value that at least the given fraction of pixels do not exceed.
fn quantile(counts: &[u32; 256], fraction: f64) -> u8 {
    let wanted = fraction * f64::from(counts.iter().sum::<u32>());
    let mut seen = 0.0;
    for (value, count) in (0..=255).zip(counts) {
        seen += f64::from(*count);
        if seen >= wanted && seen > 0.0 {
            return value;
        }
    }
    255
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 32;

    /// Builds a grey image.
    fn image(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|at| [value(at / SIDE, at % SIDE); 3]).collect()
    }

    fn check(name: &str, pixels: &[u8], expected: &[Issue]) {
        let quality = Quality::of(pixels, SIDE);
        let found: Vec<Issue> = quality.issues().into_iter().map(|(issue, _)| issue).collect();
        assert_eq!(found, expected, "{name}: {quality:?}");
    }

    /// Varies strongly from pixel to pixel.
    fn scattered(y: usize, x: usize) -> u8 {
        ((y * 37 + x * 101 + y * x * 7) % 256) as u8
    }

    #[test]
    fn each_test_flags_only_its_own_image() {
        check("scattered", &image(scattered), &[]);
        check("dark", &image(|y, x| scattered(y, x) / 3), &[Issue::Dark]);
        check("bright", &image(|y, x| 255 - scattered(y, x) / 4), &[Issue::Bright]);
        check("two shades", &image(|y, x| if (y + x) % 2 == 0 { 40 } else { 200 }), &[Issue::LowInformation]);
        let wave = |y: usize, x: usize| (128.0 + 100.0 * ((y as f64 / 9.0).sin() * (x as f64 / 11.0).cos())) as u8;
        check("slow", &image(wave), &[Issue::Blurred]);
        check("black", &image(|_, _| 0), &[Issue::Dark, Issue::LowInformation]);
    }

    #[test]
    fn measures_match_hand_computed_values() {
        let quality = Quality::of(&image(|_, x| if x < 16 { 50 } else { 150 }), SIDE);
        assert_eq!((quality.mean, quality.contrast, quality.entropy), (100.0, 50.0, 1.0));
        assert_eq!((quality.dark_end, quality.bright_end), (50, 150));
        // Two of 30 columns are next to a step of 100, one up and one down.
        let change = (2.0 * 100.0_f64.powi(2) / 30.0).sqrt();
        assert!((quality.sharpness.expect("the image has contrast") - change / 50.0).abs() < 1e-12);
        let saturation = |pixels: &[u8]| Quality::of(pixels, 2).saturation;
        assert!(saturation(&[9; 6]).abs() < 1e-12 && (saturation(&[0, 50, 200, 10, 10, 40]) - 115.0).abs() < 1e-12);
        assert_eq!(Quality::of(&[7; 3], 1).sharpness, None);
        assert_eq!(Quality::of(&[], 0).sharpness, None);
    }
}
