//! `prepare`: makes training, validation and test images.

use std::fmt;
use std::path::PathBuf;

use cifar_data::prepare::PreparedReport;
use cifar_data::splits::Split;
use serde::Serialize;

use crate::{Project, Reporter, Result};

/// What `prepare` made.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Prepared {
    /// Counts of images and label corrections.
    pub report: PreparedReport,
    /// The folder of the images.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Divides the pulled images and applies the corrections in `labels/`.
///
/// # Errors
/// If the pulled images are missing or stale, or a file in `labels/` is wrong.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<Prepared> {
    let (layout, params) = (&project.layout, project.params()?);
    let folder = layout.prepared();
    let (raw, overrides, review) = (layout.raw(), layout.overrides(), layout.review());
    let (version, split) = (params.dataset_version, &params.split);
    let report = cifar_data::prepare::prepare(&raw, &overrides, &review, version, split, &folder, reporter)?;
    Ok(Prepared { report, folder })
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { report, folder } = self;
        let [train, val, test] = Split::ALL.map(|split| report.images.get(&split).copied().unwrap_or(0));
        write!(
            f,
            "{}: {train} images for training, {val} for validation, {test} for test; {} labels overridden, {} changed and {} images dropped by review",
            folder.display(),
            report.overrides.changed,
            report.review.changed,
            report.review.dropped
        )
    }
}
