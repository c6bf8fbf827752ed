//! `bench`: measures the speed of this machine. One file per benchmark; none of them touches the
//! project.

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

/// Selects the instruction set for all kernels, if one was given, and returns the one in use. Must
/// be called before any kernel runs.
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

/// Returns the peak of the threads in use, in 10⁹ operations per second. Other programs may use
/// cores for a while, so it is measured before and after a benchmark, and the larger value counts.
fn peak() -> Result<f64> {
    Ok(cifar_kernels::peak_gflops(rayon::current_num_threads())?)
}

/// Returns a line of a report: what it is about, then the figure.
fn row(what: &str, figure: &str) -> String {
    format!("{what:<14} {figure}")
}

/// Returns the line with the network and how it was run.
fn network_row(architecture: &str, batch: u32, threads: usize, isa: &str) -> String {
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    row("network", &format!("{architecture}, batches of {batch}, {threads}, {isa}"))
}

/// Returns the line with the speed of computation and its percentage of the peak.
fn arithmetic_row(gflops: f64, peak: f64) -> String {
    let share = 100.0 * gflops / peak;
    row(
        "arithmetic",
        &format!("{gflops:.0} GFLOP/s counted as direct convolutions, {share:.0} % of the peak of {peak:.0}"),
    )
}

/// Returns the lines with memory and page faults, where the system reports them.
fn memory_rows(peak_rss_mb: Option<f64>, page_faults: Option<f64>, each: &str) -> Vec<String> {
    let memory = peak_rss_mb.map(|mb| row("memory", &format!("{mb:.0} MB at most")));
    let faults = page_faults.map(|faults| row("page faults", &format!("{faults:.0} per {each}")));
    memory.into_iter().chain(faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_isa_is_refused_with_the_supported_ones() {
        assert!(refuse_missing_isa(Isa::Avx2, &[Isa::Avx2, Isa::Portable]).is_ok());
        let refusal = refuse_missing_isa(Isa::Avx512, &[Isa::Avx2, Isa::Portable]).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "--isa avx512: this processor does not support it; supported are avx2, portable"
        );
    }
}
