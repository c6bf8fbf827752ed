//! Statistics over several runs: mean and spread, comparisons, agreement, learning curves.
//!
//! All intervals are 95 % intervals. Results vary for two reasons: the choice of test images, and
//! the choice of seeds. [`contrast`](fn@contrast::contrast) covers both; [`Spread`] covers seeds
//! only, on fixed images. [`association`] tests what goes along with an outcome, and corrects for
//! the number of tests.

pub mod agreement;
pub mod association;
pub mod bootstrap;
pub mod comparison;
pub mod contrast;
pub mod power_law;
mod spread;

pub use spread::Spread;

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Returns the 97.5 % quantile of Student's t with `degrees` of freedom, which is above 0.
pub(crate) fn student(degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |d| d.inverse_cdf(0.975))
}
