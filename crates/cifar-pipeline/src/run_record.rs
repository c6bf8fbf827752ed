//! Facts about a run that are not results: when, how long, on which machine. No stage depends on
//! them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::layout::Layout;
use crate::params::Setting;
use crate::resources::peak_memory_mb;

/// Measures the time of a command.
#[derive(Debug)]
pub struct Stopwatch {
    started: SystemTime,
    clock: Instant,
    settings: Setting,
}

#[derive(Serialize)]
struct RunRecord<'a> {
    command: &'a str,
    started_unix_seconds: u64,
    seconds: f64,
    threads: usize,
    peak_memory_mb: Option<f64>,
    version: &'a str,
    compiler: &'a str,
    target: &'a str,
    /// The instructions and the system, such as `avx512, x86_64-linux`, whatever the precision.
    kernels: String,
    /// The parameters that were set for this command alone.
    #[serde(skip_serializing_if = "Setting::is_empty")]
    settings: &'a Setting,
}

/// Returns the last recorded time of a command in seconds, if there is one.
pub fn seconds(layout: &Layout, command: &str) -> Option<f64> {
    read(layout, command)?.get("seconds")?.as_f64()
}

/// Returns the parameters that were set for the last run of `command` alone, by itself or as part of
/// all stages. Empty if there is no record.
///
/// No result depends on it; it explains why results do not belong together.
pub(crate) fn last_settings(layout: &Layout, command: &str) -> Setting {
    let started = |record: &Value| record.get("started_unix_seconds").and_then(Value::as_u64);
    let records = [command, "run"].into_iter().filter_map(|command| read(layout, command));
    let last = records.max_by_key(started);
    let settings = last.and_then(|record| serde_json::from_value(record.get("settings")?.clone()).ok());
    settings.unwrap_or_default()
}

fn read(layout: &Layout, command: &str) -> Option<Value> {
    let text = std::fs::read(layout.state().join(format!("runs/{command}.json"))).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Stopwatch {
    /// Starts timing.
    pub fn start() -> Self {
        Self { started: SystemTime::now(), clock: Instant::now(), settings: Setting::new() }
    }

    /// Adds the parameters that were set for this command alone to the record.
    #[must_use]
    pub fn with_settings(self, settings: Setting) -> Self {
        Self { settings, ..self }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// Writes the record to `.cifar/runs/COMMAND.json`. Errors are ignored, since the results are
    /// written already.
    pub fn record(&self, layout: &Layout, command: &str) {
        let record = RunRecord {
            command,
            started_unix_seconds: self.started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            seconds: self.seconds(),
            threads: rayon::current_num_threads(),
            peak_memory_mb: peak_memory_mb(),
            version: env!("CARGO_PKG_VERSION"),
            compiler: env!("CIFAR_COMPILER"),
            target: env!("CIFAR_TARGET"),
            kernels: cifar_kernels::numeric_target().unwrap_or_else(|e| e.to_string()),
            settings: &self.settings,
        };
        if let Ok(json) = serde_json::to_string_pretty(&record) {
            let path = layout.state().join(format!("runs/{command}.json"));
            let _ = cifar_data::output::write_file(&path, json.as_bytes());
        }
    }
}
