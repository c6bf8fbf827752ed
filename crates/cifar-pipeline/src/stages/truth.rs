//! `hard-images --truth`: compares the measures with a user's own labels.

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::{DataError, provenance};
use cifar_eval::EvalError;
use cifar_eval::hard_images::{COMMAND, HARD_IMAGES};
use cifar_eval::truth::{self, ComparedMeasure, TruthParams};
use serde::Serialize;

use crate::{Error, Project, Reporter, Result};

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
pub struct Compared {
    /// One row per split and measure.
    pub rows: Vec<ComparedMeasure>,
    /// The folder of the results.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Compares every measure of the table of hard images with the labels.
///
/// # Errors
/// If a file is missing or wrong, or the table of the project is damaged.
pub fn run(project: &Project, options: &TruthOptions, reporter: &dyn Reporter) -> Result<Compared> {
    let (layout, seed) = (&project.layout, project.params()?.random_seed);
    let own = layout.hard_images().join(HARD_IMAGES);
    if options.table.is_none() {
        provenance::read(&own, COMMAND)?;
    }
    let hard_images: &Path = options.table.as_ref().unwrap_or(&own);
    let (truth, folder) = (options.file.as_path(), layout.truth());
    let params = TruthParams { hard_images, truth, column: options.column.as_deref(), seed, out: &folder };
    let found = truth::compare(&params).map_err(|error| with_remedy(error, truth))?;
    if found.truth_rows_without_content > 0 {
        reporter.warn(&format!(
            "{0}: no `content` on {1} of {2} rows: they would apply to another image if files were added or removed; add it with `cifar-cli labels migrate {0}`",
            truth.display(),
            found.truth_rows_without_content,
            found.truth_rows
        ));
    }
    Ok(Compared { rows: found.rows, folder })
}

/// Adds the command or the option that helps.
fn with_remedy(error: EvalError, truth: &Path) -> Error {
    let remedy = match &error {
        EvalError::Data(DataError::Misplaced { .. }) => {
            format!("`cifar-cli labels migrate {}` moves rows to the ids that their images have now", truth.display())
        }
        EvalError::TruthColumn { .. } => "choose a column with `--column`".into(),
        _ => return error.into(),
    };
    Error::failed(format!("{error}; {remedy}"))
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", truth::in_words(&self.rows), self.folder.display())
    }
}
