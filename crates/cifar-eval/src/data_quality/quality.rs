//! What can be said of one image by its pixels alone, and which of it is a reason to look.
//!
//! All tests are absolute: an image passes or fails whatever the others look like. Thresholds were found by looking at the
//! extremes of CIFAR-10; there each test picks less than two in a thousand.

use serde::{Deserialize, Serialize};

/// Brightness up to which an image is dark, if 99 % of its pixels are no brighter; 0 to 255.
const DARK: u8 = 100;
/// Brightness from which an image is bright, if 95 % of its pixels are no darker; 0 to 255.
const BRIGHT: u8 = 180;
/// Bits a pixel below which an image has little information: entropy of its brightness, 0 to 8.
const LOW_INFORMATION: f64 = 4.0;
/// Sharpness below which an image is blurred.
const BLURRED: f64 = 0.3;

/// A reason to look at an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issue {
    /// Hardly anything in it is bright.
    Dark,
    /// Hardly anything in it is dark.
    Bright,
    /// Nearly all of it has the same brightness.
    LowInformation,
    /// It changes slowly from pixel to pixel, for the contrast that it has.
    Blurred,
}

impl Issue {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Dark, Self::Bright, Self::LowInformation, Self::Blurred];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Bright => "bright",
            Self::LowInformation => "low_information",
            Self::Blurred => "blurred",
        }
    }

    /// The test in words.
    pub fn test(self) -> String {
        match self {
            Self::Dark => format!("99 % of the pixels have a brightness of at most {DARK} of 255"),
            Self::Bright => format!("95 % of the pixels have a brightness of at least {BRIGHT} of 255"),
            Self::LowInformation => format!("the entropy of brightness is below {LOW_INFORMATION} bits a pixel"),
            Self::Blurred => {
                format!("the deviation of the Laplacian is below {BLURRED} of the deviation of brightness")
            }
        }
    }
}

/// Measures of one image: of its brightness, 0 to 255 with the weights of JPEG, if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub contrast: f64,
    /// 99 % of the pixels are no brighter.
    pub bright_end: u8,
    /// 95 % of the pixels are no darker.
    pub dark_end: u8,
    /// Of the distribution, bits a pixel.
    pub entropy: f64,
    /// Greatest less smallest of red, green and blue, mean over the pixels; 0 to 255, 0 for grey images.
    pub saturation: f64,
    /// Standard deviation of the Laplacian (four neighbours) over the contrast; none for an image without contrast, or of
    /// fewer than three pixels a side.
    pub sharpness: Option<f64>,
}

impl Quality {
    /// Measures an image of `width` pixels a row, RGB.
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
            // The window begins above the pixel and ends below it; those at the left and right edge have no neighbour.
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

    /// The tests that the image fails, each with the measure that decided.
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

/// Mean and standard deviation; zeros of nothing.
fn moments(values: impl Iterator<Item = i32>) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0i64, 0i64, 0i64);
    for value in values {
        let value = i64::from(value);
        n += 1;
        sum += value;
        squares += value * value;
    }
    let count = n.max(1) as f64;
    // Whole numbers until here, so that equal values have no deviation at all.
    let spread = (n * squares - sum * sum).max(0) as f64;
    (sum as f64 / count, spread.sqrt() / count)
}

/// The smallest value that so large a share of the pixels does not exceed.
fn quantile(counts: &[u32; 256], share: f64) -> u8 {
    let wanted = share * f64::from(counts.iter().sum::<u32>());
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

    /// A grey image.
    fn image(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|at| [value(at / SIDE, at % SIDE); 3]).collect()
    }

    fn check(name: &str, pixels: &[u8], expected: &[Issue]) {
        let quality = Quality::of(pixels, SIDE);
        let found: Vec<Issue> = quality.issues().into_iter().map(|(issue, _)| issue).collect();
        assert_eq!(found, expected, "{name}: {quality:?}");
    }

    /// Different at every pixel, and by much.
    fn scattered(y: usize, x: usize) -> u8 {
        ((y * 37 + x * 101 + y * x * 7) % 256) as u8
    }

    #[test]
    fn each_test_finds_its_image_and_no_other() {
        check("scattered", &image(scattered), &[]);
        check("dark", &image(|y, x| scattered(y, x) / 3), &[Issue::Dark]);
        check("bright", &image(|y, x| 255 - scattered(y, x) / 4), &[Issue::Bright]);
        check("two shades", &image(|y, x| if (y + x) % 2 == 0 { 40 } else { 200 }), &[Issue::LowInformation]);
        let wave = |y: usize, x: usize| (128.0 + 100.0 * ((y as f64 / 9.0).sin() * (x as f64 / 11.0).cos())) as u8;
        check("slow", &image(wave), &[Issue::Blurred]);
        check("black", &image(|_, _| 0), &[Issue::Dark, Issue::LowInformation]);
    }

    #[test]
    fn measures_are_what_they_say() {
        let quality = Quality::of(&image(|_, x| if x < 16 { 50 } else { 150 }), SIDE);
        assert_eq!((quality.mean, quality.contrast, quality.entropy), (100.0, 50.0, 1.0));
        assert_eq!((quality.dark_end, quality.bright_end), (50, 150));
        // Two columns of 30 have a step of 100 beside them; one goes up, one down.
        let change = (2.0 * 100.0_f64.powi(2) / 30.0).sqrt();
        assert!((quality.sharpness.expect("it has contrast") - change / 50.0).abs() < 1e-12);
        let saturation = |pixels: &[u8]| Quality::of(pixels, 2).saturation;
        assert!(saturation(&[9; 6]).abs() < 1e-12 && (saturation(&[0, 50, 200, 10, 10, 40]) - 115.0).abs() < 1e-12);
        assert_eq!(Quality::of(&[7; 3], 1).sharpness, None);
        assert_eq!(Quality::of(&[], 0).sharpness, None);
    }
}
