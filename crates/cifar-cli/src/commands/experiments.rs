//! `experiments` and `report`: runs a grid and reports its figures and conclusions.

use cifar_experiments::engines::slurm::task;
use cifar_experiments::plan::{Entry, State, entries, grid};
use cifar_experiments::run::constant_steps;
use cifar_experiments::{EngineKind, GridRun, RunOptions, conclude, run_grid};
use cifar_pipeline::Result;
use serde_json::json;

use super::Context;
use crate::args::{EngineName, ExperimentsArgs, ExperimentsCommand, GridArgs, GridRunArgs};
use crate::grid_rows::GridRows;

pub(super) fn run(context: &Context, args: &ExperimentsArgs) -> Result<()> {
    match &args.command {
        ExperimentsCommand::Run(args) if args.dry_run => list(context, args),
        ExperimentsCommand::Run(args) => do_grid(context, args),
        ExperimentsCommand::Task(args) => task::run(args.number, &GridRows::new(context.terminal)),
        ExperimentsCommand::Summary(args) => {
            context.terminal.outcome(&conclude(&context.project, args.grid.as_deref(), context.terminal)?);
            Ok(())
        }
    }
}

/// `report`: writes the same files as `experiments summary` and prints the path of the page.
pub(super) fn report(context: &Context, args: &GridArgs) -> Result<()> {
    let concluded = conclude(&context.project, args.grid.as_deref(), context.terminal)?;
    let (page, summary) = (concluded.report(), &concluded.summary);
    context.terminal.result(&json!({"report": page, "runs": summary.runs.len()}), || {
        format!("{}: {} runs of {} combinations", page.display(), summary.runs.len(), summary.combinations.len())
    });
    Ok(())
}

fn do_grid(context: &Context, args: &GridRunArgs) -> Result<()> {
    let options = RunOptions {
        grid: args.grid.grid.clone(),
        engine: args.engine.map(|name| match name {
            EngineName::Local => EngineKind::Local,
            EngineName::Dvc => EngineKind::Dvc,
            EngineName::Slurm => EngineKind::Slurm,
        }),
        jobs: args.jobs,
        retry: args.retry,
    };
    let done: GridRun = run_grid(&context.project, &options, &GridRows::new(context.terminal))?;
    if let Some(concluded) = &done.concluded {
        context.terminal.outcome(concluded);
    }
    for run in &done.failed {
        context.terminal.say(&format!("{}, the end of {}:", run.name, run.log.display()));
        for line in &run.tail {
            context.terminal.say(&format!("    {line}"));
        }
    }
    done.result()
}

/// `--dry-run`: lists what would be run.
fn list(context: &Context, args: &GridRunArgs) -> Result<()> {
    let file = args.grid.grid.as_deref();
    let entries = entries(&context.project, file, context.terminal)?;
    if grid(&context.project, file)?.constant_steps.is_some() {
        context.terminal.say(&constant_steps(&entries));
    }
    let as_json = |e: &Entry| {
        json!({
            "name": e.run.name,
            "setting": e.run.setting,
            "epochs": e.epochs,
            "steps": e.steps,
            "state": e.state,
        })
    };
    let lines: Vec<serde_json::Value> = entries.iter().map(as_json).collect();
    context.terminal.result(&lines, || entries.iter().map(in_words).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn in_words(entry: &Entry) -> String {
    let setting: Vec<String> = entry.run.setting.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let state = match &entry.state {
        State::Finished => "finished".to_string(),
        State::Waiting => "to do".into(),
        State::Failed(reason) => format!("failed: {reason}"),
    };
    format!("{:<30} {state:<10} {}", entry.run.name, setting.join(" "))
}
