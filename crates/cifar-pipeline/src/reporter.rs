//! How stages report while they work.

use std::fmt::Display;

use cifar_train::TrainingCallback;
use serde::Serialize;
use serde_json::Value;

/// Receives what a stage reports: progress and epochs, warnings, notes, and its outcome.
///
/// [`cifar_data::Silent`] ignores everything.
pub trait Reporter: TrainingCallback {
    /// A note for users, such as how long something took.
    fn note(&self, _message: &str) {}

    /// A stage finished. [`crate::Project::run`] calls this after each of its stages.
    fn finished(&self, _outcome: &dyn Outcome) {}
}

impl Reporter for cifar_data::Silent {}

/// The outcome of a stage: for users through [`Display`], for programs as JSON.
pub trait Outcome: Display {
    /// Returns the outcome as JSON; none if everything was reported while the stage ran.
    fn to_json(&self) -> Option<Value>;
}

impl<T: Display + Serialize> Outcome for T {
    fn to_json(&self) -> Option<Value> {
        // Converted through text: an f32 converted to a JSON value directly would show digits that
        // it does not have.
        let value = serde_json::to_string(self).and_then(|text| serde_json::from_str(&text));
        value.ok().filter(|value: &Value| !value.is_null())
    }
}
