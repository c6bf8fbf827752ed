//! A layout of points in the plane that keeps neighbours together: UMAP (`McInnes` et al. 2018, arXiv
//! 1802.03426).
//!
//! Neighbours attract each other, and random points repel each other, by stochastic gradient
//! descent. Similarities in the plane are 1 / (1 + d²), that is a = b = 1 in UMAP's terms, as in
//! t-SNE (Böhm et al. 2022, arXiv 2007.08902). The layout is one sequence of updates in a fixed
//! order, so its bits do not depend on the number of threads.
//!
//! Distances within a cluster and between clusters have no unit, and neither has the size of a
//! cluster.

use cifar_data::Progress;
use cifar_data::random::{Purpose, Stream, stream};

use crate::Result;

/// Random points that repel a point for each neighbour that attracts it.
const REPELLING: usize = 5;
/// Farthest distance from the origin before the first update, in either direction.
const EXTENT: f32 = 10.0;
/// Most that one neighbour moves a point in either direction.
const MOST: f32 = 4.0;
const WHAT: &str = "drawing the map";

/// A point's neighbours, with their distances, nearest first.
type Nearby = Vec<(usize, f32)>;

/// An edge of the graph of neighbours, in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Edge {
    from: usize,
    to: usize,
    /// 0 to 1.
    weight: f32,
}

/// Lays out points with these neighbours, from `start`.
///
/// # Errors
/// If the caller cancels.
pub(super) fn layout(nearby: &[Nearby], start: Vec<[f32; 2]>, progress: &dyn Progress) -> Result<Vec<[f32; 2]>> {
    // As in umap-learn.
    let epochs = if nearby.len() <= 10_000 { 500 } else { 200 };
    let edges = edges(nearby, epochs);
    let mut points = spread(start);
    // The epoch in which an edge is followed next. The heaviest edges are followed in each epoch.
    let heaviest = edges.iter().fold(f32::MIN_POSITIVE, |most, edge| most.max(edge.weight));
    let mut due: Vec<f32> = edges.iter().map(|edge| heaviest / edge.weight).collect();
    for epoch in 1..=epochs {
        progress.check()?;
        progress.update(WHAT, epoch as u64 - 1, epochs as u64);
        let rate = 1.0 - (epoch - 1) as f32 / epochs as f32;
        let mut draws = stream(0, Purpose::Map, epoch as u64, 0);
        for (edge, due) in edges.iter().zip(&mut due) {
            if *due <= epoch as f32 {
                *due += heaviest / edge.weight;
                follow(&mut points, edge, rate, &mut draws);
            }
        }
    }
    progress.update(WHAT, epochs as u64, epochs as u64);
    Ok(points)
}

/// Moves both ends of an edge towards each other, and its start away from random points.
fn follow(points: &mut [[f32; 2]], edge: &Edge, rate: f32, draws: &mut Stream) {
    let (mut at, other) = (points[edge.from], points[edge.to]);
    let apart = [at[0] - other[0], at[1] - other[1]];
    let pull = 2.0 / (1.0 + square(apart));
    for k in 0..2 {
        let step = rate * (pull * apart[k]).clamp(-MOST, MOST);
        at[k] -= step;
        points[edge.to][k] += step;
    }
    for _ in 0..REPELLING {
        let random = draws.below(points.len() as u64) as usize;
        if random == edge.from {
            continue;
        }
        let apart = [at[0] - points[random][0], at[1] - points[random][1]];
        let square = square(apart);
        let push = 2.0 / ((0.001 + square) * (1.0 + square));
        for k in 0..2 {
            at[k] += rate * (push * apart[k]).clamp(-MOST, MOST);
        }
    }
    points[edge.from] = at;
}

fn square([x, y]: [f32; 2]) -> f32 {
    x * x + y * y
}

/// Scales points to [`EXTENT`], and moves each a little: images with equal features would stay at
/// one place.
fn spread(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    const LITTLE: f64 = 1e-3;
    let farthest = points.iter().flatten().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let mut draws = stream(0, Purpose::Map, 0, 1);
    for value in points.iter_mut().flatten() {
        *value = *value / farthest * EXTENT + (LITTLE * draws.normal()) as f32;
    }
    points
}

/// Returns the edges in both directions, ordered by their ends, without those that are too light to
/// be followed in `epochs` epochs.
///
/// An edge of weights a and b in either direction has the weight a + b − ab.
fn edges(nearby: &[Nearby], epochs: usize) -> Vec<Edge> {
    let mut directed: Vec<Edge> = Vec::with_capacity(nearby.iter().map(Vec::len).sum::<usize>() * 2);
    for (from, neighbours) in nearby.iter().enumerate() {
        for ((to, _), weight) in neighbours.iter().zip(weights(neighbours)) {
            directed.push(Edge { from, to: *to, weight });
            directed.push(Edge { from: *to, to: from, weight });
        }
    }
    // Equal ends have at most two weights, whose order does not matter to their sum and product.
    directed.sort_unstable_by_key(|edge| (edge.from, edge.to));
    let mut edges: Vec<Edge> = Vec::with_capacity(directed.len());
    for edge in directed {
        match edges.last_mut() {
            Some(last) if (last.from, last.to) == (edge.from, edge.to) => {
                last.weight = last.weight + edge.weight - last.weight * edge.weight;
            }
            _ => edges.push(edge),
        }
    }
    let heaviest = edges.iter().fold(0.0f32, |most, edge| most.max(edge.weight));
    edges.retain(|edge| edge.weight > heaviest / epochs as f32);
    edges
}

/// Returns the weights of a point's neighbours: 1 for the nearest, and falling exponentially with
/// the distance beyond it, so that they add up to the logarithm of their number to base 2.
fn weights(neighbours: &[(usize, f32)]) -> Vec<f32> {
    const STEPS: usize = 64;
    /// Smallest scale of the distances, relative to their mean.
    const LEAST: f64 = 1e-3;
    let distances: Vec<f64> = neighbours.iter().map(|(_, distance)| f64::from(*distance)).collect();
    let nearest = distances.iter().copied().find(|distance| *distance > 0.0).unwrap_or_default();
    let beyond = |distance: &f64| (distance - nearest).max(0.0);
    let sum = |scale: f64| distances.iter().map(|d| libm::exp(-beyond(d) / scale)).sum::<f64>();
    let target = libm::log2(distances.len() as f64);
    let mean = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut scale = if mean > 0.0 { mean } else { 1.0 };
    for _ in 0..STEPS {
        if sum(scale) > target {
            high = scale;
        } else {
            low = scale;
        }
        scale = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * scale };
    }
    let scale = scale.max(LEAST * mean).max(f64::MIN_POSITIVE);
    distances.iter().map(|d| libm::exp(-beyond(d) / scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "equal bits are meant")]

    use cifar_data::Silent;

    use super::*;

    #[test]
    fn weights_add_up_to_the_logarithm_of_their_number() {
        let found = weights(&[(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.7)]);
        assert!((found.iter().sum::<f32>() - 2.0).abs() < 1e-5 && found[0] == 1.0, "{found:?}");
        assert!(found.is_sorted_by(|a, b| a > b));
        // Copies, and neighbours that are all as near.
        assert_eq!(weights(&[(0, 0.0), (1, 0.0), (2, 0.5)])[..2], [1.0, 1.0]);
        assert_eq!(weights(&[(0, 0.5), (1, 0.5), (2, 0.5)]), [1.0; 3]);
        assert_eq!(weights(&[(0, 0.0)]), [1.0]);
        assert!(weights(&[]).is_empty());
    }

    #[test]
    fn both_directions_of_an_edge_have_one_weight() {
        let found = edges(
            &[vec![(1, 0.1), (2, 0.2), (3, 0.3)], vec![(0, 0.1)], vec![(1, 0.1), (0, 0.2), (3, 0.3)], vec![]],
            500,
        );
        // Weights 1, q and q² add up to the logarithm of 3 to base 2.
        let q = (3.0f32.log2() - 0.75).sqrt() - 0.5;
        let expected = [
            (0, 1, 1.0),
            (0, 2, q + q - q * q),
            (0, 3, q * q),
            (1, 0, 1.0),
            (1, 2, 1.0),
            (2, 0, q + q - q * q),
            (2, 1, 1.0),
            (2, 3, q * q),
            (3, 0, q * q),
            (3, 2, q * q),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (edge, (from, to, weight)) in found.iter().zip(expected) {
            assert_eq!((edge.from, edge.to), (from, to));
            assert!((edge.weight - weight).abs() < 1e-5, "{edge:?} {weight}");
        }
    }

    /// Points around three corners of a triangle, each with its fifteen neighbours within its group.
    fn groups(per_group: usize) -> (Vec<Nearby>, Vec<[f32; 2]>) {
        let mut draws = stream(7, Purpose::Synthetic, 0, 0);
        let points: Vec<[f64; 4]> = (0..3 * per_group)
            .map(|at| {
                let mut point = [(); 4].map(|()| draws.normal());
                point[at % 3] += 12.0;
                point
            })
            .collect();
        let nearby = points.iter().enumerate().map(|(own, point)| {
            let distance = |other: &[f64; 4]| point.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let others = points.iter().enumerate().filter(|(at, _)| *at != own);
            let mut near: Nearby = others.map(|(at, other)| (at, distance(other).sqrt() as f32)).collect();
            near.sort_by(|a, b| a.1.total_cmp(&b.1));
            near.truncate(15);
            near
        });
        // A start that says nothing about the groups.
        (nearby.collect(), points.iter().map(|point| [point[3] as f32, 0.0]).collect())
    }

    #[test]
    fn groups_are_apart_whatever_the_start() {
        let (nearby, start) = groups(60);
        let found = layout(&nearby, start, &Silent).unwrap();
        // The nearest point on the map is of the same group.
        let nearest = |own: usize| {
            let apart = |at: usize| square([found[own][0] - found[at][0], found[own][1] - found[at][1]]);
            (0..found.len()).filter(|at| *at != own).min_by(|a, b| apart(*a).total_cmp(&apart(*b))).unwrap()
        };
        let same = (0..found.len()).filter(|own| nearest(*own) % 3 == own % 3).count();
        assert!(same >= 178, "{same} of {}", found.len());
        assert!(found.iter().flatten().all(|value| value.is_finite() && value.abs() < 100.0));
    }

    #[test]
    fn few_points_have_a_layout() {
        assert!(layout(&[], Vec::new(), &Silent).unwrap().is_empty());
        let alone = layout(&[Vec::new()], vec![[0.0; 2]], &Silent).unwrap();
        assert!(alone[0].iter().all(|value| value.abs() < 0.1), "{alone:?}");
        // Two copies do not stay at one place.
        let two = layout(&[vec![(1, 0.0)], vec![(0, 0.0)]], vec![[0.0; 2]; 2], &Silent).unwrap();
        assert!(two[0] != two[1] && two.iter().flatten().all(|value| value.is_finite()), "{two:?}");
    }
}
