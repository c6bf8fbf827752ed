//! `hard-images --truth`: compares the measures with a user's own labels.

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::provenance;
use cifar_eval::hard_images::{COMMAND, HARD_IMAGES};
use cifar_eval::truth::{self, Judged};
use serde::Serialize;

use crate::{Project, Reporter, Result};

/// The labels to compare with.
#[derive(Debug, Clone)]
pub struct TruthOptions {
    /// A CSV file with `id` and a column of 0/1 or numbers.
    pub file: PathBuf,
    /// The column, if the file has several.
    pub column: Option<String>,
    /// The table of hard images; that of the project if none.
    pub table: Option<PathBuf>,
}

/// The agreement of each measure.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Agreed {
    /// The measures, best first.
    pub judged: Vec<Judged>,
    /// The folder of the results.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Compares every measure of the table of hard images with the labels.
///
/// # Errors
/// If a file is missing or wrong, or the table of the project is damaged.
pub fn run(project: &Project, options: &TruthOptions, reporter: &dyn Reporter) -> Result<Agreed> {
    let (layout, seed) = (&project.layout, project.params()?.random_seed);
    let own = layout.hard_images().join(HARD_IMAGES);
    if options.table.is_none() {
        provenance::read(&own, COMMAND)?;
    }
    let table: &Path = options.table.as_ref().unwrap_or(&own);
    let folder = layout.truth();
    let judged = truth::judge(table, &options.file, options.column.as_deref(), seed, &folder, reporter)?;
    Ok(Agreed { judged, folder })
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", truth::in_words(&self.judged), self.folder.display())
    }
}
