//! The correlation of two images in brightness and colours.

use super::thumbnail::Thumbnail;

/// Sums over pairs of points, one of each image.
#[derive(Default)]
pub(super) struct ColourSums {
    luma: Moments,
    chroma: Moments,
}

impl ColourSums {
    /// Adds one point of each image.
    pub(super) fn add(&mut self, [first, second]: [&Thumbnail; 2], [one, other]: [usize; 2]) {
        self.luma.add(first.luma[one], second.luma[other]);
        for (first, second) in first.chroma.iter().zip(&second.chroma) {
            self.chroma.add(first[one], second[other]);
        }
    }

    /// Returns the correlation of brightness (after subtracting its mean) and colours, −1 to 1.
    pub(super) fn correlation(&self) -> f64 {
        let Self { luma, chroma } = self;
        // Both sums are multiplied by the number of points, which keeps them integers. The mean of
        // a colour is not subtracted: it is part of the picture.
        let [aa, ab, bb] = [
            luma.n * (luma.aa + chroma.aa) - luma.a * luma.a,
            luma.n * (luma.ab + chroma.ab) - luma.a * luma.b,
            luma.n * (luma.bb + chroma.bb) - luma.b * luma.b,
        ];
        ab as f64 / (aa.max(1) as f64 * bb.max(1) as f64).sqrt()
    }
}

/// Sums over pairs of values.
#[derive(Default)]
struct Moments {
    n: i64,
    a: i64,
    b: i64,
    aa: i64,
    ab: i64,
    bb: i64,
}

impl Moments {
    fn add(&mut self, a: i32, b: i32) {
        let (a, b) = (i64::from(a), i64::from(b));
        self.n += 1;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.ab += a * b;
        self.bb += b * b;
    }
}
