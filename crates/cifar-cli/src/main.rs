//! The command line of the CIFAR-10 training pipeline. One file a command in [`commands`]; the work is in the libraries.

mod args;
mod commands;
mod experiments;
mod fingerprint;
mod layout;
mod links;
mod lock;
mod params;
mod programs;
mod resources;
mod run_record;
mod stages;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::commands::Refusal;
use crate::experiments::grid::GridError;
use crate::params::ParamsError;
use crate::terminal::Terminal;

/// Training allocates and frees the same large blocks in every step; this one keeps them.
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
    let result = commands::run(&cli, &terminal);
    terminal.clear();
    let code = match result {
        Ok(()) => None,
        Err(error) => {
            terminal.error(&one_line(&error));
            Some(exit_code(&error))
        }
    };
    match (code, terminal.lost()) {
        (Some(code), _) => ExitCode::from(code),
        (None, Some(lost)) => {
            terminal.error(&lost);
            ExitCode::from(EXIT_FAILURE)
        }
        (None, None) => ExitCode::SUCCESS,
    }
}

/// Help, the version, or a mistake in what was typed.
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

/// What was attempted and what went wrong; causes that a message quotes already are not told twice.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        if line.is_empty() {
            cause
        } else if line.contains(&cause) {
            line
        } else {
            format!("{line}: {cause}")
        }
    })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    use cifar_data::DataError;
    use cifar_eval::EvalError;
    use cifar_kernels::KernelError;
    use cifar_model::ModelError;
    use cifar_train::TrainError;

    let data = |e: &DataError| match e {
        DataError::Parameter { .. } => EXIT_USAGE,
        DataError::Cancelled => EXIT_INTERRUPTED,
        _ => EXIT_FAILURE,
    };
    let model = |e: &ModelError| match e {
        ModelError::Parameter { .. } => EXIT_USAGE,
        ModelError::Data(e) => data(e),
        _ => EXIT_FAILURE,
    };
    let train = |e: &TrainError| match e {
        TrainError::Parameter { .. } | TrainError::Space(_) => EXIT_USAGE,
        TrainError::Data(e) => data(e),
        TrainError::Model(e) => model(e),
        _ => EXIT_FAILURE,
    };
    let eval = |e: &EvalError| match e {
        EvalError::Parameter { .. } => EXIT_USAGE,
        EvalError::Data(e) => data(e),
        EvalError::Model(e) => model(e),
        EvalError::Train(e) => train(e),
        _ => EXIT_FAILURE,
    };
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        let is_usage = cause.is::<ParamsError>()
            || cause.is::<Refusal>()
            || cause.is::<GridError>()
            || matches!(cause.downcast_ref(), Some(KernelError::Isa { .. }));
        (is_usage.then_some(EXIT_USAGE))
            .or_else(|| cause.downcast_ref().map(data))
            .or_else(|| cause.downcast_ref().map(model))
            .or_else(|| cause.downcast_ref().map(train))
            .or_else(|| cause.downcast_ref().map(eval))
    };
    error.chain().find_map(of_cause).unwrap_or(EXIT_FAILURE)
}
