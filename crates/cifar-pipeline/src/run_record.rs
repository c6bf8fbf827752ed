//! Facts about a run that are not results: when, how long, on which machine. No stage depends on
//! them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::layout::Layout;
use crate::resources::peak_memory_mb;

/// Measures the time of a command.
#[derive(Debug)]
pub struct Stopwatch {
    started: SystemTime,
    clock: Instant,
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
    arithmetic: String,
}

/// Returns the last recorded time of a command in seconds, if there is one.
pub fn seconds(layout: &Layout, command: &str) -> Option<f64> {
    let text = std::fs::read(layout.state().join(format!("runs/{command}.json"))).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?.get("seconds")?.as_f64()
}

impl Stopwatch {
    /// Starts timing.
    pub fn start() -> Self {
        Self { started: SystemTime::now(), clock: Instant::now() }
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
            arithmetic: cifar_kernels::numeric_target().unwrap_or_else(|e| e.to_string()),
        };
        if let Ok(json) = serde_json::to_string_pretty(&record) {
            let path = layout.state().join(format!("runs/{command}.json"));
            let _ = cifar_data::output::write_file(&path, json.as_bytes());
        }
    }
}
