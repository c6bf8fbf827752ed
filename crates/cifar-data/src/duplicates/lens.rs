//! Candidate pairs that agree in part: a window of one image with the whole other image, or the
//! same strip of both.

use rayon::prelude::*;

use super::Image;
use super::grid::Grid;
use super::sketch::{BYTES, Sketch};
use super::thumbnail::{ImageSums, Thumbnail};
use super::zoom::Window;

/// A window in 32nds of the sides: first row, first column, height and width.
const fn window(top: i32, left: i32, height: i32, width: i32) -> Window {
    Window { start: [16 * top, 16 * left], length: [16 * height, 16 * width] }
}

/// The same in 64ths.
const fn finer(top: i32, left: i32, height: i32, width: i32) -> Window {
    Window { start: [8 * top, 8 * left], length: [8 * height, 8 * width] }
}

/// The windows that are compared with whole images: what remains of an image that was cropped on
/// one side or all around, and the picture within bars. A sketch tolerates shifts of two points and
/// a fifteenth of the size, so these cover the sizes between them.
pub(super) const WINDOWS: [Window; 14] = [
    finer(2, 0, 54, 64),
    finer(8, 0, 54, 64),
    finer(2, 0, 49, 64),
    finer(7, 0, 49, 64),
    finer(13, 0, 49, 64),
    finer(0, 2, 64, 54),
    finer(0, 8, 64, 54),
    finer(0, 2, 64, 49),
    finer(0, 7, 64, 49),
    finer(0, 13, 64, 49),
    finer(2, 2, 55, 55),
    finer(2, 7, 55, 55),
    finer(7, 2, 55, 55),
    finer(7, 7, 55, 55),
];
/// Strips. If something covers a quarter of an image, at least one remains visible. The last two
/// are opposite each other, and so are the two before them.
const STRIPS: [Window; 6] = [
    window(0, 0, 24, 32),
    window(8, 0, 24, 32),
    window(0, 0, 12, 32),
    window(20, 0, 12, 32),
    window(0, 0, 32, 12),
    window(0, 20, 32, 12),
];
/// Returns the strip that shows the same part of a mirrored image.
const MIRRORED: [usize; STRIPS.len()] = [0, 1, 2, 3, 5, 4];
/// Maximum mean difference of the bytes of two sketches for a closer look. Of planted copies of
/// CIFAR-10, 95 % differ by less than 9 (bars), 8 (crops), 6 (cuts) and 2 (captions).
const MOST_WINDOW_DISTANCE: u32 = 10 * BYTES as u32;
const MOST_STRIP_DISTANCE: u32 = 4 * BYTES as u32;
/// Maximum difference of the gists of two sketches, in hundredths of its standard deviation.
const WINDOW_TOLERANCE: i32 = 40;
const STRIP_TOLERANCE: i32 = 20;
/// Minimum contrast of a strip, in sixteenths of a level. Strips with less all look alike.
const LEAST_STRIP_CONTRAST: i32 = 8 * 16;
/// Maximum number of candidates per image; those with the smallest distance come first.
const MOST_CANDIDATES: usize = 64;

/// An image that could show the same picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) image: u32,
    pub(super) mirrored: bool,
    distance: u32,
    lens: u32,
}

impl Candidate {
    /// The window of the first image that shows the whole other image.
    pub(super) fn window(&self) -> Window {
        WINDOWS[self.lens as usize]
    }
}

/// The candidates of an image by the way in which they may agree.
pub(super) struct Candidates {
    /// A window of the image with the whole other image.
    pub(super) windows: Vec<Candidate>,
    /// A strip with the same strip of the other image.
    pub(super) strips: Vec<Candidate>,
}

/// The sketches of all whole images and of all their strips.
pub(super) struct Index {
    whole: Grid,
    strips: Vec<Grid>,
}

impl Index {
    /// Creates the sketches of the images at `places`. Numbers of images are indices into these.
    pub(super) fn of(images: &[Image], places: &[usize], whole: &[Sketch]) -> Self {
        let whole = Grid::of(&(0..).zip(whole.iter().copied()).collect::<Vec<_>>(), WINDOW_TOLERANCE);
        let sketches: Vec<[Option<Sketch>; STRIPS.len()]> =
            places.par_iter().map(|place| strips(&sums(&images[*place]))).collect();
        let strip = |strip: usize| -> Grid {
            let numbered = (0..).zip(&sketches).filter_map(|(at, sketches)| Some((at, sketches[strip]?)));
            Grid::of(&numbered.collect::<Vec<_>>(), STRIP_TOLERANCE)
        };
        Self { whole, strips: (0..STRIPS.len()).into_par_iter().map(strip).collect() }
    }

    /// Returns other images that agree in part with `image`, whose number is given.
    pub(super) fn candidates(&self, image: &Image, number: u32) -> Candidates {
        let sums = sums(image);
        let (mut windows, mut found) = (Vec::new(), Vec::new());
        let ways = |sketch: Sketch| [(false, sketch), (true, sketch.mirrored())];
        for (lens, window) in (0..).zip(&WINDOWS) {
            for (mirrored, sketch) in ways(Sketch::of(&sums, window).0) {
                self.whole.near(&sketch, MOST_WINDOW_DISTANCE, |image, distance| {
                    windows.push(Candidate { image, mirrored, distance, lens });
                });
            }
        }
        for (lens, sketch) in strips(&sums).into_iter().enumerate() {
            for (mirrored, sketch) in sketch.into_iter().flat_map(ways) {
                let other = if mirrored { MIRRORED[lens] } else { lens };
                self.strips[other].near(&sketch, MOST_STRIP_DISTANCE, |image, distance| {
                    // The other image has this one as a candidate, too. One of them is enough.
                    if image > number {
                        found.push(Candidate { image, mirrored, distance, lens: lens as u32 });
                    }
                });
            }
        }
        Candidates { windows: best(windows, number), strips: best(found, number) }
    }
}

fn sums(image: &Image) -> ImageSums {
    ImageSums::of(&Thumbnail::new(image.pixels, image.size))
}

fn strips(sums: &ImageSums) -> [Option<Sketch>; STRIPS.len()] {
    STRIPS.map(|strip| {
        let (sketch, contrast) = Sketch::of(sums, &strip);
        (contrast >= LEAST_STRIP_CONTRAST).then_some(sketch)
    })
}

/// Returns the best candidate of each image and way, and of these the best ones.
fn best(mut found: Vec<Candidate>, number: u32) -> Vec<Candidate> {
    found.retain(|candidate| candidate.image != number);
    found.sort_unstable();
    found.dedup_by_key(|candidate| (candidate.image, candidate.mirrored));
    if found.len() > MOST_CANDIDATES {
        found.sort_unstable_by_key(|candidate| (candidate.distance, candidate.image, candidate.mirrored));
        found.truncate(MOST_CANDIDATES);
    }
    found
}
