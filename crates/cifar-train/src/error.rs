//! Everything that can go wrong in training.

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
    /// The loss became NaN or infinite.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}) with learning rate {learning_rate:.3e}; lower train.learning_rate or raise train.warmup_epochs"
    )]
    Diverged {
        /// What the loss became.
        loss: f32,
        /// The step, counted from 1 over the whole run.
        step: usize,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The learning rate of that step.
        learning_rate: f64,
    },
}
