//! `bench`: how fast this machine is. One file for each thing that can be measured; none of them touches the project.

mod decode;
mod inference;
mod kernels;
mod laps;
mod layers;
mod subject;
mod train_step;

use cifar_kernels::Isa;
use cifar_pipeline::{Error, Result};

use super::Context;
use crate::args::{BenchArgs, BenchCommand};

pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<()> {
    match &args.subject {
        BenchCommand::TrainStep(args) => train_step::run(context, args),
        BenchCommand::Inference(args) => inference::run(context, args),
        BenchCommand::Decode(args) => decode::run(context, args),
        BenchCommand::Kernels(args) => kernels::run(context, args),
    }
}

/// Selects the instruction set for all kernels, if one was given, and returns the one in use. Must be
/// called before any kernel runs.
fn use_isa(typed: Option<Isa>) -> Result<Isa> {
    if let Some(isa) = typed {
        refuse_missing_isa(isa, &Isa::available())?;
        cifar_kernels::force_isa(isa)?;
    }
    Ok(cifar_kernels::isa()?)
}

fn refuse_missing_isa(isa: Isa, available: &[Isa]) -> Result<()> {
    if available.contains(&isa) {
        return Ok(());
    }
    let available: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
    Err(Error::usage(format!(
        "--isa {isa}: this processor does not support it; supported are {}",
        available.join(", ")
    )))
}

/// What the threads in use can do at best, in 10⁹ operations a second. Other programs may take cores away for a while,
/// so it is measured before and after what is compared with it, and the larger value counts.
fn peak() -> Result<f64> {
    Ok(cifar_kernels::peak_gflops(rayon::current_num_threads())?)
}

/// A line of a report in words: what it is about, then the figure.
fn row(what: &str, figure: &str) -> String {
    format!("{what:<14} {figure}")
}

/// What was run, and how.
fn network_row(architecture: &str, batch: u32, threads: usize, isa: &str) -> String {
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    row("network", &format!("{architecture}, batches of {batch}, {threads}, {isa}"))
}

/// Speed of the arithmetic and its share of the peak.
fn arithmetic_row(gflops: f64, peak: f64) -> String {
    let share = 100.0 * gflops / peak;
    row(
        "arithmetic",
        &format!("{gflops:.0} GFLOP/s counted as direct convolutions, {share:.0} % of the peak of {peak:.0}"),
    )
}

/// Memory and page faults in words, as far as the system told them.
fn memory_rows(peak_rss_mb: Option<f64>, page_faults: Option<f64>, each: &str) -> Vec<String> {
    let memory = peak_rss_mb.map(|mb| row("memory", &format!("{mb:.0} MB at most")));
    let faults = page_faults.map(|faults| row("page faults", &format!("{faults:.0} a {each}")));
    memory.into_iter().chain(faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isa_that_is_not_there_is_refused_with_those_that_are() {
        assert!(refuse_missing_isa(Isa::Avx2, &[Isa::Avx2, Isa::Portable]).is_ok());
        let refusal = refuse_missing_isa(Isa::Avx512, &[Isa::Avx2, Isa::Portable]).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "--isa avx512: this processor does not support it; supported are avx2, portable"
        );
    }
}
