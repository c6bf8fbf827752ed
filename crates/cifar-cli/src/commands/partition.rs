//! `partition`: from the user's images to the three partitions.

use std::path::Path;

use anyhow::{Result, bail};
use cifar_data::output::write_file;
use cifar_data::partitions::{self, Partition};
use cifar_data::sources::class_folders::ReadOptions;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::{Dataset, Monitor as _, sources, store};
use serde_json::json;

use super::Context;
use crate::args::PartitionArgs;

pub(super) fn run(context: &Context, args: &PartitionArgs) -> Result<()> {
    // The truth about a synthetic set says nothing about other images.
    let mut truth = None;
    let dataset = match args.source.as_str() {
        "auto" if context.layout.dataset().is_dir() => {
            read_images(context, &context.layout.dataset(), args.skip_broken)?
        }
        "auto" => {
            refuse_to_replace_real_images(context)?;
            context.terminal.warn(&format!(
                "there is no {}: going on with the built-in SYNTHETIC set of drawn images; \
                 every result made from it says so. Your own images: --source PATH",
                context.layout.dataset().display()
            ));
            draw_synthetic(context, args, &mut truth)?
        }
        "synthetic" => draw_synthetic(context, args, &mut truth)?,
        path => read_images(context, Path::new(path), args.skip_broken)?,
    };
    partitions::write(&dataset, &context.layout.partitions(), context.terminal)?;
    match truth {
        Some(truth) => write_file(&context.layout.synthetic_truth(), truth.as_bytes())?,
        None => forget_truth(context)?,
    }
    report(context, &dataset);
    Ok(())
}

fn read_images(context: &Context, path: &Path, skip_broken: bool) -> Result<Dataset> {
    let read = sources::read(path, &ReadOptions { skip_broken }, context.terminal)?;
    for skipped in &read.skipped {
        context.terminal.warn(&format!("left out {}: {}", path.join(&skipped.file).display(), skipped.problem));
    }
    Ok(read.dataset)
}

fn draw_synthetic(context: &Context, args: &PartitionArgs, truth: &mut Option<String>) -> Result<Dataset> {
    let params =
        SyntheticParams { count: args.synthetic_images as usize, seed: args.synthetic_seed, ..Default::default() };
    let synthetic = synthetic::generate(&params)?;
    context.terminal.check()?;
    *truth = Some(synthetic::truth_csv(&synthetic));
    Ok(synthetic.dataset)
}

fn forget_truth(context: &Context) -> Result<()> {
    let truth = context.layout.synthetic_truth();
    match std::fs::remove_file(&truth) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => bail!("{}: cannot remove: {e}", truth.display()),
        _ => Ok(()),
    }
}

/// `auto` must not put drawn images in the place of real ones because a folder has moved.
fn refuse_to_replace_real_images(context: &Context) -> Result<()> {
    for partition in Partition::ALL {
        let folder = context.layout.partitions().join(partition.name());
        if let Ok(dataset) = store::read(&folder)
            && !dataset.header().source.is_synthetic()
        {
            bail!(
                "{}: holds real images ({}), and there is no {} to read them from again; to replace them by drawn ones, say --source synthetic",
                folder.display(),
                dataset.header().source.description,
                context.layout.dataset().display()
            );
        }
    }
    Ok(())
}

fn report(context: &Context, dataset: &Dataset) {
    let counts = dataset.classes().iter().zip(dataset.counts_by_class());
    let by_partition: Vec<usize> = Partition::ALL.iter().map(|p| p.range(dataset.len()).len()).collect();
    let json = json!({
        "source": dataset.header().source,
        "images": dataset.len(),
        "size": dataset.size(),
        "images_by_class": counts.clone().map(|(class, n)| (class.clone(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "images_by_partition": { "v1": by_partition[0], "v2": by_partition[1], "v3": by_partition[2] },
        "fingerprint": store::fingerprint(dataset),
    });
    let folder = context.layout.partitions();
    context.terminal.result(&json, || {
        let classes: Vec<String> = counts.map(|(class, n)| format!("{class} {n}")).collect();
        let sizes: Vec<String> = by_partition.iter().map(usize::to_string).collect();
        format!(
            "{}\n{}\n{}: {} images in v1, v2, v3",
            dataset.header().source.description,
            classes.join(", "),
            folder.display(),
            sizes.join(" + ")
        )
    });
    let tracked: Vec<String> = Partition::ALL.iter().map(|p| format!("dataset_partitions/{p}")).collect();
    context.terminal.say(&format!("track them with: dvc add {}", tracked.join(" ")));
}
