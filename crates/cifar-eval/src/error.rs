//! Everything that can go wrong in evaluation.

use std::path::PathBuf;

/// The result of a function of this crate.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Data could not be read or written, or the user asked to stop.
    #[error(transparent)]
    Data(#[from] cifar_data::DataError),
    /// Training failed or was stopped.
    #[error(transparent)]
    Train(#[from] cifar_train::TrainError),
    /// The model could not be run.
    #[error(transparent)]
    Model(#[from] cifar_model::ModelError),
    /// Probabilities and labels do not fit together.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// A picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] crate::plots::PlotError),
    /// A page could not be made.
    #[error(transparent)]
    Page(#[from] crate::page::PageError),
    /// A file exists but is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
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
    /// A parameter lies outside of its range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}
