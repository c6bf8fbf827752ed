//! `fingerprint`: the program and one fingerprint a stage, in bin/.

use std::fs;

use anyhow::{Context as _, Result};

use super::Context;
use crate::fingerprint::of_stage;
use crate::stages::STAGES;

pub(super) fn run(context: &Context) -> Result<()> {
    let bin = context.layout.bin();
    let program = std::env::current_exe().context("cannot find the running program")?;
    let destination = bin.join("cifar-cli");
    fs::create_dir_all(&bin).with_context(|| format!("{}: cannot create the folder", bin.display()))?;
    // Aside and renamed: the old program may be running, or be a link into DVC's cache.
    let aside = bin.join(".partial-cifar-cli");
    fs::copy(&program, &aside)
        .and_then(|_| fs::rename(&aside, &destination))
        .with_context(|| format!("{}: cannot write the program", destination.display()))?;
    for stage in &STAGES {
        let fingerprint = of_stage(&context.layout.join(""), stage)?;
        cifar_data::output::write_file(
            &bin.join(format!("{}.fingerprint", stage.name)),
            format!("{fingerprint}\n").as_bytes(),
        )?;
    }
    context.terminal.say(&format!("program and fingerprints: {}", bin.display()));
    Ok(())
}
