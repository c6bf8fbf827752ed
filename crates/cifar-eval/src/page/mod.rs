//! The hard-images page: one self-contained HTML file that opens from disk and makes no request.
//!
//! - [`hard_images_page`] renders [`PageData`] as the page;
//! - `shell` and `sheets` hold the parts of any such page: the document, safely escaped data, and
//!   images packed into PNG sheets;
//! - `assets/` holds the style sheets and scripts. There is no build step.
//!
//! Decisions of a reviewer stay in the browser until they are saved as `review.csv`, with the
//! columns `id,content,file,decision,label,note` (see [`Decision`]), ids ascending. By convention
//! that file is kept as `labels/review.csv`.

mod body;
mod data;
mod payload;
mod sheets;
mod shell;

use cifar_data::SampleId;

pub use crate::measures::Measures;
pub use cifar_data::labels::{Decision, Entries, Entry, Review};
pub use data::{ActivationMaps, Embed, PageData, PatternLine, Patterns, Row};
pub use payload::embedded_rows;

/// Why the page cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Two rows have the same id.
    #[error("hard-images page: image {id} appears twice; each image needs exactly one row")]
    DuplicateImage {
        /// The image.
        id: SampleId,
    },
    /// A neighbour list or a pair names an image that has no row.
    #[error("hard-images page: image {id}, {role}, has no row; add one for every pair and neighbour")]
    UnknownImage {
        /// Where the image is named.
        role: String,
        /// The image.
        id: SampleId,
    },
    /// A label is not an index into the classes.
    #[error("hard-images page: image {id} has label {label}; with {classes} classes it must be below {classes}")]
    UnknownClass {
        /// The image.
        id: SampleId,
        /// Its label.
        label: u16,
        /// Number of classes.
        classes: usize,
    },
    /// An image has too few or too many pixels.
    #[error("hard-images page: image {id} has {found} bytes of pixels; expected {expected} (height × width × 3)")]
    Pixels {
        /// The image.
        id: SampleId,
        /// Its number of bytes.
        found: usize,
        /// height × width × 3.
        expected: usize,
    },
    /// A measure is infinite or NaN.
    #[error("hard-images page: {what} of image {id} is NaN or infinite; it must be finite")]
    NotFinite {
        /// The image.
        id: SampleId,
        /// The measure.
        what: &'static str,
    },
    /// An embedded image has no class-activation map, or one of another size than the others.
    #[error("hard-images page: image {id} has an activation map of {found} values; expected {expected}")]
    ActivationMap {
        /// The image.
        id: SampleId,
        /// Number of values of its map; 0 without one.
        found: usize,
        /// Rows × columns.
        expected: usize,
    },
    /// A pattern has a q value above the false discovery rate.
    #[error("hard-images page: pattern {sentence:?} has q = {q}; only patterns with q of at most {level} may be shown")]
    Insignificant {
        /// The pattern.
        sentence: String,
        /// Its q value.
        q: f64,
        /// The false discovery rate.
        level: f64,
    },
    /// An image sheet could not be encoded.
    #[error("hard-images page: an image sheet cannot be encoded as PNG: {0}")]
    Picture(String),
    /// The data could not be written as JSON.
    #[error("hard-images page: the data cannot be written as JSON: {0}")]
    Data(String),
}

/// Scripts in the order of their dependencies.
const SCRIPTS: [&str; 16] = [
    include_str!("assets/data.js"),
    include_str!("assets/dom.js"),
    include_str!("assets/pictures.js"),
    include_str!("assets/points.js"),
    include_str!("assets/review.js"),
    include_str!("assets/filter.js"),
    include_str!("assets/gallery.js"),
    include_str!("assets/activation.js"),
    include_str!("assets/detail.js"),
    include_str!("assets/queue.js"),
    include_str!("assets/served.js"),
    include_str!("assets/confusion.js"),
    include_str!("assets/data_map.js"),
    include_str!("assets/feature_map.js"),
    include_str!("assets/pairs.js"),
    include_str!("assets/main.js"),
];
const STYLES: [&str; 2] = [include_str!("assets/base.css"), include_str!("assets/hard_images.css")];

/// Renders the hard-images page and returns the bytes of the HTML file.
///
/// The same data produce identical bytes.
///
/// # Errors
/// If an image has no row or two rows, a label has no class, an image has the wrong number of
/// pixels or values of its activation map, a measure is not finite, or a pattern is not significant.
///
/// ```
/// use cifar_data::labels::Entries;
/// use cifar_data::splits::Split;
/// use cifar_data::{Content, Header, ImageSize, SampleId, Source, SourceKind};
/// use cifar_eval::page::{Embed, Measures, PageData, Patterns, Row, hard_images_page};
///
/// let source = Source::new(SourceKind::ClassFolders, "two pets");
/// let size = ImageSize { height: 1, width: 2 };
/// let header = Header { classes: vec!["cat".into(), "dog".into()], size, source };
/// let pixels = [90, 80, 70, 60, 50, 40];
/// let row = Row {
///     id: SampleId(0),
///     content: Content::of(&pixels),
///     split: Split::Train,
///     file: "cat/0.png",
///     label: 0,
///     original_label: 0,
///     predicted: 1,
///     suggested: Some(1),
///     measures: Measures { p_label: Some(0.1), ..Measures::default() },
///     category: "ambiguous",
///     reason: "Looks like a dog.",
///     neighbours: &[],
///     position: None,
///     pixels: &pixels,
/// };
/// let page = hard_images_page(&PageData {
///     header: &header,
///     dataset_version: "v1",
///     model: "airbench94, 8 epochs",
///     seeds: &[42],
///     fingerprint: "pets",
///     rows: &[row],
///     pairs: &[],
///     patterns: &Patterns::default(),
///     withheld: &[],
///     review: &Entries::new(),
///     embed: Embed::default(),
///     activation_maps: None,
/// })?;
/// assert!(page.starts_with(b"<!DOCTYPE html>"));
/// # Ok::<(), cifar_eval::page::PageError>(())
/// ```
pub fn hard_images_page(data: &PageData) -> Result<Vec<u8>, PageError> {
    let level = data.patterns.level;
    if let Some(pattern) = data.patterns.significant.iter().find(|pattern| pattern.q.is_nan() || pattern.q > level) {
        return Err(PageError::Insignificant { sentence: pattern.sentence.clone(), q: pattern.q, level });
    }
    let (payload, pictures) = payload::payload(data)?;
    let page = shell::Shell {
        title: "Hard images",
        synthetic: data.header.source.is_synthetic(),
        styles: &STYLES,
        scripts: &SCRIPTS,
        body: body::body(data, pictures.len()),
        data: shell::to_json(&payload)?,
        sheets: &sheets::sheets(&pictures, data.header.size)?,
    };
    Ok(page.render())
}
