//! Everything that can go wrong in the pipeline, and what kind of failure it is.

use std::fmt::Display;

use cifar_data::{DataError, Stage};
use cifar_eval::EvalError;
use cifar_model::ModelError;
use cifar_train::TrainError;

/// The result of a function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the pipeline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, params.yaml or experiments.toml asks for something that is not allowed.
    #[error("{0}")]
    Usage(String),
    /// Something else is wrong, such as a missing file.
    #[error("{0}")]
    Failed(String),
    /// The system refused to read or write.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value cannot be written as JSON, or a JSON file cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Kernels of the forced instruction set do not run here.
    #[error(transparent)]
    Kernel(#[from] cifar_kernels::KernelError),
    /// Data are missing, damaged or stale, or the user stopped the program.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model is damaged or impossible.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Training failed or was stopped.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Evaluation failed or was stopped.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] cifar_eval::plots::PlotError),
    /// A TOML file cannot be read.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// What was attempted when the cause occurred.
    #[error("{what}")]
    Context {
        /// What was attempted.
        what: String,
        /// What went wrong.
        source: Box<Error>,
    },
}

/// The kinds of failure that a caller treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A mistake in parameters or usage.
    Usage,
    /// The user stopped the program.
    Cancelled,
    /// Anything else.
    Failure,
}

impl Error {
    /// A mistake of usage.
    pub fn usage(problem: impl Into<String>) -> Self {
        Self::Usage(problem.into())
    }

    /// Any other failure.
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::Failed(problem.into())
    }

    /// Returns the same error with what was attempted.
    #[must_use]
    pub fn context(self, what: impl Into<String>) -> Self {
        Self::Context { what: what.into(), source: Box::new(self) }
    }

    /// Returns what kind of failure this is.
    ///
    /// ```
    /// use cifar_pipeline::{Error, ErrorKind};
    ///
    /// let error = Error::from(cifar_data::DataError::Cancelled).context("training");
    /// assert_eq!(error.kind(), ErrorKind::Cancelled);
    /// assert_eq!(error.one_line(), "training: stopped by the user; nothing was written");
    /// ```
    pub fn kind(&self) -> ErrorKind {
        if self.is_refused_isa() {
            return ErrorKind::Usage;
        }
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Failed(_) | Self::Io(_) | Self::Json(_) | Self::Kernel(_) | Self::Plot(_) | Self::Toml(_) => {
                ErrorKind::Failure
            }
            Self::Data(e) => of_data(e),
            Self::Model(e) => of_model(e),
            Self::Train(e) => of_train(e),
            Self::Eval(e) => of_eval(e),
            Self::Context { source, .. } => source.kind(),
        }
    }

    /// Returns whether the environment forces an instruction set that this processor does not have.
    /// Errors of kernels arrive through other libraries, so all causes are checked.
    fn is_refused_isa(&self) -> bool {
        // The source of a transparent error skips the error inside it, so that one is checked first.
        if let Self::Kernel(cifar_kernels::KernelError::Isa { .. }) = self {
            return true;
        }
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = cause {
            if matches!(error.downcast_ref(), Some(cifar_kernels::KernelError::Isa { .. })) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Returns whether the user stopped the program.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Returns what was attempted, what went wrong and which command to run, in one line. A cause
    /// that the message already quotes is not repeated.
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let words = error.to_string();
            if !line.contains(&words) {
                line = format!("{line}: {words}");
            }
            cause = error.source();
        }
        match self.data_error().and_then(advice) {
            Some(advice) => format!("{line}; {advice}"),
            None => line,
        }
    }

    /// Returns the error of missing, stale or damaged data that this error is or contains.
    pub(crate) fn data_error(&self) -> Option<&DataError> {
        match self {
            Self::Data(e) | Self::Eval(EvalError::Data(e)) => Some(e),
            Self::Model(e) | Self::Eval(EvalError::Model(e)) => data_in_model(e),
            Self::Train(e) | Self::Eval(EvalError::Train(e)) => data_in_train(e),
            Self::Context { source, .. } => source.data_error(),
            _ => None,
        }
    }
}

fn data_in_model(error: &ModelError) -> Option<&DataError> {
    if let ModelError::Data(e) = error { Some(e) } else { None }
}

fn data_in_train(error: &TrainError) -> Option<&DataError> {
    match error {
        TrainError::Data(e) => Some(e),
        TrainError::Model(e) => data_in_model(e),
        _ => None,
    }
}

/// Returns the command that solves the problem, such as the one that makes what is missing or stale.
fn advice(error: &DataError) -> Option<String> {
    let (when, dvc) = match error {
        DataError::Missing { made_by: [Stage::Partition], .. } => ("first", ", or `dvc pull`"),
        DataError::Stale { made_by: [Stage::Partition], .. } => ("again", ", or `dvc checkout`"),
        DataError::Missing { .. } => ("first", ""),
        DataError::Stale { .. } => ("again", ""),
        DataError::Misplaced { .. } => {
            return Some("`cifar-cli labels migrate` moves the line to the id that its image has now".into());
        }
        DataError::Unusable { .. } => return Some("`cifar-cli partition --skip-broken` leaves them out".into()),
        DataError::Sizes { .. } => {
            return Some("`cifar-cli partition --size 32` resizes all images, to any size from 16 to 224".into());
        }
        DataError::Gone { .. } => {
            return Some("`cifar-cli labels migrate --drop-missing` leaves the lines out".into());
        }
        _ => return None,
    };
    let commands: Vec<String> = error.made_by().iter().map(|stage| format!("`cifar-cli {}`", stage.name())).collect();
    (!commands.is_empty()).then(|| format!("run {} {when}{dvc}", commands.join(" and ")))
}

fn of_data(error: &DataError) -> ErrorKind {
    match error {
        DataError::Parameter { .. } => ErrorKind::Usage,
        DataError::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Failure,
    }
}

fn of_model(error: &ModelError) -> ErrorKind {
    match error {
        ModelError::Parameter { .. } => ErrorKind::Usage,
        ModelError::Data(e) => of_data(e),
        _ => ErrorKind::Failure,
    }
}

fn of_train(error: &TrainError) -> ErrorKind {
    match error {
        TrainError::Parameter { .. }
        | TrainError::Space(_)
        | TrainError::Init(_)
        | TrainError::TooShort { .. }
        | TrainError::Kernel(cifar_kernels::KernelError::Isa { .. }) => ErrorKind::Usage,
        TrainError::Data(e) => of_data(e),
        TrainError::Model(e) => of_model(e),
        _ => ErrorKind::Failure,
    }
}

fn of_eval(error: &EvalError) -> ErrorKind {
    match error {
        EvalError::Parameter { .. } => ErrorKind::Usage,
        EvalError::Data(e) => of_data(e),
        EvalError::Model(e) => of_model(e),
        EvalError::Train(e) => of_train(e),
        _ => ErrorKind::Failure,
    }
}

/// Adds to an error what was attempted.
pub trait Context<T> {
    /// Adds `what` to an error.
    fn context(self, what: impl Display) -> Result<T>;
    /// Adds what `what` returns to an error.
    fn with_context<C: Display>(self, what: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|e| e.into().context(what.to_string()))
    }

    fn with_context<C: Display>(self, what: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| e.into().context(what().to_string()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::failed(what.to_string()))
    }

    fn with_context<C: Display>(self, what: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::failed(what().to_string()))
    }
}

/// Returns [`Error::Failed`] with a formatted message.
#[doc(hidden)]
#[macro_export]
macro_rules! bail {
    ($($message:tt)*) => { return Err($crate::Error::failed(format!($($message)*))) };
}

/// Returns [`Error::Failed`] with a formatted message unless the condition holds.
#[doc(hidden)]
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err($crate::Error::failed(format!($($message)*)));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_libraries_say_which_command_to_run() {
        let (path, made_by) = ("m.safetensors".into(), Stage::Train.alone());
        let missing = DataError::Missing { path, problem: "cannot read the model".into(), made_by };
        let expected = "m.safetensors: cannot read the model; run `cifar-cli train` first";
        assert_eq!(Error::from(ModelError::from(missing)).one_line(), expected);
        let (path, problem) = ("m.safetensors".into(), "was trained on other images".into());
        let stale = TrainError::from(ModelError::from(DataError::Stale { path, problem, made_by }));
        let expected = "m.safetensors: was trained on other images; run `cifar-cli train` again";
        assert_eq!(Error::from(EvalError::from(stale)).one_line(), expected);
        let unusable = DataError::Unusable { path: "a.png".into(), problem: "is empty".into(), others: 1 };
        let expected =
            "a.png: is empty (and 1 other image is unusable); `cifar-cli partition --skip-broken` leaves them out";
        assert_eq!(Error::from(unusable).one_line(), expected);
        let sizes = DataError::Sizes { path: "photos".into(), problem: "has images of 2 sizes".into() };
        let expected = "photos: has images of 2 sizes; `cifar-cli partition --size 32` resizes all images, to any size from 16 to 224";
        assert_eq!(Error::from(sizes).one_line(), expected);
        let gone = DataError::Gone { path: "review.csv".into(), lines: "line 2: image 0 (a.png)".into() };
        let expected = "review.csv: the images of these lines are no longer there: line 2: image 0 (a.png); \
                        `cifar-cli labels migrate --drop-missing` leaves the lines out";
        assert_eq!(Error::from(gone).one_line(), expected);
    }
}
