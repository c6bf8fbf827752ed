//! Many runs: what they have in common, what they came to, and what may be concluded.
//!
//! - [`RunRecord`]: what one run was asked for; [`Runs`]: finished runs and the images that they share;
//! - [`summarise`]: the figures; [`conclusions`]: what they carry, in words;
//! - [`write()`]: the files, with [`page`], the report; [`average_hard_images`]: what all seeds find hard.

mod classes;
mod comparisons;
mod curve;
mod files;
mod hard_images;
mod record;
mod report;
mod runs;
mod summary;
mod words;

pub use classes::{Class, HardestTwo};
pub use comparisons::{Comparison, MOST_COMPARED, SeedComparison};
pub use curve::{CurvePoint, Doubled, LearningCurve};
pub use files::{REPORT, SUMMARY, write};
pub use hard_images::{AVERAGES, average_hard_images};
pub use record::{RECORD, RUNS, RunRecord};
pub use report::page;
pub use runs::{Pool, Runs, ScoredRun};
pub use summary::{Combination, GridSummary, Missed, missed_by_all, summarise};
pub use words::{Conclusions, Difference, conclusions, markdown, table};
