//! Principal component analysis in two dimensions, as the start of a map.

use cifar_data::memory;
use cifar_data::random::{Purpose, stream};
use cifar_model::ModelError;

use super::neighbours::unit;
use crate::Result;

/// Rows per matrix product.
const BLOCK: usize = 1024;
/// Maximum number of power iterations. Fewer are needed unless components explain equally much of
/// the variance, and then any mixture of them is as good.
const ITERATIONS: usize = 300;
/// Iterations end when both components turn by less than this.
const SMALL_TURN: f64 = 1e-7;

/// Projects rows, scaled to a length of 1, onto their first two principal components.
///
/// Coordinates have mean 0. The sign of a component is such that its largest entry is positive.
///
/// # Errors
/// If there is not enough memory for the covariance.
pub(super) fn plane(rows: &[&[f32]]) -> Result<Vec<[f32; 2]>> {
    let width = rows.first().map_or(0, |row| row.len());
    if width == 0 {
        return Ok(vec![[0.0; 2]; rows.len()]);
    }
    let bytes = (width as u64).saturating_mul(width as u64).saturating_mul(4 + 8);
    memory::check(&format!("the covariance of {width} features"), bytes, "use features of fewer dimensions")?;
    let mut mean = vec![0.0; width];
    for row in rows {
        mean.iter_mut().zip(unit(row)).for_each(|(sum, value)| *sum += f64::from(value));
    }
    for sum in &mut mean {
        *sum /= rows.len() as f64;
    }
    let centred = |row: &[f32]| -> Vec<f32> {
        unit(row).iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean) as f32).collect()
    };

    let mut covariance = vec![0.0f64; width * width];
    let mut of_block = vec![0.0f32; width * width];
    for block in rows.chunks(BLOCK) {
        let values: Vec<f32> = block.iter().flat_map(|row| centred(row)).collect();
        cifar_kernels::linear_weight_gradient(block.len(), width, width, &values, &values, &mut of_block)
            .map_err(|e| ModelError::Unsuitable(e.to_string()))?;
        covariance.iter_mut().zip(&of_block).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let components = components(&covariance, width);
    let project = |row: &&[f32]| {
        let row = centred(row);
        let on = |component: &[f64]| component.iter().zip(&row).map(|(c, v)| c * f64::from(*v)).sum::<f64>() as f32;
        [on(&components[0]), on(&components[1])]
    };
    Ok(rows.iter().map(project).collect())
}

/// Returns the eigenvectors of the two largest eigenvalues of a symmetric matrix, by orthogonal
/// iteration. A component without variance is 0.
fn components(matrix: &[f64], width: usize) -> [Vec<f64>; 2] {
    let mut draws = stream(0, Purpose::Map, 0, 0);
    let mut found: [Vec<f64>; 2] = [(); 2].map(|()| (0..width).map(|_| draws.normal()).collect());
    for component in &mut found {
        normalise(component);
    }
    for _ in 0..ITERATIONS {
        let times = |vector: &Vec<f64>| matrix.chunks_exact(width).map(|row| dot(row, vector)).collect::<Vec<f64>>();
        let [mut first, mut second] = found.each_ref().map(times);
        normalise(&mut first);
        let along = dot(&first, &second);
        second.iter_mut().zip(&first).for_each(|(value, other)| *value -= along * other);
        normalise(&mut second);
        let turn = |new: &[f64], old: &[f64]| 1.0 - dot(new, old).abs();
        let is_done = turn(&first, &found[0]) < SMALL_TURN && turn(&second, &found[1]) < SMALL_TURN;
        found = [first, second];
        if is_done {
            break;
        }
    }
    for component in &mut found {
        let largest = component.iter().fold(0.0f64, |most, v| if v.abs() > most.abs() { *v } else { most });
        if largest < 0.0 {
            for value in component.iter_mut() {
                *value = -*value;
            }
        }
    }
    found
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Scales a vector to a length of 1. What is left of a vector after its components were subtracted
/// may be rounding errors only; it becomes 0.
fn normalise(vector: &mut [f64]) {
    let length = dot(vector, vector).sqrt();
    let scale = if length > 1e-12 { 1.0 / length } else { 0.0 };
    for value in vector.iter_mut() {
        *value *= scale;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "equal bits are meant")]

    use super::*;

    #[test]
    fn components_are_eigenvectors_in_order() {
        // Eigenvalues 9, 4 and 1 with the axes as eigenvectors, turned by 0.6 and 0.8.
        let (c, s) = (0.8, 0.6);
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        let mut matrix = [0.0; 9];
        for (value, axis) in [4.0, 1.0, 9.0].into_iter().zip(axes) {
            for (at, entry) in matrix.iter_mut().enumerate() {
                *entry += value * axis[at / 3] * axis[at % 3];
            }
        }
        let [first, second] = components(&matrix, 3);
        for (found, expected) in [(first, axes[2]), (second, axes[0])] {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?} {expected:?}");
        }
        assert_eq!(components(&[2.0], 1), [vec![1.0], vec![0.0]]);
    }

    #[test]
    fn rows_are_projected_by_their_direction() {
        // Two directions; lengths do not count.
        let rows: [&[f32]; 4] = [&[1.0, 0.0, 0.0], &[5.0, 0.0, 0.0], &[0.0, 0.0, 2.0], &[0.0, 0.0, 4.0]];
        let found = plane(&rows).unwrap();
        let half = 0.5f32.sqrt();
        assert!((found[0][0].abs() - half).abs() < 1e-5 && found[0] == found[1] && found[2] == found[3], "{found:?}");
        assert!((found[0][0] + found[2][0]).abs() < 1e-5 && found[0][1].abs() < 1e-5, "{found:?}");
        assert!(plane(&[]).unwrap().is_empty());
        assert_eq!(plane(&[&[3.0, 4.0]]).unwrap(), [[0.0, 0.0]]);
    }
}
