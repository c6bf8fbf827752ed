//! Figures over the runs of a grid, and the conclusions from them.
//!
//! - [`RunRecord`]: the request of one run; [`Runs`]: finished runs and their shared test images;
//! - [`summarise`]: the figures; [`conclusions`]: what they support, in words;
//! - [`write()`]: the files, with [`page`], the report; [`average_hard_images`]: hard images over
//!   all seeds.

mod classes;
mod combinations;
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
pub use combinations::Combination;
pub use comparisons::{Comparison, MOST_COMPARED, SeedComparison};
pub use curve::{CurvePoint, Doubled, LearningCurve};
pub use files::{REPORT, SUMMARY, write};
pub use hard_images::{AVERAGES, AveragedTables, average_hard_images};
pub use record::{RECORD, RUNS, RunRecord};
pub use report::page;
pub use runs::{Pool, Runs, ScoredRun};
pub use summary::{GridSummary, Missed, missed_by_all, summarise};
pub use words::{Conclusions, Difference, conclusions, markdown, table};
