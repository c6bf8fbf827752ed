//! The errors of this crate.

use std::path::PathBuf;

/// The result of a function of this crate.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Data cannot be read or written, or the caller cancelled.
    #[error(transparent)]
    Data(#[from] cifar_data::DataError),
    /// Training failed or was cancelled.
    #[error(transparent)]
    Train(#[from] cifar_train::TrainError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] cifar_model::ModelError),
    /// Probabilities do not fit labels.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] crate::plots::PlotError),
    /// A page cannot be made.
    #[error(transparent)]
    Page(#[from] crate::page::PageError),
    /// A file exists but has the wrong content.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// The predictions for a split do not fit its images.
    #[error("the predictions for the {split} images: {problem}")]
    Predictions {
        /// The split.
        split: cifar_data::splits::Split,
        /// What was found and what is expected.
        problem: String,
    },
    /// A truth does not have the column to compare with, or it is unclear which column that is.
    #[error("{}: has the columns {}; expected {expected}", path.display(), found.join(", "))]
    TruthColumn {
        /// The file.
        path: PathBuf,
        /// Its columns.
        found: Vec<String>,
        /// The column that was looked for.
        expected: String,
    },
    /// A parameter is out of range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}
