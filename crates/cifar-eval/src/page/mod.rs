//! One HTML file that opens from a disk and shows an analysis: pictures, tables and controls, with everything in it and
//! without any request to a network.
//!
//! - [`hard_images_page`] turns [`PageData`] into the page of hard images, `evaluation/hard_images/index.html`;
//! - `shell` and `sheets` are what any such page needs: the document around it, data that no name can break out of, and
//!   pictures as sheets;
//! - `assets/` holds style and scripts as they are read by people; there is no build step.
//!
//! A person's decisions stay in the browser's own store until they are saved as `review.csv`, columns
//! `id,content,file,decision,label,note` (see [`Decision`]), ids ascending, which goes to `labels/review.csv`.

mod body;
mod data;
mod payload;
mod sheets;
mod shell;

use cifar_data::SampleId;

pub use crate::measures::Measures;
pub use cifar_data::labels::{Decision, Entries, Entry, Review};
pub use data::{Embed, PageData, PatternLine, Patterns, Row};

/// Why a page could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// An image has two rows.
    #[error("the page of hard images: image {id} appears twice")]
    Twice {
        /// The image.
        id: SampleId,
    },
    /// A neighbour or a pair names an image that has no row.
    #[error("the page of hard images: image {id}, {of}, is not among the rows")]
    UnknownImage {
        /// What names it.
        of: String,
        /// The image.
        id: SampleId,
    },
    /// A label without a class.
    #[error("the page of hard images: image {id} has label {label}, but there are {classes} classes")]
    UnknownClass {
        /// The image.
        id: SampleId,
        /// Its label.
        label: u16,
        /// Number of classes.
        classes: usize,
    },
    /// An image's pixels are too few or too many.
    #[error("the page of hard images: image {id} has {found} bytes of pixels; expected {expected}")]
    Pixels {
        /// The image.
        id: SampleId,
        /// Its bytes.
        found: usize,
        /// height × width × 3.
        expected: usize,
    },
    /// A figure is infinite or no number.
    #[error("the page of hard images: {what} of image {id} is not a finite number")]
    NotFinite {
        /// The image.
        id: SampleId,
        /// The measure.
        what: &'static str,
    },
    /// A pattern that is told does not keep to the level.
    #[error("the page of hard images: q = {q} is above the level {level}: {sentence:?} must not be told")]
    Insignificant {
        /// The pattern.
        sentence: String,
        /// Its q value.
        q: f64,
        /// The false discovery rate.
        level: f64,
    },
    /// A picture could not be encoded.
    #[error("the page of hard images: a picture cannot be encoded: {0}")]
    Picture(String),
    /// The data could not be written as JSON.
    #[error("the page of hard images: data cannot be written as JSON: {0}")]
    Data(String),
}

/// Scripts in the order in which they need each other.
const SCRIPTS: [&str; 11] = [
    include_str!("assets/data.js"),
    include_str!("assets/dom.js"),
    include_str!("assets/pictures.js"),
    include_str!("assets/review.js"),
    include_str!("assets/filter.js"),
    include_str!("assets/gallery.js"),
    include_str!("assets/detail.js"),
    include_str!("assets/confusion.js"),
    include_str!("assets/map.js"),
    include_str!("assets/pairs.js"),
    include_str!("assets/main.js"),
];
const STYLES: [&str; 2] = [include_str!("assets/base.css"), include_str!("assets/hard_images.css")];

/// The bytes of the page of hard images. The same data give the same bytes.
pub fn hard_images_page(data: &PageData) -> Result<Vec<u8>, PageError> {
    let level = data.patterns.level;
    if let Some(pattern) = data.patterns.told.iter().find(|pattern| pattern.q.is_nan() || pattern.q > level) {
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
