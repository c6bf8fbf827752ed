//! Percentile ranks.

/// Returns the percentile rank of each value among `values`: (number of smaller values + half the
/// number of equal values, itself included) / n.
///
/// Ranks are above 0 and below 1, and ½ if all values are equal. NaN ranks below all numbers.
///
/// ```
/// use cifar_eval::measures::ranks;
///
/// assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [0.75, 0.125, 0.75, 0.375]);
/// ```
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let key = |i: usize| if values[i].is_nan() { f64::NEG_INFINITY } else { values[i] };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| key(*a).total_cmp(&key(*b)).then(a.cmp(b)));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let equal = order[from..].iter().take_while(|i| key(**i).total_cmp(&key(order[from])).is_eq()).count();
        let rank = (from as f64 + equal as f64 / 2.0) / values.len() as f64;
        for i in &order[from..from + equal] {
            ranks[*i] = rank;
        }
        from += equal;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [0.75, 0.125, 0.75, 0.375]);
        assert_eq!(ranks(&[7.0; 3]), [0.5; 3]);
        assert_eq!(ranks(&[f64::NAN, 0.0]), [0.25, 0.75]);
        assert!(ranks(&[]).is_empty());
    }
}
