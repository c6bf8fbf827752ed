//! Many runs: what they have in common, what they came to, and what may be concluded.
//!
//! - [`RunRecord`]: what one run was asked for.

mod record;

pub use record::{RECORD, RUNS, RunRecord};
