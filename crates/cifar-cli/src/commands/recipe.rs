//! `recipe`: lists the recipes, or writes one into params.yaml.

use cifar_pipeline::Result;
use cifar_pipeline::stages::recipe;
use cifar_train::recipes::recipes;
use serde_json::{Value, json};

use super::Context;
use crate::args::RecipeArgs;

pub(super) fn run(context: &Context, args: &RecipeArgs) -> Result<()> {
    if let Some(minutes) = args.minutes {
        context.terminal.outcome(&recipe::run_within(&context.project, minutes, context.terminal)?);
        return Ok(());
    }
    if let Some(name) = &args.name {
        context.terminal.outcome(&recipe::run(&context.project, name)?);
        return Ok(());
    }
    let list: Vec<Value> = recipes().iter().map(|r| json!({"name": r.name, "purpose": r.purpose})).collect();
    context.terminal.result(&list, || {
        recipes().iter().map(|r| format!("{:<12} {}", r.name, r.purpose)).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}
