//! `partition`: from the user's images to the three partitions.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cifar_data::duplicates::{self, PairCounts};
use cifar_data::names::shown;
use cifar_data::output::write_file;
use cifar_data::partitions::{self, Partition};
use cifar_data::sources::download::{self, Remote, Timeouts};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::sources::{self, Labels, ReadOptions};
use cifar_data::{DataError, Dataset, ImageIndex, Progress as _, store};
use serde_json::json;

use super::{Context, labels};
use crate::args::PartitionArgs;
use crate::links::refuse_links_to;

pub(super) fn run(context: &Context, args: &PartitionArgs) -> Result<()> {
    // The truth about a synthetic set says nothing about other images.
    let mut truth = None;
    let folder = context.layout.dataset();
    let dataset = match args.source.as_str() {
        "auto" if holds_something(&folder)? => read_images(context, &folder, args)?,
        "auto" => {
            refuse_to_replace_real_images(context)?;
            match fetch(context, args)? {
                Ok(archive) => read_images(context, &archive, args)?,
                Err(e @ DataError::Unavailable { .. }) => {
                    context.terminal.warn(&format!(
                        "there is no {}, and {e}: going on with the built-in SYNTHETIC set of drawn images; \
                         every result made from it says so. Your own images: --source PATH",
                        folder.display()
                    ));
                    draw_synthetic(context, args, &mut truth)?
                }
                Err(e) => return Err(e.into()),
            }
        }
        "download" => read_images(context, &fetch(context, args)??, args)?,
        "synthetic" => draw_synthetic(context, args, &mut truth)?,
        path => read_images(context, Path::new(path), args)?,
    };
    // Here, where the images change, so that no `pull` behind it must look for them; that one would if this were not there.
    let pairs = duplicates::find_once(&[&dataset], &context.layout.near_duplicates(), context.terminal)?;
    partitions::write(&dataset, &context.layout.partitions(), context.terminal)?;
    match truth {
        Some(truth) => write_file(&context.layout.synthetic_truth(), truth.as_bytes())?,
        None => forget_truth(context)?,
    }
    report(context, &dataset, PairCounts::of(&pairs));
    labels::hint(context, &ImageIndex::of([&dataset]), dataset.classes());
    Ok(())
}

/// Whether there is anything at the place of the user's images, besides what a download has left there. A link that leads
/// nowhere, such as to a disk that is not mounted, is there: reading it is an error that says so.
fn holds_something(folder: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        found => found.with_context(|| format!("{}: cannot read", shown(folder)))?,
    };
    if !folder.is_dir() {
        return Ok(true);
    }
    let left = download::partial(&folder.join(download::OFFICIAL));
    let mut entries = std::fs::read_dir(folder).with_context(|| format!("{}: cannot read", shown(folder)))?;
    let first = entries.next();
    // An empty folder is a mistake that reading it tells of.
    let only_left =
        first.is_some_and(|entry| entry.is_ok_and(|entry| entry.path() == left)) && entries.next().is_none();
    Ok(!only_left)
}

/// The official archive in the folder of the user's images, from its page.
fn fetch(context: &Context, args: &PartitionArgs) -> Result<Result<PathBuf, DataError>> {
    let archive = context.layout.dataset().join(download::OFFICIAL);
    if !args.offline && !archive.exists() {
        refuse_links_to(&context.layout, &download::partial(&archive))?;
    }
    Ok(fetch_archive(context, args))
}

fn fetch_archive(context: &Context, args: &PartitionArgs) -> Result<PathBuf, DataError> {
    let archive = context.layout.dataset().join(download::OFFICIAL);
    if archive.exists() {
        return Ok(archive);
    }
    let official = Remote::official();
    let url = args.mirror.clone().unwrap_or(official.url);
    let remote = Remote { url, ..official };
    if args.offline {
        return Err(DataError::Unavailable { url: remote.url, problem: "--offline".into() });
    }
    context.terminal.say(&format!("fetching {} ({:.0} MB)", remote.url, remote.bytes as f64 / 1e6));
    download::fetch(&remote, &archive, Timeouts::default(), context.terminal)?;
    Ok(archive)
}

fn read_images(context: &Context, path: &Path, args: &PartitionArgs) -> Result<Dataset> {
    let labels = if args.coarse_labels { Labels::Coarse } else { Labels::Fine };
    let read = sources::read(path, &ReadOptions { skip_broken: args.skip_broken, labels }, context.terminal)?;
    for skipped in &read.skipped {
        context.terminal.warn(&format!("left out {}: {}", shown(&path.join(&skipped.file)), skipped.problem));
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

fn report(context: &Context, dataset: &Dataset, pairs: PairCounts) {
    let counts = dataset.classes().iter().zip(dataset.counts_by_class());
    let by_partition: Vec<usize> = Partition::ALL.iter().map(|p| p.range(dataset.len()).len()).collect();
    let json = json!({
        "source": dataset.header().source,
        "images": dataset.len(),
        "size": dataset.size(),
        "images_by_class": counts.clone().map(|(class, n)| (class.clone(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "images_by_partition": { "v1": by_partition[0], "v2": by_partition[1], "v3": by_partition[2] },
        "duplicate_pairs": pairs,
        "fingerprint": store::fingerprint(dataset),
    });
    let folder = context.layout.partitions();
    context.terminal.result(&json, || {
        let classes: Vec<String> = counts.map(|(class, n)| format!("{class} {n}")).collect();
        let sizes: Vec<String> = by_partition.iter().map(usize::to_string).collect();
        format!(
            "{}\n{}\n{} exact, {} near and {} similar pairs\n{}: {} images in v1, v2, v3",
            dataset.header().source.description,
            classes.join(", "),
            pairs.exact,
            pairs.near,
            pairs.similar,
            folder.display(),
            sizes.join(" + ")
        )
    });
    let tracked: Vec<String> = Partition::ALL.iter().map(|p| format!("dataset_partitions/{p}")).collect();
    context.terminal.say(&format!("track them with: dvc add {}", tracked.join(" ")));
}
