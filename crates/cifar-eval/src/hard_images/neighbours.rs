//! The training images whose features are most similar to those of an image.

use cifar_data::SampleId;
use cifar_model::ModelError;

use super::inputs::Features;
use crate::Result;

/// Neighbours per image.
const NEIGHBOURS: usize = 5;
/// Images per matrix product with all training images.
const BLOCK: usize = 256;

/// A training image that is similar to another image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The training image.
    pub id: SampleId,
    /// Cosine of the angle between the features, −1 to 1.
    pub similarity: f32,
}

/// The index of a training image, with its similarity.
type Similar = (usize, f32);

/// An image whose neighbours are searched for.
pub(super) struct Query<'a> {
    /// Its features.
    pub(super) features: &'a [f32],
    /// Its index in the training set, if it is a training image.
    pub(super) own: Option<usize>,
}

/// Returns the most similar other training images of each query, the most similar first. Of equally
/// similar ones the first count.
pub(super) fn nearest(train: &Features, queries: &[Query]) -> Result<Vec<Vec<Similar>>> {
    let (width, count) = (train.width, train.values.len() / train.width);
    // Columns, so that one product with the rows of queries gives all similarities.
    let mut columns = vec![0.0; width * count];
    for (index, row) in train.values.chunks_exact(width).enumerate() {
        for (k, value) in unit(row).into_iter().enumerate() {
            columns[k * count + index] = value;
        }
    }
    let mut found = Vec::with_capacity(queries.len());
    for block in queries.chunks(BLOCK) {
        let rows: Vec<f32> = block.iter().flat_map(|query| unit(query.features)).collect();
        let mut similarities = vec![0.0; block.len() * count];
        cifar_kernels::linear_forward(block.len(), width, count, &rows, &columns, None, &mut similarities)
            .map_err(|e| ModelError::Unsuitable(e.to_string()))?;
        let rows = similarities.chunks_exact(count).zip(block);
        found.extend(rows.map(|(similarities, query)| largest(similarities, query.own)));
    }
    Ok(found)
}

impl Features {
    /// Returns the features of the image at `index`.
    pub(super) fn of(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}

/// Returns the vector with a length of 1. Features that are all 0 stay 0: they are similar to
/// nothing.
fn unit(row: &[f32]) -> Vec<f32> {
    let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter().map(|v| (f64::from(*v) * scale) as f32).collect()
}

/// Returns the indices of the largest similarities except `own`, with these, in descending order.
fn largest(similarities: &[f32], own: Option<usize>) -> Vec<Similar> {
    let mut best: Vec<Similar> = Vec::with_capacity(NEIGHBOURS + 1);
    for (index, similarity) in similarities.iter().copied().enumerate().filter(|(index, _)| Some(*index) != own) {
        if best.len() == NEIGHBOURS && best[NEIGHBOURS - 1].1 >= similarity {
            continue;
        }
        let at = best.partition_point(|(_, larger)| *larger >= similarity);
        best.insert(at, (index, similarity));
        best.truncate(NEIGHBOURS);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_come_first_and_an_image_is_not_its_own_neighbour() {
        let check = |similarities: &[f32], own, expected: &[usize]| {
            let found: Vec<usize> = largest(similarities, own).iter().map(|(index, _)| *index).collect();
            assert_eq!(found, expected);
        };
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], None, &[1, 3, 2, 6, 5]);
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], Some(1), &[3, 2, 6, 5, 0]);
        check(&[0.5], Some(0), &[]);
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
