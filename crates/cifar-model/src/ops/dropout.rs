//! Dropout whose mask depends on the seed, epoch, layer and image, but not on the batch or thread.

use candle_core::{Error, Result, Tensor};
use cifar_data::SampleId;
use cifar_data::random::{Purpose, stream};
use cifar_kernels::Buffer;
use rayon::prelude::*;

use super::to_f32;
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Sets each value of `input` `[N, ..]` to 0 with probability `rate` and divides the others by 1 −
/// `rate` (inverted dropout; Srivastava et al. 2014).
///
/// Row n belongs to the image `ids[n]`. Layers with different numbers have independent masks. The
/// result is in `f32`, unless `rate` is 0.
///
/// # Errors
/// If there are not N ids, or `rate` is not in 0 ≤ rate < 1.
pub fn dropout(
    input: &FeatureMap,
    rate: f32,
    seed: u64,
    epoch: u64,
    layer: u32,
    ids: &[SampleId],
) -> Result<FeatureMap> {
    if rate == 0.0 {
        return Ok(input.clone());
    }
    let input = &to_f32(input)?;
    let values = input.values()?;
    if !(0.0..1.0).contains(&rate) || input.dims()[0] != ids.len() || values.is_empty() {
        return Err(Error::Msg(format!("dropout: rate {rate} and {} ids do not fit {:?}", ids.len(), input.dims())));
    }
    let threshold = (f64::from(rate) * 2f64.powi(32)) as u32;
    let row = values.len() / ids.len();
    let mut kept = Buffer::<u8>::new(values.len());
    kept.par_chunks_mut(row).zip(ids).for_each(|(kept, id)| {
        let mut random = stream(seed, Purpose::Dropout, epoch, u64::from(id.0) | u64::from(layer) << 32);
        kept.fill_with(|| u8::from(random.bits32() >= threshold));
    });
    let mut output = Buffer::copied(values);
    let op = Dropout { input: input.clone(), kept, row, factor: 1.0 / (1.0 - rate) };
    op.apply(&mut output);
    record(op, output, input.dims(), input, None, &[])
}

struct Dropout {
    input: FeatureMap,
    /// 1 for values that are kept, 0 for others.
    kept: Buffer<u8>,
    row: usize,
    factor: f32,
}

impl Dropout {
    fn apply(&self, values: &mut [f32]) {
        values.par_chunks_mut(self.row).zip(self.kept.par_chunks(self.row)).for_each(|(values, kept)| {
            for (value, kept) in values.iter_mut().zip(kept) {
                *value *= self.factor * f32::from(*kept);
            }
        });
    }
}

impl Operation for Dropout {
    const NAME: &'static str = "dropout";
    type Number = f32;

    fn backward(self, mut gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if self.input.is_tracked() {
            self.apply(&mut gradient);
            self.input.put_gradient(gradient)?;
        }
        Ok([None, None])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::gradient_check::{check_gradient, map, random};
    use super::*;

    fn ids(n: u32) -> Vec<SampleId> {
        (0..n).map(SampleId).collect()
    }

    #[test]
    fn a_mask_depends_on_the_image_and_not_on_its_row() {
        let ones = map(&Tensor::ones((2, 50), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let rows = |ids: [u32; 2]| dropout(&ones, 0.5, 1, 2, 3, &ids.map(SampleId)).unwrap();
        let (a, b) = (rows([7, 8]), rows([8, 7]));
        assert_eq!(
            (&a.values().unwrap()[..50], &a.values().unwrap()[50..]),
            (&b.values().unwrap()[50..], &b.values().unwrap()[..50])
        );
        assert_ne!(a.values().unwrap()[..50], a.values().unwrap()[50..]);
    }

    #[test]
    fn rate_and_mean_are_preserved() {
        let ones = map(&Tensor::ones((100, 100), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let output = dropout(&ones, 0.3, 1, 2, 0, &ids(100)).unwrap();
        let values = output.values().unwrap();
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / 1e4;
        // Five standard deviations of a binomial with n = 10,000 and p = 0.3 are 0.023.
        assert!((zeros - 0.3).abs() < 0.023, "{zeros}");
        assert!(values.iter().all(|v| *v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        let input = map(&random(&[4, 9], 1)).unwrap();
        assert!(dropout(&input, 0.4, 1, 2, 0, &ids(3)).is_err());
        assert!(dropout(&input, 1.0, 1, 2, 0, &ids(4)).is_err());
    }

    #[test]
    fn the_gradient_is_right() {
        check_gradient(&[random(&[4, 9], 1)], |a| dropout(&map(&a[0])?, 0.4, 1, 2, 0, &ids(4))?.to_tensor());
    }
}
