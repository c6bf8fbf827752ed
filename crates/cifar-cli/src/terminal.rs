//! The only place that prints: results to standard output, messages to standard error, progress
//! bars on a terminal.
//!
//! Names of files and classes come from other people, so all text passes through [`printable`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cifar_data::Progress;
use cifar_data::names::printed;
use cifar_model::Model;
use cifar_pipeline::{Outcome, Reporter};
use cifar_train::tune::Scored;
use cifar_train::{EPOCH_COLUMNS, EpochRecord, StepRecord, TrainingCallback};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Set by Ctrl-C; every long loop checks it.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// What is printed, and how.
#[derive(Debug)]
pub(crate) struct Terminal {
    quiet: bool,
    json: bool,
    bar: Mutex<Option<Shown>>,
    /// The first failure to write to standard output.
    lost: Mutex<Option<io::Error>>,
}

/// The progress bar of the current work.
#[derive(Debug)]
struct Shown {
    what: &'static str,
    bar: ProgressBar,
    /// Position and time at which this process started: the work of an earlier process says nothing
    /// about the speed of this one.
    from: u64,
    since: Instant,
}

impl Shown {
    /// Units per second since the bar appeared; `None` before the first unit.
    fn rate(&self, done: u64) -> Option<f64> {
        let rate = done.saturating_sub(self.from) as f64 / self.since.elapsed().as_secs_f64();
        (rate > 0.0 && rate.is_finite()).then_some(rate)
    }
}

impl Terminal {
    pub(crate) fn new(quiet: bool, json: bool) -> Self {
        // A second Ctrl-C ends the program immediately. Files are written under another name and
        // renamed, so it damages none.
        let _ = ctrlc::set_handler(|| {
            if CANCELLED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        Self { quiet, json, bar: Mutex::new(None), lost: Mutex::new(None) }
    }

    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints a message to standard error.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.stderr(text);
        }
    }

    /// Prints a result to standard output. A failure is kept for [`Terminal::lost`]: the command
    /// continues, since its files are still useful.
    pub(crate) fn data(&self, text: &str) {
        self.suspend(|| {
            if let Err(error) = write_to_stdout(text)
                && let Ok(mut lost) = self.lost.lock()
            {
                lost.get_or_insert(error);
            }
        });
    }

    /// Returns why results could not be written to standard output, if so. A pipe that its reader
    /// closed is no failure.
    pub(crate) fn lost(&self) -> Option<String> {
        let lost = self.lost.lock().ok()?;
        lost.as_ref().map(|error| format!("cannot write to standard output: {error}"))
    }

    /// Prints a result as JSON if requested, otherwise as text.
    pub(crate) fn result(&self, json: &impl serde::Serialize, words: impl FnOnce() -> String) {
        if self.json {
            self.data(&serde_json::to_string(json).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
        } else {
            self.data(&words());
        }
    }

    /// Prints what a command wrote: as JSON if requested, otherwise as text.
    pub(crate) fn outcome(&self, outcome: &dyn Outcome) {
        self.clear();
        if !self.json {
            self.data(&outcome.to_string());
        } else if let Some(json) = outcome.to_json() {
            self.data(&json.to_string());
        }
    }

    /// Prints an error on one line, whatever names it contains.
    pub(crate) fn error(&self, text: &str) {
        self.stderr(&format!("error: {}", printed(text)));
    }

    /// Removes the progress bar.
    pub(crate) fn clear(&self) {
        if let Ok(mut shown) = self.bar.lock()
            && let Some(Shown { bar, .. }) = shown.take()
        {
            bar.finish_and_clear();
        }
    }

    fn stderr(&self, text: &str) {
        self.suspend(|| {
            let _ = writeln!(io::stderr(), "{}", printable(text));
        });
    }

    /// Prints without damaging the progress bar.
    fn suspend(&self, print: impl FnOnce()) {
        let bar = self.bar.lock().ok().and_then(|shown| shown.as_ref().map(|shown| shown.bar.clone()));
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Moves the bar of `what`, which replaces any other bar. `note` formats the units per second
    /// and further text.
    fn show(&self, what: &'static str, done: u64, total: u64, note: impl FnOnce(Option<f64>) -> [String; 2]) {
        if self.quiet || !io::stderr().is_terminal() {
            return;
        }
        let Ok(mut current) = self.bar.lock() else { return };
        if current.as_ref().is_none_or(|shown| shown.what != what) {
            if let Some(Shown { bar, .. }) = current.take() {
                bar.finish_and_clear();
            }
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{prefix:>18} {bar:20} {pos}/{len} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(what);
            *current = Some(Shown { what, bar, from: done, since: Instant::now() });
        }
        if let Some(shown) = current.as_ref() {
            let rate = shown.rate(done);
            let left = rate.map(|rate| {
                HumanDuration(Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate)).to_string() + " left"
            });
            shown.bar.set_length(total);
            shown.bar.set_position(done);
            // The most important part comes first: a narrow terminal cuts off the end.
            let [speed, more] = note(rate);
            let parts = [Some(speed), left, Some(more)].into_iter().flatten().filter(|part| !part.is_empty());
            shown.bar.set_message(parts.collect::<Vec<_>>().join(" · "));
            if done >= total {
                shown.bar.finish_and_clear();
                *current = None;
            }
        }
    }
}

impl Progress for Terminal {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.show(what, done, total, |rate| [rate.map_or(String::new(), |rate| format!("{rate:.0}/s")), String::new()]);
    }

    fn cancelled(&self) -> bool {
        CANCELLED.load(Ordering::Relaxed)
    }

    fn warn(&self, message: &str) {
        self.stderr(&format!("warning: {}", printed(message)));
    }
}

impl TrainingCallback for Terminal {
    fn started(&self, model: &Model, history: &[EpochRecord], steps: usize) {
        if self.json {
            for record in history {
                self.epoch_line(record);
            }
            return;
        }
        let summary = model.summary();
        let flops: u64 = summary.iter().map(|l| l.flops).sum();
        self.say(&format!("{:<14} {:>12} {:>10} {:>12}", "layer", "output", "parameters", "MFLOP/image"));
        for layer in &summary {
            let output = layer.output.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
            self.say(&format!(
                "{:<14} {output:>12} {:>10} {:>12.2}",
                layer.name,
                layer.parameters,
                layer.flops as f64 / 1e6
            ));
        }
        self.say(&format!(
            "{:<14} {:>12} {:>10} {:>12.2}\n",
            "total",
            "",
            model.parameters().count(),
            flops as f64 / 1e6
        ));
        if !self.quiet {
            if steps > 0 {
                self.say(&format!("resuming after step {steps}, from a checkpoint\n"));
            }
            self.data(EPOCH_COLUMNS);
            for record in history {
                self.epoch_line(record);
            }
        }
    }

    fn step(&self, step: &StepRecord) {
        let accuracy = step.correct as f64 / step.images.max(1) as f64 * 100.0;
        self.show("training", step.step as u64, step.steps as u64, |rate| {
            let images = rate.map_or(String::new(), |rate| format!("{:.0} images/s", rate * step.images as f64));
            [images, format!("loss {:.3} · acc {accuracy:.1} % · lr {:.2e}", step.loss, step.learning_rate)]
        });
    }

    fn scored(&self, scored: &Scored) {
        if self.json {
            self.data(&serde_json::to_string(scored).unwrap_or_default());
            return;
        }
        self.say(&scored.to_string());
    }

    fn epoch(&self, history: &[EpochRecord]) {
        if let Some(record) = history.last() {
            self.epoch_line(record);
        }
    }
}

impl Terminal {
    /// Prints an epoch as one line of text, or as one JSON object for programs.
    fn epoch_line(&self, record: &EpochRecord) {
        if self.json {
            self.data(&serde_json::to_string(record).unwrap_or_default());
            return;
        }
        if !self.quiet {
            self.data(&record.to_string());
        }
    }
}

impl Reporter for Terminal {
    fn note(&self, message: &str) {
        self.say(message);
    }

    fn finished(&self, outcome: &dyn Outcome) {
        self.outcome(outcome);
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// If it cannot be written, such as on a full disk. A closed pipe is no error: its reader has all it wants.
fn write_to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    closed_is_fine(stdout.write_all(format!("{}\n", printable(text)).as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints the message of the command line parser: help and version to standard output, mistakes to
/// standard error.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn print_usage(message: &clap::Error) -> io::Result<()> {
    // A mistake quotes user input, for example a file name; help and version do not.
    let is_safe = std::env::args_os().all(|argument| !argument.to_string_lossy().contains(is_obeyed));
    let printed = if message.use_stderr() && !is_safe {
        io::stderr().write_all(printable(&message.render().to_string()).as_bytes())
    } else {
        message.print()
    };
    if message.use_stderr() { Ok(()) } else { closed_is_fine(printed.and_then(|()| io::stdout().flush())) }
}

fn closed_is_fine(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Returns whether a character is a control character or changes the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the text with control characters other than line feeds, and those that change the
/// direction of writing, shown as `\u001b`. This is also a JSON escape, so a JSON document keeps
/// its meaning.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| c != '\n' && is_obeyed(c);
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            // All of them have four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected);
        check("plain, with ä and 猫", "plain, with ä and 猫");
        check("two\nlines", "two\nlines");
        check("a\u{1b}[2J\u{7}\r\t.jpg", "a\\u001b[2J\\u0007\\u000d\\u0009.jpg");
        check("a\u{9b}2J\u{7f}", "a\\u009b2J\\u007f");
        check("\u{202e}gpj.exe", "\\u202egpj.exe");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"file": "a\u{1b}\u{9b}\u{7f}\u{202e}\n.jpg"});
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let printed = printable(&text);
            assert!(!printed.contains(|c| c != '\n' && is_obeyed(c)), "{printed}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
        }
    }
}
