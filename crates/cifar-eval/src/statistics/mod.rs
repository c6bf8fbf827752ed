//! Statistics of several runs: spread, comparisons, agreement, a learning curve.
//!
//! Intervals are 95 % ones. Chance has two sources: the images that runs are scored on, and the seeds. [`contrast`] covers
//! both; [`Spread`] is over seeds, on fixed images. [`association`] tests what goes with an outcome, and corrects for the
//! number of tests.

pub mod agreement;
pub mod association;
pub mod bootstrap;
pub mod comparison;
pub mod contrast;
pub mod power_law;
mod spread;

pub use spread::Spread;

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The 97.5 % quantile of Student's t with `degrees` of freedom, above 0.
pub(crate) fn student(degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |d| d.inverse_cdf(0.975))
}
