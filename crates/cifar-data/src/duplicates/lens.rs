//! Pairs of images of which a part agrees: a window of one with the whole of the other, or the same
//! strip of both.

use rayon::prelude::*;

use super::Image;
use super::grid::Grid;
use super::sketch::{BYTES, Sketch};
use super::thumbnail::{ImageSums, Thumbnail};
use super::zoom::Window;

/// A window in 32nds of the sides: first row and column, height and width.
const fn window(top: i32, left: i32, height: i32, width: i32) -> Window {
    Window { start: [16 * top, 16 * left], length: [16 * height, 16 * width] }
}

/// The same in half 32nds.
const fn finer(top: i32, left: i32, height: i32, width: i32) -> Window {
    Window { start: [8 * top, 8 * left], length: [8 * height, 8 * width] }
}

/// What is compared with whole images: what is left of an image that was cut on one side or all
/// around, and the picture within bars. A sketch forgives two points and a fifteenth of the size,
/// so these cover what lies between them.
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
/// Strips of which one at least is left where something covers a quarter of an image. The last two
/// lie opposite each other, and the two before them.
const STRIPS: [Window; 6] = [
    window(0, 0, 24, 32),
    window(8, 0, 24, 32),
    window(0, 0, 12, 32),
    window(20, 0, 12, 32),
    window(0, 0, 32, 12),
    window(0, 20, 32, 12),
];
/// The strip that shows the same of a mirrored image.
const MIRRORED: [usize; STRIPS.len()] = [0, 1, 2, 3, 5, 4];
/// Sketches that differ by more, on the average of their bytes, are not looked at closely. 95 % of
/// planted copies of CIFAR-10 differ by less than 9 (bars), 8 (crops), 6 (cut) and 2 (captions).
const MOST_WINDOW_DISTANCE: u32 = 10 * BYTES as u32;
const MOST_STRIP_DISTANCE: u32 = 4 * BYTES as u32;
/// How far the gist of sketches may differ, in hundredths of its standard deviation.
const WINDOW_TOLERANCE: i32 = 40;
const STRIP_TOLERANCE: i32 = 20;
/// Strips with less contrast, in sixteenths of a level, are all alike.
const LEAST_STRIP_CONTRAST: i32 = 8 * 16;
/// Candidates of one image at most, those with the least distance first.
const MOST_CANDIDATES: usize = 64;

/// Another image that could show the same picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) image: u32,
    pub(super) mirrored: bool,
    distance: u32,
    lens: u32,
}

impl Candidate {
    /// The window of the first image that shows what the whole other one does.
    pub(super) fn window(&self) -> Window {
        WINDOWS[self.lens as usize]
    }
}

/// Candidates of an image by the way in which they may agree.
pub(super) struct Candidates {
    /// A window of it with the whole other one.
    pub(super) windows: Vec<Candidate>,
    /// A strip with the same one of the other.
    pub(super) strips: Vec<Candidate>,
}

/// The sketches of all whole images, and of all their strips.
pub(super) struct Index {
    whole: Grid,
    strips: Vec<Grid>,
}

impl Index {
    /// Of the images at `places`; a number is a place among these.
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

    /// Other images of which a part agrees with `image`, the one of this number.
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
                    // The other image has this one as a candidate, too: one of them is enough.
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

/// The best one of each image and way; of these the best.
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
