//! `pull`: joins the chosen partitions and separates the shared test images.

use std::fmt;
use std::path::PathBuf;

use cifar_data::pull::PullRecord;
use serde::Serialize;

use crate::{Project, Reporter, Result};

/// What `pull` made.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Pulled {
    /// What was joined.
    pub record: PullRecord,
    /// The folder of the result.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Joins the partitions that the parameters name.
///
/// # Errors
/// If the partitions are missing, damaged or of different sets.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<Pulled> {
    let (layout, params) = (&project.layout, project.params()?);
    let known = layout.near_duplicates();
    let (partitions, folder) = (layout.partitions(), layout.raw());
    let record =
        cifar_data::pull::pull(&partitions, params.dataset_version, &params.split, Some(&known), &folder, reporter)?;
    Ok(Pulled { record, folder })
}

impl fmt::Display for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { record, folder } = self;
        write!(
            f,
            "{}: {} images of {} ({}); {} shared test images; {} groups of duplicates over all partitions",
            folder.display(),
            record.images,
            record.dataset_version,
            record.source.description,
            record.pool_images,
            record.duplicate_groups
        )
    }
}
