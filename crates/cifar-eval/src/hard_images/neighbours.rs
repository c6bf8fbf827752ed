//! The training images whose features are most similar to those of an image.

use cifar_data::SampleId;
use cifar_model::ModelError;
use rayon::prelude::*;

use super::inputs::Features;
use crate::Result;

/// Neighbours per image that are reported, and that an outlier score depends on.
pub(super) const REPORTED: usize = 5;
/// Neighbours per image that are searched for. The map keeps them together; UMAP's default.
pub(super) const SEARCHED: usize = 15;
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
pub(super) type Similar = (usize, f32);

/// An image whose neighbours are searched for.
pub(super) struct Query<'a> {
    /// Its features.
    pub(super) features: &'a [f32],
    /// Its index in the training set, if it is a training image.
    pub(super) own: Option<usize>,
    /// The indices of training images that are copies of it, ascending.
    pub(super) copies: &'a [usize],
}

/// What was found about a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The most similar other training images, the most similar first.
    pub(super) similar: Vec<Similar>,
    /// The mean cosine distance, 0 to 2, to the [`REPORTED`] nearest training images that are neither
    /// the image itself nor copies of it; `None` if there are none.
    ///
    /// Kuan & Mueller 2022, arXiv 2207.03061. A few copies of an outlier do not make it common.
    pub(super) distance: Option<f64>,
}

/// The features of all training images, each with a length of 1.
pub(super) struct TrainingFeatures {
    /// Width × images, so that one product with rows of queries gives all similarities.
    columns: Vec<f32>,
    width: usize,
    count: usize,
}

impl TrainingFeatures {
    pub(super) fn new(train: &Features) -> Self {
        let (width, count) = (train.width, train.values.len() / train.width);
        let mut columns = vec![0.0; width * count];
        for (index, row) in train.values.chunks_exact(width).enumerate() {
            for (k, value) in unit(row).into_iter().enumerate() {
                columns[k * count + index] = value;
            }
        }
        Self { columns, width, count }
    }

    /// Finds the neighbours of each query. Of equally similar ones the first count.
    pub(super) fn nearest(&self, queries: &[Query]) -> Result<Vec<Found>> {
        let Self { columns, width, count } = self;
        let mut found = Vec::with_capacity(queries.len());
        for block in queries.chunks(BLOCK) {
            let rows: Vec<f32> = block.iter().flat_map(|query| unit(query.features)).collect();
            let mut similarities = vec![0.0; block.len() * count];
            cifar_kernels::linear_forward(block.len(), *width, *count, &rows, columns, None, &mut similarities)
                .map_err(|e| ModelError::Unsuitable(e.to_string()))?;
            found.par_extend(similarities.par_chunks_exact(*count).zip(block).map(|(row, query)| of_query(row, query)));
        }
        Ok(found)
    }
}

/// Returns the neighbours of a query, from its similarities to all training images.
fn of_query(similarities: &[f32], query: &Query) -> Found {
    let is_own = |index: usize| Some(index) == query.own;
    let similar = largest(similarities, SEARCHED, is_own);
    let others = if query.copies.is_empty() {
        None
    } else {
        let is_copy = |index: usize| query.copies.binary_search(&index).is_ok();
        Some(largest(similarities, REPORTED, |index| is_own(index) || is_copy(index)))
    };
    let others = others.as_ref().unwrap_or(&similar);
    let distances: Vec<f64> = others.iter().take(REPORTED).map(|(_, s)| f64::from(distance(*s))).collect();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    Found { similar, distance: (!distances.is_empty()).then_some(mean) }
}

/// Returns the cosine distance, 0 to 2. Rounding makes no distance negative.
pub(super) fn distance(similarity: f32) -> f32 {
    (1.0 - similarity).max(0.0)
}

impl Features {
    /// Returns the features of the image at `index`.
    pub(super) fn of(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}

/// Returns the vector with a length of 1. Features that are all 0 stay 0: they are similar to
/// nothing.
pub(super) fn unit(row: &[f32]) -> Vec<f32> {
    let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter().map(|v| (f64::from(*v) * scale) as f32).collect()
}

/// Returns the indices of the `most` largest similarities that are not skipped, with these, in
/// descending order.
fn largest(similarities: &[f32], most: usize, is_skipped: impl Fn(usize) -> bool) -> Vec<Similar> {
    let mut best: Vec<Similar> = Vec::with_capacity(most + 1);
    for (index, similarity) in similarities.iter().copied().enumerate() {
        if (best.len() == most && best[most - 1].1 >= similarity) || is_skipped(index) {
            continue;
        }
        let at = best.partition_point(|(_, larger)| *larger >= similarity);
        best.insert(at, (index, similarity));
        best.truncate(most);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_come_first_and_an_image_is_not_its_own_neighbour() {
        let check = |similarities: &[f32], own: Option<usize>, expected: &[usize]| {
            let found = largest(similarities, REPORTED, |index| Some(index) == own);
            assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), expected);
        };
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], None, &[1, 3, 2, 6, 5]);
        check(&[0.1, 0.9, 0.5, 0.9, -1.0, 0.2, 0.3], Some(1), &[3, 2, 6, 5, 0]);
        check(&[0.5], Some(0), &[]);
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn the_distance_is_the_mean_over_five_images_that_are_no_copies() {
        let similarities = [1.0, 0.75, 0.5, 0.25, 0.0, -0.25, -0.5, 1.0];
        let distance = |own, copies: &[usize]| of_query(&similarities, &Query { features: &[], own, copies }).distance;
        // Images 0, 7, 1, 2 and 3.
        assert_eq!(distance(None, &[]), Some((0.0 + 0.0 + 0.25 + 0.5 + 0.75) / 5.0));
        // Without image 0, which is the query, and without its copy 7.
        assert_eq!(distance(Some(0), &[7]), Some((0.25 + 0.5 + 0.75 + 1.0 + 1.25) / 5.0));
        assert_eq!(of_query(&similarities, &Query { features: &[], own: Some(0), copies: &[7] }).similar[0], (7, 1.0));
        assert_eq!(of_query(&[1.0], &Query { features: &[], own: Some(0), copies: &[] }).distance, None);
    }

    #[test]
    fn neighbours_have_the_smallest_angle() {
        let train = Features { values: vec![2.0, 0.0, 0.0, 3.0, -1.0, 0.0, 5.0, 5.0], width: 2 };
        let query = Query { features: &[1.0, 0.5], own: None, copies: &[] };
        let found = TrainingFeatures::new(&train).nearest(&[query]).unwrap();
        assert_eq!(found[0].similar.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 0, 1, 2]);
        let cosine = 1.0 / 1.25f32.sqrt();
        assert!((found[0].similar[1].1 - cosine).abs() < 1e-6 && (found[0].similar[3].1 + cosine).abs() < 1e-6);
    }
}
