//! Memory of runs that are trained at the same time.
//!
//! A single run estimates its memory when it starts. Runs that start together would all find the same memory free.

use cifar_data::partitions::Partition;
use cifar_data::prepare::normalisation;
use cifar_data::{memory, store};
use cifar_model::ModelSpec;
use cifar_pipeline::{Project, Result};
use cifar_train::training_memory;

use crate::plan::Entry;

/// Refuses to train `jobs` runs at the same time if those that need the most memory do not fit together.
///
/// # Errors
/// If so, with the number of runs that would fit, or if the images of the first partition cannot be read.
pub(crate) fn check(project: &Project, due: &[&Entry], jobs: usize) -> Result<()> {
    if jobs.min(due.len()) < 2 {
        return Ok(());
    }
    let set = store::read(&project.layout.partitions().join(Partition::V1.name()))?;
    let normalisation = normalisation(&set);
    let mut needed = Vec::new();
    for entry in due {
        let params = &entry.run.params;
        let (model, normalisation) = (params.model.clone(), normalisation.clone());
        let spec = ModelSpec { params: model, classes: set.classes().to_vec(), size: set.size(), normalisation };
        let pixels = entry.images.iter().sum::<usize>() * set.size().bytes();
        needed.push(training_memory(&params.train, &spec, entry.images)?.saturating_add(pixels as u64));
    }
    needed.sort_unstable_by(|a, b| b.cmp(a));
    needed.truncate(jobs);
    let together = needed.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    let fit = memory::room().map_or(0, |room| at_once(&needed, room.bytes));
    let remedy = match fit {
        0 => "lower train.batch_size, model.widths or train.epochs".to_string(),
        fit => format!("use --jobs {fit}"),
    };
    Ok(memory::check(&format!("training {} runs at a time", needed.len()), together, &remedy)?)
}

/// How many of the runs that need the most memory fit into `room` bytes.
fn at_once(needed: &[u64], room: u64) -> usize {
    let sums = needed.iter().scan(0_u64, |sum, bytes| {
        *sum = sum.saturating_add(*bytes);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= room).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_largest_runs_limits_their_number() {
        let check = |room, expected| assert_eq!(at_once(&[50, 40, 10], room), expected, "{room}");
        check(49, 0);
        check(50, 1);
        check(89, 1);
        check(90, 2);
        check(1000, 3);
        assert_eq!(at_once(&[u64::MAX, u64::MAX], u64::MAX - 1), 0);
    }
}
