//! The errors of this crate.

use std::path::PathBuf;

use cifar_data::{DataError, Stage};

/// The result of a function of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// candle refused a shape or a device.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Data could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model file exists but is not valid.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// A parameter is out of its range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// The given value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The network does not support these images or classes.
    #[error("{0}")]
    Unsuitable(String),
}

impl ModelError {
    /// Returns the stages that have to run before the operation can succeed, in their order; see
    /// [`DataError::made_by`].
    pub fn made_by(&self) -> &'static [Stage] {
        match self {
            Self::Data(error) => error.made_by(),
            _ => &[],
        }
    }

    pub(crate) fn malformed(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), problem: problem.into() }
    }
}
