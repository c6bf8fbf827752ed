//! The command line of the CIFAR-10 training pipeline: arguments, the terminal, and one call of a
//! library per command.

mod args;
mod commands;
mod grid_rows;
mod terminal;

use std::process::ExitCode;
use std::time::Instant;

use cifar_pipeline::ErrorKind;
use clap::Parser;

use crate::args::Cli;
use crate::terminal::Terminal;

/// Training allocates and frees the same large blocks in every step; this allocator keeps them.
#[global_allocator]
static ALLOCATOR: cifar_kernels::CachingAllocator = cifar_kernels::CachingAllocator::new();

/// A mistake in parameters or usage.
const EXIT_USAGE: u8 = 2;
/// Anything else that went wrong.
const EXIT_FAILURE: u8 = 1;
/// The user pressed Ctrl-C: 128 + SIGINT, as a shell reports it.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return usage(&message),
    };
    let terminal = Terminal::new(cli.global.quiet, cli.global.json);
    let (name, start) = (cli.command.name(), Instant::now());
    let result = commands::run(&cli, &terminal);
    terminal.clear();
    let code = match result {
        Ok(()) => None,
        Err(error) => {
            terminal.error(&error.one_line());
            Some(exit_code(error.kind()))
        }
    };
    if code.is_none() && cli.command.is_timed() {
        terminal.say(&format!("{name}: {:.1} s", start.elapsed().as_secs_f64()));
    }
    match (code, terminal.lost()) {
        (Some(code), _) => ExitCode::from(code),
        (None, Some(lost)) => {
            terminal.error(&lost);
            ExitCode::from(EXIT_FAILURE)
        }
        (None, None) => ExitCode::SUCCESS,
    }
}

/// Prints help, the version, or the error of a mistyped command line.
fn usage(message: &clap::Error) -> ExitCode {
    match terminal::print_usage(message) {
        Ok(()) if message.use_stderr() => ExitCode::from(EXIT_USAGE),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Terminal::new(false, false).error(&format!("cannot write to standard output: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => EXIT_USAGE,
        ErrorKind::Cancelled => EXIT_INTERRUPTED,
        ErrorKind::Failure => EXIT_FAILURE,
    }
}
