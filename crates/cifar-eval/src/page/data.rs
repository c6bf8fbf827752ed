//! Input types of the hard-images page.

use std::collections::BTreeMap;

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Entries, Review};
use cifar_data::splits::Split;
use cifar_data::{Content, Header, SampleId};

use crate::measures::Measures;

/// Everything that the page shows. The page reads and computes nothing else.
#[derive(Debug, Clone, Copy)]
pub struct PageData<'a> {
    /// Classes, image size and data source. A synthetic source adds a banner to the page.
    pub header: &'a Header,
    /// The partitions, for example `v1+v2`.
    pub dataset_version: &'a str,
    /// A short description of the model, for example `airbench94, 8 epochs`.
    pub model: &'a str,
    /// The seeds of the runs that produced the measures.
    pub seeds: &'a [u64],
    /// A fingerprint of the data. The browser stores decisions under it, one store per data set.
    pub fingerprint: &'a str,
    /// One row per image of all splits, hardest first. The position of a row is the image's rank.
    pub rows: &'a [Row<'a>],
    /// Pairs of similar images, most important first.
    pub pairs: &'a [Pair],
    /// Patterns among misclassified images.
    pub patterns: &'a Patterns,
    /// Why categories that need a competent network are empty for some images. Whole sentences,
    /// often none.
    pub withheld: &'a [String],
    /// Earlier decisions, from `labels/review.csv`. Those about images without a row are kept.
    pub review: &'a Entries<Review>,
    /// Which images have their pixels embedded in the file.
    pub embed: Embed,
    /// Class-activation maps of the embedded images ([`embedded_rows`](super::embedded_rows)), if
    /// the network has some.
    pub activation_maps: Option<&'a ActivationMaps>,
}

/// What each place of an image adds to the logit of the class that is predicted for it; see
/// [`Model::class_activations`](cifar_model::Model::class_activations).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivationMaps {
    /// Rows and columns of a map.
    pub size: [usize; 2],
    /// The map of each embedded image, row by row.
    pub maps: BTreeMap<SampleId, Vec<f32>>,
}

/// One image. `hard_images.csv` has the same columns.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its id.
    pub id: SampleId,
    /// The hash of its pixels, stored next to the id in `review.csv`.
    pub content: Content,
    /// Its split.
    pub split: Split,
    /// Its file name, as in the manifest.
    pub file: &'a str,
    /// The current label, an index into the classes.
    pub label: u16,
    /// The label before any correction.
    pub original_label: u16,
    /// The class that the network predicts.
    pub predicted: u16,
    /// The class that the analysis suggests as label, if any.
    pub suggested: Option<u16>,
    /// Its measures.
    pub measures: Measures,
    /// Its category, for example `ambiguous`. Empty if the image is not flagged.
    pub category: &'a str,
    /// Why it is in this category, in words. May be empty.
    pub reason: &'a str,
    /// The nearest training images in feature space, nearest first. Each needs a row.
    pub neighbours: &'a [SampleId],
    /// Its position on the map of features, in any unit; none if it is not on the map.
    pub position: Option<[f32; 2]>,
    /// height × width × RGB, one byte per value.
    pub pixels: &'a [u8],
}

/// Statistically significant patterns among misclassified images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patterns {
    /// Number of patterns that were tested, significant or not.
    pub tested: usize,
    /// False discovery rate of the significant ones, for example 0.05 (Benjamini & Hochberg 1995).
    pub level: f64,
    /// The significant patterns, strongest first.
    pub significant: Vec<PatternLine>,
}

/// A statistically significant pattern, as the page shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternLine {
    /// The pattern in words, a whole sentence.
    pub sentence: String,
    /// Its effect size in words, for example `odds ratio 2.1`.
    pub effect: String,
    /// Number of images in the test.
    pub n: usize,
    /// The q value, at most [`Patterns::level`].
    pub q: f64,
}

/// Which images have their pixels embedded in the file. The page lists all other images without a
/// picture and says how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embed {
    /// The number of hardest images to embed.
    pub images: usize,
    /// The number of hardest images whose neighbours are embedded.
    pub neighbours_of: usize,
    /// The number of pairs, from the first, whose images are embedded.
    pub pairs: usize,
    /// The number of images to embed with the highest outlier scores.
    pub outliers: usize,
    /// The number of images of the map to embed, evenly by rank.
    pub of_map: usize,
}

impl Default for Embed {
    /// A file of about 12 MB for 20,000 photographs of 32×32 pixels.
    fn default() -> Self {
        Self { images: 2000, neighbours_of: 200, pairs: 200, outliers: 200, of_map: 400 }
    }
}
