//! What the page of hard images is made from.

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Entries, Review};
use cifar_data::splits::Split;
use cifar_data::{Content, Header, SampleId};

use crate::measures::Measures;

/// Everything that the page shows. Plain data: nothing is read or computed by the page that is not in here.
#[derive(Debug, Clone, Copy)]
pub struct PageData<'a> {
    /// Classes, size of images and where they came from. A synthetic source puts a banner over the page.
    pub header: &'a Header,
    /// The partitions, such as `v1+v2`.
    pub dataset_version: &'a str,
    /// What was trained, in a few words, such as `airbench94, 8 epochs`.
    pub model: &'a str,
    /// The seeds of the runs that the measures come from.
    pub seeds: &'a [u64],
    /// A fingerprint of the data. A browser keeps decisions under it, so that those for other data stay apart.
    pub fingerprint: &'a str,
    /// A row an image, of every split, hardest first: an image's rank is its place.
    pub rows: &'a [Row<'a>],
    /// Pairs of images that look alike, the most telling first.
    pub pairs: &'a [Pair],
    /// What the mistakes have in common.
    pub patterns: &'a Patterns,
    /// Why some images have no category that rests on the network's answers: whole sentences, often none.
    pub withheld: &'a [String],
    /// The decisions of before, from `labels/review.csv`. Those on images that are not among the rows are kept.
    pub review: &'a Entries<Review>,
    /// Whose pictures the file holds.
    pub embed: Embed,
}

/// One image. `hard_images.csv` has the same columns.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its identity.
    pub id: SampleId,
    /// What it shows: goes beside the id in `review.csv`.
    pub content: Content,
    /// Its split.
    pub split: Split,
    /// Its file, as in the manifest.
    pub file: &'a str,
    /// The label in force, an index into the classes.
    pub label: u16,
    /// The label before any correction.
    pub original_label: u16,
    /// The class that the network finds most probable.
    pub predicted: u16,
    /// The class that the analysis would give it, if it has a suggestion.
    pub suggested: Option<u16>,
    /// Figures.
    pub measures: Measures,
    /// What kind of trouble this is, such as `ambiguous`; empty for an image that was not flagged.
    pub category: &'a str,
    /// Why it is in this category, in words; may be empty.
    pub reason: &'a str,
    /// The nearest training images by the network's features, nearest first; each is among the rows.
    pub neighbours: &'a [SampleId],
    /// height × width × RGB.
    pub pixels: &'a [u8],
}

/// What the mistakes have in common, as far as it survives statistics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patterns {
    /// How many patterns were tested, told or not.
    pub tested: usize,
    /// The false discovery rate that the told ones keep to, such as 0.05 (Benjamini & Hochberg 1995).
    pub level: f64,
    /// Those that survived, strongest first.
    pub told: Vec<PatternLine>,
}

/// A pattern that survived, as the page shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternLine {
    /// What it is, in words: a whole sentence.
    pub sentence: String,
    /// Its size, in words, such as `odds ratio 2.1`.
    pub effect: String,
    /// Images that it was found on.
    pub n: usize,
    /// The q value, not above [`Patterns::level`].
    pub q: f64,
}

/// Whose pictures the file holds. All other images are listed without theirs, and the page says how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embed {
    /// The hardest so many images.
    pub images: usize,
    /// The neighbours of the hardest so many.
    pub neighbours_of: usize,
    /// Both images of the first so many pairs.
    pub pairs: usize,
}

impl Default for Embed {
    /// About 10 MB for photographs of 32×32 pixels.
    fn default() -> Self {
        Self { images: 2000, neighbours_of: 200, pairs: 200 }
    }
}
