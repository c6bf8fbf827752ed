//! Measures the near-duplicate search on a folder of real images: recall for each kind of change,
//! number of pairs, and time.
//!
//! ```sh
//! cargo run --release -p cifar-data --example near_duplicates -- FOLDER [IMAGES_PER_KIND] [PAIRS.csv]
//! ```
//!
//! The set is searched once unchanged. Then changed copies of images without a partner are added,
//! 200 per kind by default, and it is searched again. A copy counts as found if it is in the group
//! of its original. With 0 images per kind, only the first search runs. A third argument is the
//! file to write its pairs to.

#![allow(clippy::print_stdout)]

mod changes;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cifar_data::duplicates::{Kind, Pair, PairCounts, find, groups};
use cifar_data::random::{Purpose, stream};
use cifar_data::sources::{ReadOptions, read};
use cifar_data::{Dataset, Sample, SampleId, Silent};

use changes::KINDS;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("expected the folder of a data set with 32×32 images")?;
    let per_kind: usize = arguments.get(1).map_or(Ok(200), |text| text.parse())?;
    let set = read(Path::new(folder), &ReadOptions::default(), &Silent)?.dataset;
    if set.size() != changes::SIZE {
        return Err(format!("{folder}: images are {}; expected {}", set.size(), changes::SIZE).into());
    }

    let (pairs, seconds) = timed(&set)?;
    println!("{} images: {seconds:.1} s, {:?}", set.len(), PairCounts::of(&pairs));
    println!("largest groups: {:?}", largest_groups(&pairs));
    if let Some(path) = arguments.get(2) {
        std::fs::write(path, listed(&pairs))?;
    }

    if per_kind == 0 {
        return Ok(());
    }

    let partners: BTreeMap<SampleId, SampleId> = groups(&pairs);
    let mut originals: Vec<usize> =
        (0..set.len()).filter(|index| !partners.contains_key(&set.samples()[*index].id)).collect();
    stream(1, Purpose::Synthetic, 0, 0).shuffle(&mut originals);
    let planted = plant(&set, &originals, per_kind);
    let samples = planted.iter().map(|copy| copy.sample.clone()).collect();
    let pixels = planted.iter().flat_map(|copy| copy.pixels.iter().copied()).collect();
    let mut all = set.clone();
    all.append(Dataset::new(set.header().clone(), samples, pixels)?)?;

    let (found, seconds) = timed(&all)?;
    let grouped = groups(&found);
    println!("with {} changed copies: {seconds:.1} s", planted.len());
    for (name, _) in KINDS {
        let of_kind: Vec<&Planted> = planted.iter().filter(|copy| copy.kind == name).collect();
        let together = |copy: &&&Planted| {
            grouped.get(&copy.original).is_some_and(|leader| grouped.get(&copy.sample.id) == Some(leader))
        };
        let hits = of_kind.iter().filter(together).count();
        println!("{name:32} {hits:4} of {:4}  {:5.1} %", of_kind.len(), 100.0 * hits as f64 / of_kind.len() as f64);
    }
    println!(
        "near pairs of a copy with an image that is not its original: {}",
        strange(&found, &planted, &pairs).len()
    );
    Ok(())
}

/// A changed copy of an image.
struct Planted {
    kind: &'static str,
    original: SampleId,
    sample: Sample,
    pixels: Vec<u8>,
}

/// Changes `per_kind` originals with every kind of change. An original to which a kind does not
/// apply is skipped.
fn plant(set: &Dataset, originals: &[usize], per_kind: usize) -> Vec<Planted> {
    let mut next = set.samples().iter().map(|sample| sample.id.0 + 1).max().unwrap_or(0);
    let mut planted = Vec::new();
    let mut free = originals.iter();
    for (kind, change) in KINDS {
        let mut copies = 0;
        while copies < per_kind {
            let Some(&index) = free.next() else { break };
            let original = &set.samples()[index];
            let mut random = stream(2, Purpose::Synthetic, 0, u64::from(original.id.0));
            let Some(changed) = change(set.image(index), &mut random) else { continue };
            let pixels = changes::recorded_again(&changed, &mut random);
            let sample = Sample { id: SampleId(next), ..original.clone() };
            planted.push(Planted { kind, original: original.id, sample, pixels });
            next += 1;
            copies += 1;
        }
    }
    planted
}

fn timed(set: &Dataset) -> Result<(Vec<Pair>, f64), Box<dyn Error>> {
    let start = Instant::now();
    let pairs = find(&[set], &Silent)?;
    Ok((pairs, start.elapsed().as_secs_f64()))
}

/// Returns the sizes of the ten largest groups.
fn largest_groups(pairs: &[Pair]) -> Vec<usize> {
    let mut sizes: BTreeMap<SampleId, usize> = BTreeMap::new();
    for leader in groups(pairs).values() {
        *sizes.entry(*leader).or_default() += 1;
    }
    let mut sizes: Vec<usize> = sizes.into_values().collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes.truncate(10);
    sizes
}

/// Returns the near pairs of a planted copy with anything but its original.
fn strange<'a>(found: &'a [Pair], planted: &[Planted], known: &[Pair]) -> Vec<&'a Pair> {
    let similar: std::collections::BTreeSet<_> = known.iter().map(|pair| (pair.first, pair.second)).collect();
    let originals: BTreeMap<SampleId, SampleId> = planted.iter().map(|c| (c.sample.id, c.original)).collect();
    let source = |id: SampleId| originals.get(&id).copied().unwrap_or(id);
    let is_strange = |pair: &&Pair| {
        let (one, other) = (source(pair.first), source(pair.second));
        let involved = originals.contains_key(&pair.first) || originals.contains_key(&pair.second);
        pair.kind != Kind::Similar && involved && one != other && !similar.contains(&(one.min(other), one.max(other)))
    };
    found.iter().filter(is_strange).collect()
}

fn listed(pairs: &[Pair]) -> String {
    let row = |p: &Pair| format!("{},{},{},{:?}\n", p.first, p.second, p.similarity, p.kind);
    pairs.iter().map(row).collect()
}
