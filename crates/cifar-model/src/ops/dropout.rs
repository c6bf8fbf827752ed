//! Dropout whose mask depends on the seed, the epoch, the layer and the image, not on the batch or the thread.

use candle_core::{Device, Error, Result, Tensor};
use cifar_data::SampleId;
use cifar_data::random::{Purpose, stream};
use rayon::prelude::*;

/// Sets each value of `input` [N, ..] to 0 with probability `rate`, and divides the others by 1 − `rate`
/// (Srivastava et al. 2014, inverted). Row n belongs to the image `ids[n]`; `layer` keeps layers apart.
///
/// # Errors
/// If the number of ids is not N or `rate` lies outside of 0 ≤ rate < 1.
pub fn dropout(input: &Tensor, rate: f32, seed: u64, epoch: u64, layer: u32, ids: &[SampleId]) -> Result<Tensor> {
    if rate == 0.0 {
        return Ok(input.clone());
    }
    if !(0.0..1.0).contains(&rate) || input.dims().first() != Some(&ids.len()) || input.elem_count() == 0 {
        return Err(Error::Msg(format!("dropout: rate {rate} and {} ids do not fit {:?}", ids.len(), input.dims())));
    }
    let threshold = (f64::from(rate) * 2f64.powi(32)) as u32;
    let kept = 1.0 / (1.0 - rate);
    let mut mask = vec![0.0; input.elem_count()];
    mask.par_chunks_mut(input.elem_count() / ids.len()).zip(ids).for_each(|(row, id)| {
        let mut random = stream(seed, Purpose::Dropout, epoch, u64::from(id.0) | u64::from(layer) << 32);
        row.fill_with(|| if random.bits32() < threshold { 0.0 } else { kept });
    });
    input * Tensor::from_vec(mask, input.shape(), &Device::Cpu)?
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, random};
    use super::*;

    fn ids(n: u32) -> Vec<SampleId> {
        (0..n).map(SampleId).collect()
    }

    #[test]
    fn a_mask_follows_its_image_and_not_its_place() {
        let ones = Tensor::ones((2, 50), candle_core::DType::F32, &Device::Cpu).unwrap();
        let rows = |ids: [u32; 2]| dropout(&ones, 0.5, 1, 2, 3, &ids.map(SampleId)).unwrap().to_vec2::<f32>().unwrap();
        let (a, b) = (rows([7, 8]), rows([8, 7]));
        assert_eq!((&a[0], &a[1]), (&b[1], &b[0]));
        assert_ne!(a[0], a[1]);
    }

    #[test]
    fn the_rate_is_kept_and_the_mean_too() {
        let ones = Tensor::ones((100, 100), candle_core::DType::F32, &Device::Cpu).unwrap();
        let values = dropout(&ones, 0.3, 1, 2, 0, &ids(100)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / 1e4;
        // Five standard deviations of a binomial with n = 10 000 and p = 0.3 are 0.023.
        assert!((zeros - 0.3).abs() < 0.023, "{zeros}");
        assert!(values.iter().all(|v| *v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    }

    #[test]
    fn the_gradient_is_right() {
        check_gradient(&[random(&[4, 9], 1)], |a| dropout(&a[0], 0.4, 1, 2, 0, &ids(4)));
    }
}
