//! What may be said of several runs: spreads, comparisons, agreement, a learning curve.
//!
//! Intervals are 95 % ones. Two sources of chance are kept apart: [`Spread`] is over the seeds of runs, on fixed images;
//! [`bootstrap`] is over images, for the runs at hand. [`association`] tests what goes with an outcome.

pub mod agreement;
pub mod association;
pub mod bootstrap;
pub mod comparison;
pub mod power_law;
mod spread;

pub use spread::Spread;

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The 97.5 % quantile of Student's t with `degrees` of freedom; none for 0.
pub(crate) fn student(degrees: usize) -> Option<f64> {
    Some(StudentsT::new(0.0, 1.0, degrees as f64).ok()?.inverse_cdf(0.975))
}
