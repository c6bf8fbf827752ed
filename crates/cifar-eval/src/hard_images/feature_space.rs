//! What follows from the features of the images: neighbours, outlier scores and the map.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cifar_data::duplicates::Kind;
use cifar_data::splits::Split;
use cifar_data::{Dataset, Progress, SampleId};

use super::neighbours::{Found, Query, REPORTED, TrainingFeatures, distance};
use super::{HardImage, Inputs, Neighbour, principal, umap};
use crate::Result;
use crate::measures::ranks;

/// Images between two progress reports.
const CHUNK: usize = 1024;
const WHAT: &str = "finding neighbours";

/// Adds the neighbours of images with a category, and the outlier score and position of all images.
///
/// Images of splits without features have none of these, and nor has any image if there are no
/// training images with features.
pub(super) fn add(images: &mut [HardImage], inputs: &Inputs, progress: &dyn Progress) -> Result<()> {
    let of_split = |split| inputs.with_images().find(|found| found.split == split);
    let Some((train, features)) = of_split(Split::Train).and_then(|t| Some((t.images, t.features.as_ref()?))) else {
        return Ok(());
    };
    let copies = copies(inputs, train);
    let query = |image: &HardImage| {
        let split = of_split(image.split)?;
        let index = split.images.index_of(image.sample.id)?;
        let own = (image.split == Split::Train).then_some(index);
        let copies = copies.get(&image.sample.id).map_or(&[][..], Vec::as_slice);
        Some(Query { features: split.features.as_ref()?.of(index), own, copies })
    };
    let (places, queries): (Vec<usize>, Vec<Query>) =
        (0..images.len()).filter_map(|at| Some((at, query(&images[at])?))).unzip();
    let training = TrainingFeatures::new(features);
    let mut found = Vec::with_capacity(queries.len());
    for chunk in queries.chunks(CHUNK) {
        progress.check()?;
        progress.update(WHAT, found.len() as u64, queries.len() as u64);
        found.extend(training.nearest(chunk)?);
    }
    progress.update(WHAT, queries.len() as u64, queries.len() as u64);
    drop(training);

    let rows: Vec<&[f32]> = queries.iter().map(|query| query.features).collect();
    let start = principal::plane(&rows)?;
    // The images of a split are in the order of its set.
    let first = places.iter().position(|at| images[*at].split == Split::Train).unwrap_or_default();
    let nearby = |found: &Found| found.similar.iter().map(|(index, s)| (first + index, distance(*s))).collect();
    let positions = umap::layout(&found.iter().map(nearby).collect::<Vec<_>>(), start, progress)?;

    for ((at, found), position) in places.iter().zip(&found).zip(positions) {
        images[*at].position = Some(position);
        if images[*at].category.is_some() {
            add_neighbours(&mut images[*at], found, train);
        }
    }
    for split in Split::ALL {
        let distances = places.iter().zip(&found).filter(|(at, _)| images[**at].split == split);
        let (of_split, distances): (Vec<usize>, Vec<f64>) =
            distances.filter_map(|(at, found)| Some((*at, found.distance?))).unzip();
        for (at, rank) in of_split.into_iter().zip(ranks(&distances)) {
            images[at].figures.outlier = Some(rank);
        }
    }
    Ok(())
}

/// Returns the indices of the training images that are exact or near copies of an image, ascending.
fn copies(inputs: &Inputs, train: &Dataset) -> BTreeMap<SampleId, Vec<usize>> {
    let mut copies: BTreeMap<SampleId, Vec<usize>> = BTreeMap::new();
    for pair in inputs.pairs.iter().filter(|pair| pair.kind != Kind::Similar) {
        for (own, other) in [(pair.first, pair.second), (pair.second, pair.first)] {
            copies.entry(own).or_default().extend(train.index_of(other));
        }
    }
    for indices in copies.values_mut() {
        indices.sort_unstable();
    }
    copies
}

/// Adds the nearest training images of an image, and how many have its label to the reason.
fn add_neighbours(image: &mut HardImage, found: &Found, train: &Dataset) {
    let nearest = &found.similar[..found.similar.len().min(REPORTED)];
    let samples = || nearest.iter().map(|(index, _)| &train.samples()[*index]);
    let same = samples().filter(|sample| sample.label == image.sample.label).count();
    // The only training image has no neighbours.
    if !nearest.is_empty() {
        let count = nearest.len();
        let _ = write!(image.reason, "; {same} of its {count} nearest training images have its label");
    }
    let neighbours = nearest.iter().zip(samples());
    image.neighbours = neighbours.map(|((_, s), sample)| Neighbour { id: sample.id, similarity: *s }).collect();
}
