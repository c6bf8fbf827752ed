//! `inspect`: describes the images, independently of any network.

use std::fmt;
use std::path::PathBuf;

use cifar_data::prepare::PreparedReport;
use cifar_eval::data_quality::{DataQualityReport, PAGE};
use serde::Serialize;

use crate::{Project, Reporter, Result};

/// What `inspect` found.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Inspected {
    /// Counts of what is unusual.
    pub report: DataQualityReport,
    /// The page that shows it.
    #[serde(skip)]
    pub page: PathBuf,
}

/// Describes the prepared images.
///
/// # Errors
/// If the prepared images are missing or stale.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<Inspected> {
    let (layout, params) = (&project.layout, project.params()?);
    let prepared = layout.prepared();
    PreparedReport::read(&prepared)?.check(&prepared, params.dataset_version, &params.split)?;
    let out = layout.inspection();
    let report = cifar_eval::data_quality::inspect(&prepared, &out, reporter)?;
    Ok(Inspected { report, page: out.join(PAGE) })
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\npage: {}", self.report.in_words(), self.page.display())
    }
}
