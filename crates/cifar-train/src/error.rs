//! The errors of this crate.

/// The result of a function of this crate.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Data could not be read or written, or the user asked to stop.
    #[error(transparent)]
    Data(#[from] cifar_data::DataError),
    /// The model could not be built, run or written.
    #[error(transparent)]
    Model(#[from] cifar_model::ModelError),
    /// candle refused something.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A kernel refused something.
    #[error(transparent)]
    Kernel(#[from] cifar_kernels::KernelError),
    /// A parameter is out of range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A run cannot start from this trained network.
    #[error("train.init: {0}")]
    Init(String),
    /// A finished run cannot be continued.
    #[error("{0}")]
    Continued(String),
    /// The loss became NaN or infinite.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}) with learning rate {learning_rate:.3e}; lower train.learning_rate or raise train.warmup_epochs"
    )]
    Diverged {
        /// The value of the loss.
        loss: f32,
        /// The step, counted from 1 over the whole run.
        step: usize,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// A weight or a value of the optimiser's state became NaN or infinite.
    #[error("{tensor} is no longer finite after step {step}; lower the learning rate or raise train.warmup_epochs")]
    NotFinite {
        /// Its name in a checkpoint.
        tensor: String,
        /// The step, counted from 1 over the whole run.
        step: usize,
    },
    /// A checkpoint cannot be used.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file or its folder.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint was computed on another numeric target: with another ISA or on another
    /// platform.
    #[error(
        "{}: was written with {found}, this process uses {here}; resuming would mix both in one result",
        path.display()
    )]
    NumericTarget {
        /// The file.
        path: std::path::PathBuf,
        /// The numeric target of the checkpoint.
        found: String,
        /// The numeric target of this process.
        here: String,
        /// Whether several numeric targets have contributed to the checkpoint.
        is_mixed: bool,
    },
    /// A time is too short to train a network.
    #[error(
        "one epoch of the narrowest network takes {:.1} s here, and the limit is {:.1} s",
        least.as_secs_f64(),
        limit.as_secs_f64()
    )]
    TooShort {
        /// The given time.
        limit: std::time::Duration,
        /// The time of one epoch of the fastest recipe.
        least: std::time::Duration,
    },
    /// The description of a search is invalid: a mistake in the parameters.
    #[error("{0}")]
    Space(String),
    /// A search cannot be run or resumed.
    #[error("{0}")]
    Tuning(String),
    /// A file could not be encoded.
    #[error("cannot encode a file: {0}")]
    Encode(String),
}

impl TrainError {
    /// Returns the stages that have to run before the operation can succeed, in their order; see
    /// [`DataError::made_by`](cifar_data::DataError::made_by).
    pub fn made_by(&self) -> &'static [cifar_data::Stage] {
        match self {
            Self::Data(error) => error.made_by(),
            Self::Model(error) => error.made_by(),
            _ => &[],
        }
    }
}
