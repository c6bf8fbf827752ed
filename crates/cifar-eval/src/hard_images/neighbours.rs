//! The training images that a network finds most alike to an image, by its features.

use cifar_data::Dataset;
use cifar_model::{ModelError, Seen};

use crate::Result;

/// How many are told.
pub(super) const NEIGHBOURS: usize = 5;
/// Images that are compared with all training images at a time.
const BLOCK: usize = 256;

/// A training image and how alike it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Neighbour {
    /// Its place among the training images.
    pub(super) place: usize,
    /// Cosine of the angle between the features, −1 to 1.
    pub(super) similarity: f32,
}

/// For each image of `queries`, given as features and, if it is a training image, its place, the most alike other
/// training images, the most alike first; the first of equals. Features are compared by cosine.
pub(super) fn nearest(train: &Seen, queries: &[(&[f32], Option<usize>)]) -> Result<Vec<Vec<Neighbour>>> {
    let (width, count) = (train.width, train.logits.len());
    // As columns, so that a product with the rows of queries is all similarities.
    let mut columns = vec![0.0; width * count];
    for (place, row) in train.features.chunks_exact(width).enumerate() {
        for (k, value) in unit(row).into_iter().enumerate() {
            columns[k * count + place] = value;
        }
    }
    let mut found = Vec::with_capacity(queries.len());
    for block in queries.chunks(BLOCK) {
        let rows: Vec<f32> = block.iter().flat_map(|(features, _)| unit(features)).collect();
        let mut similarities = vec![0.0; block.len() * count];
        cifar_kernels::linear_forward(block.len(), width, count, &rows, &columns, None, &mut similarities)
            .map_err(|e| ModelError::Unsuitable(e.to_string()))?;
        let rows = similarities.chunks_exact(count).zip(block);
        found.extend(rows.map(|(similarities, (_, own))| largest(similarities, *own)));
    }
    Ok(found)
}

/// The features of the image at `index`.
pub(super) fn features(seen: &Seen, index: usize) -> &[f32] {
    &seen.features[index * seen.width..(index + 1) * seen.width]
}

/// The share of the neighbours that have each class: none for an image without neighbours.
pub(super) fn with_label(neighbours: &[Neighbour], train: &Dataset, label: u16) -> usize {
    neighbours.iter().filter(|n| train.samples()[n.place].label == label).count()
}

fn unit(row: &[f32]) -> Vec<f32> {
    let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    // Features that are all 0 are like nothing.
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter().map(|v| (f64::from(*v) * scale) as f32).collect()
}

fn largest(similarities: &[f32], own: Option<usize>) -> Vec<Neighbour> {
    let mut best: Vec<Neighbour> = Vec::with_capacity(NEIGHBOURS + 1);
    for (place, similarity) in similarities.iter().copied().enumerate().filter(|(place, _)| Some(*place) != own) {
        if best.len() == NEIGHBOURS && best[NEIGHBOURS - 1].similarity >= similarity {
            continue;
        }
        let at = best.partition_point(|b| b.similarity >= similarity);
        best.insert(at, Neighbour { place, similarity });
        best.truncate(NEIGHBOURS);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_come_first_and_an_image_is_not_its_own_neighbour() {
        let check = |similarities: &[f32], own, expected: &[usize]| {
            let found: Vec<usize> = largest(similarities, own).iter().map(|n| n.place).collect();
            assert_eq!(found, expected);
        };
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], None, &[1, 3, 2, 6, 5]);
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], Some(1), &[3, 2, 6, 5, 0]);
        check(&[0.5], Some(0), &[]);
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
