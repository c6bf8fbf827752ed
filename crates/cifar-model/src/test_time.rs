//! Test-time augmentation: the mean logits over augmented copies of an image.

use cifar_data::{Dataset, Progress};
use cifar_kernels::PixelView;
use serde::{Deserialize, Serialize};

use crate::predict::{Logits, batch_of};
use crate::{Model, ModelError, Result, predict};

/// The augmented copies of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Views {
    /// The image itself.
    #[default]
    None,
    /// The image and its mirror image, with weights of ½ each.
    Mirror,
    /// The image (½), and the image shifted by one pixel towards two opposite corners, with
    /// reflected borders (¼ each). Half of each weight goes to the mirror image (Jordan 2024, arXiv
    /// 2404.00498).
    MirrorShift,
}

impl Views {
    /// Returns the name as parameters have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mirror => "mirror",
            Self::MirrorShift => "mirror_shift",
        }
    }

    /// Returns all copies with their weights, the image itself first. The weights sum to 1.
    pub(crate) fn copies(self) -> Vec<(PixelView, f32)> {
        let (own_weight, others) = self.others();
        [(view(0, false), own_weight)].into_iter().chain(others.iter().copied()).collect()
    }

    /// Returns the weight of the image itself, and all other copies with their weights.
    fn others(self) -> (f32, &'static [(PixelView, f32)]) {
        match self {
            Self::None => (1.0, &[]),
            Self::Mirror => (0.5, const { &[(view(0, true), 0.5)] }),
            Self::MirrorShift => (
                0.25,
                const {
                    &[
                        (view(0, true), 0.25),
                        (view(-1, false), 0.125),
                        (view(-1, true), 0.125),
                        (view(1, false), 0.125),
                        (view(1, true), 0.125),
                    ]
                },
            ),
        }
    }
}

/// Returns a shift by `pixels` both down and to the right.
const fn view(moved: isize, mirrored: bool) -> PixelView {
    PixelView { down: moved, right: moved, mirrored }
}

/// The settings of test-time augmentation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestTimeAugmentation {
    /// The augmented copies.
    pub views: Views,
    /// The fraction of images that are augmented, 0 to 1: those with the least certain predictions.
    pub fraction: f64,
}

/// The logits of the images of a set with and without test-time augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmented {
    /// The logits of the images themselves.
    pub plain: Logits,
    /// The mean logits over the augmented copies.
    pub averaged: Logits,
}

/// Computes the logits of all images of `set`, both plain and as the mean over augmented copies.
///
/// ```
/// use cifar_model::{TestTimeAugmentation, Views, predict_augmented};
/// # use cifar_data::Silent;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
///
/// let augmentation = TestTimeAugmentation { views: Views::Mirror, fraction: 1.0 };
/// let logits = predict_augmented(&model, &images, augmentation, "images", &Silent)?;
/// assert_eq!(logits.plain.len(), logits.averaged.len());
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
///
/// If `fraction` is below 1, only ⌈fraction · n⌉ images are augmented: those with the smallest difference
/// between their two highest probabilities, the first of equals. The others keep their plain
/// logits.
///
/// # Errors
/// As [`predict()`]; also if `fraction` is not between 0 and 1.
pub fn predict_augmented(
    model: &Model,
    set: &Dataset,
    augmentation: TestTimeAugmentation,
    what: &'static str,
    monitor: &dyn Progress,
) -> Result<Augmented> {
    let TestTimeAugmentation { views, fraction } = augmentation;
    if !(0.0..=1.0).contains(&fraction) {
        return Err(ModelError::Parameter {
            key: "tta_fraction",
            value: fraction.to_string(),
            allowed: "allowed is 0 to 1".into(),
        });
    }
    let plain = predict(model, set, what, monitor)?;
    let mut averaged = plain.clone();
    let (own_weight, others) = views.others();
    let chosen = if others.is_empty() { Vec::new() } else { least_certain(&plain, fraction)? };
    let batch = batch_of(set.size());
    for (done, indices) in chosen.chunks(batch).enumerate() {
        monitor.check()?;
        monitor.update("looking again", (done * batch) as u64, chosen.len() as u64);
        for index in indices {
            averaged.row_mut(*index).iter_mut().for_each(|logit| *logit *= own_weight);
        }
        let images: Vec<&[u8]> = indices.iter().map(|index| set.image(*index)).collect();
        for (view, weight) in others {
            let views = vec![*view; indices.len()];
            let logits = model.forward_views(&images, &views)?.flatten_all()?.to_vec1::<f32>()?;
            for (index, logits) in indices.iter().zip(logits.chunks_exact(plain.classes())) {
                averaged.row_mut(*index).iter_mut().zip(logits).for_each(|(mean, logit)| *mean += weight * logit);
            }
        }
    }
    monitor.update("looking again", chosen.len() as u64, chosen.len() as u64);
    Ok(Augmented { plain, averaged })
}

/// Returns the images with the smallest margins, in the order of the set.
fn least_certain(logits: &Logits, fraction: f64) -> Result<Vec<usize>> {
    let probabilities = logits.probabilities()?;
    let margin = |row: &[f32]| {
        let largest = |skip: Option<usize>| {
            let kept = row.iter().enumerate().filter(|(at, _)| Some(*at) != skip);
            kept.fold((0, f32::NEG_INFINITY), |best, (at, p)| if *p > best.1 { (at, *p) } else { best })
        };
        let (first, highest) = largest(None);
        highest - largest(Some(first)).1
    };
    let mut margins: Vec<(f32, usize)> =
        probabilities.chunks_exact(logits.classes()).map(margin).zip(0..logits.len()).collect();
    margins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    margins.truncate((fraction * logits.len() as f64).ceil() as usize);
    let mut chosen: Vec<usize> = margins.into_iter().map(|(_, index)| index).collect();
    chosen.sort_unstable();
    Ok(chosen)
}
