//! The built-in synthetic set: ten drawn classes with planted problems, to try everything without
//! real images.
//!
//! Every image is drawn from a stream keyed by the seed and its id, with arithmetic that is the
//! same on every machine (integers, IEEE + − × ÷ √ and `libm`), so the bytes are the same
//! everywhere. Some images are planted: *mislabels* have another class's label; *near-duplicates*
//! are earlier images shifted, mirrored, brightened and noised; *blends* mix two classes.
//! [`Synthetic::truth`] says which.

mod draw;

use rayon::prelude::*;

use crate::prepare::{TrainingData, split};
use crate::random::{Purpose, stream};
use crate::splits::SplitParams;
use crate::{DataError, Dataset, Header, ImageSize, Published, Result, Sample, SampleId, Silent, Source, SourceKind};

use draw::{CLASSES, SIZE};

/// The parameters of the set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyntheticParams {
    /// Number of images, at least three per class.
    pub count: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Fraction of images with another class's label, 0 to 0.3.
    pub mislabelled: f64,
    /// Fraction of images that are copies of earlier ones, 0 to 0.3.
    pub near_duplicates: f64,
    /// Fraction of images that mix two classes, 0 to 0.3.
    pub blends: f64,
}

impl Default for SyntheticParams {
    fn default() -> Self {
        Self { count: 6000, seed: 0, mislabelled: 0.03, near_duplicates: 0.02, blends: 0.02 }
    }
}

/// What is special about a planted image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Planted {
    /// Its label is wrong.
    Mislabel {
        /// The class that was drawn.
        true_label: u16,
    },
    /// It is a changed copy of an earlier image, with the same label.
    NearDuplicate {
        /// The earlier image.
        of: SampleId,
    },
    /// It mixes its class with another one.
    Blend {
        /// The other class.
        with: u16,
        /// The other class's fraction, below one half.
        share: f64,
    },
}

/// The set and what is planted in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The images.
    pub dataset: Dataset,
    /// The planted images, ids ascending.
    pub truth: Vec<(SampleId, Planted)>,
}

impl Synthetic {
    /// Returns the set with ids from `first` on, also in its truth.
    ///
    /// # Errors
    /// If an id does not fit 32 bits.
    pub fn numbered_from(self, first: u32) -> Result<Self> {
        let Self { dataset, truth } = self;
        let dataset = dataset.numbered_from(first)?;
        let moved = |id: SampleId| SampleId(id.0 + first);
        let truth = truth.into_iter().map(|(id, planted)| {
            let planted = match planted {
                Planted::NearDuplicate { of } => Planted::NearDuplicate { of: moved(of) },
                other => other,
            };
            (moved(id), planted)
        });
        Ok(Self { dataset, truth: truth.collect() })
    }
}

/// Streams separate from those of single images.
const PLAN: u64 = 1;
const ORDER: u64 = 2;

/// Draws the set, on all threads.
///
/// ```
/// use cifar_data::sources::synthetic::{SyntheticParams, generate, truth_csv};
///
/// let set = generate(&SyntheticParams { count: 60, mislabelled: 0.1, ..Default::default() })?;
/// assert!(set.dataset.header().source.is_synthetic());
/// assert_eq!(truth_csv(&set).lines().count(), 1 + set.truth.len());
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a parameter is out of range.
pub fn generate(params: &SyntheticParams) -> Result<Synthetic> {
    check(params)?;
    let labels = drawn_classes(params);
    let planted = plan(params, &labels);
    let size = ImageSize { height: SIZE, width: SIZE };
    let mut pixels = vec![0; params.count * size.bytes()];
    pixels.par_chunks_mut(size.bytes()).enumerate().for_each(|(id, pixels)| {
        let class = usize::from(labels[id]);
        match planted[id] {
            Some(Planted::NearDuplicate { of }) => {
                let original = draw::draw(params.seed, of.0.into(), usize::from(labels[of.0 as usize]));
                draw::disturb(params.seed, id as u64, &original, pixels);
            }
            Some(Planted::Blend { with, share }) => {
                let (one, other) =
                    (draw::draw(params.seed, id as u64, class), draw::draw(params.seed, id as u64, usize::from(with)));
                for ((p, a), b) in pixels.iter_mut().zip(one).zip(other) {
                    *p = (f64::from(a) * (1.0 - share) + f64::from(b) * share + 0.5) as u8;
                }
            }
            Some(Planted::Mislabel { .. }) | None => pixels.copy_from_slice(&draw::draw(params.seed, id as u64, class)),
        }
    });
    let published_train = params.count * 5 / 6;
    let samples = (0..params.count).map(|id| {
        let label = match planted[id] {
            Some(Planted::Mislabel { true_label }) => wrong_label(params.seed, id as u64, true_label),
            Some(Planted::NearDuplicate { of }) => labels[of.0 as usize],
            _ => labels[id],
        };
        Sample {
            id: SampleId(id as u32),
            label,
            original_label: label,
            published: if id < published_train { Published::Train } else { Published::Test },
            file: format!("synthetic/{id:05}.png"),
        }
    });
    let description = format!("SYNTHETIC, {} images, seed {}", params.count, params.seed);
    let source = Source::new(SourceKind::Synthetic, description);
    let header = Header { classes: CLASSES.map(String::from).to_vec(), size, source };
    let dataset = Dataset::new(header, samples.collect(), pixels)?;
    let truth = (0..).zip(planted).filter_map(|(id, planted)| Some((SampleId(id), planted?))).collect();
    Ok(Synthetic { dataset, truth })
}

/// Draws a set and returns its training and validation images, for examples and tests: those of
/// [`split`] with the default [`SplitParams`].
///
/// ```
/// use cifar_data::sources::synthetic::{SyntheticParams, training_data};
///
/// let data = training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// assert!(data.train.len() > data.val.len() && !data.val.is_empty());
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a parameter is out of range, or there are too few images for every split.
pub fn training_data(params: &SyntheticParams) -> Result<TrainingData> {
    Ok(split(&generate(params)?.dataset, &SplitParams::default(), &Silent)?.data)
}

/// Returns the planted images as a table:
/// `id,content,kind,true_label,duplicate_of,blend_with,blend_share`, with empty fields where a
/// column does not apply.
pub fn truth_csv(synthetic: &Synthetic) -> String {
    let class = |label: u16| &synthetic.dataset.classes()[usize::from(label)];
    let mut text = String::from("id,content,kind,true_label,duplicate_of,blend_with,blend_share\n");
    for (id, planted) in &synthetic.truth {
        let content = synthetic.dataset.index_of(*id).map(|index| synthetic.dataset.content(index).to_string());
        let image = format!("{id},{}", content.unwrap_or_default());
        let row = match planted {
            Planted::Mislabel { true_label } => format!("{image},mislabel,{},,,\n", class(*true_label)),
            Planted::NearDuplicate { of } => format!("{image},near_duplicate,,{of},,\n"),
            Planted::Blend { with, share } => format!("{image},blend,,,{},{share:.3}\n", class(*with)),
        };
        text += &row;
    }
    text
}

fn check(params: &SyntheticParams) -> Result<()> {
    let least = 3 * CLASSES.len();
    if params.count < least || u32::try_from(params.count).is_err() {
        return Err(DataError::Parameter {
            key: "count",
            value: params.count.to_string(),
            allowed: format!("allowed is {least} to {}", u32::MAX),
        });
    }
    let shares =
        [("mislabelled", params.mislabelled), ("near_duplicates", params.near_duplicates), ("blends", params.blends)];
    for (key, share) in shares {
        if !(0.0..=0.3).contains(&share) {
            return Err(DataError::Parameter { key, value: share.to_string(), allowed: "allowed is 0 to 0.3".into() });
        }
    }
    Ok(())
}

/// Returns the class that each image shows: every ten images show each class once, in random order.
fn drawn_classes(params: &SyntheticParams) -> Vec<u16> {
    let blocks = params.count.div_ceil(CLASSES.len()) as u64;
    let block = |index| {
        let mut classes: Vec<u16> = (0..CLASSES.len() as u16).collect();
        stream(params.seed, Purpose::Synthetic, ORDER, index).shuffle(&mut classes);
        classes
    };
    let mut labels: Vec<u16> = (0..blocks).flat_map(block).collect();
    labels.truncate(params.count);
    labels
}

/// Returns what is planted where.
fn plan(params: &SyntheticParams, labels: &[u16]) -> Vec<Option<Planted>> {
    let mut random = stream(params.seed, Purpose::Synthetic, PLAN, 0);
    let mut ids: Vec<usize> = (1..params.count).collect();
    random.shuffle(&mut ids);
    let count = |share: f64| (share * params.count as f64).round() as usize;
    let mut planted = vec![None; params.count];
    let mut ids = ids.into_iter();
    for id in ids.by_ref().take(count(params.mislabelled)) {
        planted[id] = Some(Planted::Mislabel { true_label: labels[id] });
    }
    for id in ids.by_ref().take(count(params.blends)) {
        let with = wrong_label(params.seed, id as u64, labels[id]);
        planted[id] = Some(Planted::Blend { with, share: random.uniform(0.3, 0.49) });
    }
    let copies: Vec<usize> = ids.take(count(params.near_duplicates)).collect();
    for &id in &copies {
        // The nearest earlier image, starting at a random one, that is not planted; the first image
        // never is.
        let start = random.below(id as u64) as usize;
        let of = (0..=start).rev().find(|of| planted[*of].is_none() && !copies.contains(of)).unwrap_or(0);
        planted[id] = Some(Planted::NearDuplicate { of: SampleId(of as u32) });
    }
    planted
}

/// Returns a class other than `label`; it depends on the image alone.
fn wrong_label(seed: u64, id: u64, label: u16) -> u16 {
    let other = stream(seed, Purpose::Synthetic, PLAN, id + 1).below(CLASSES.len() as u64 - 1) as u16;
    if other < label { other } else { other + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[test]
    fn the_bytes_are_the_same_on_every_machine() {
        let set = generate(&SyntheticParams { count: 300, ..Default::default() }).unwrap().dataset;
        assert_eq!(store::fingerprint(&set), "e425d9b9293b5aa94c1c05d5f7af5e3e");
    }

    #[test]
    fn the_fractions_and_the_truth_are_right() {
        let params = SyntheticParams { count: 1000, ..Default::default() };
        let Synthetic { dataset, truth } = generate(&params).unwrap();
        let count = |kind: fn(&Planted) -> bool| truth.iter().filter(|(_, p)| kind(p)).count();
        assert_eq!(count(|p| matches!(p, Planted::Mislabel { .. })), 30);
        assert_eq!(count(|p| matches!(p, Planted::NearDuplicate { .. })), 20);
        assert_eq!(count(|p| matches!(p, Planted::Blend { .. })), 20);
        for (id, planted) in &truth {
            let label = dataset.samples()[id.0 as usize].label;
            match planted {
                Planted::Mislabel { true_label } => assert_ne!(label, *true_label),
                Planted::NearDuplicate { of } => {
                    assert!(of < id);
                    assert_eq!(label, dataset.samples()[of.0 as usize].label);
                    assert_ne!(dataset.image(of.0 as usize), dataset.image(id.0 as usize));
                }
                Planted::Blend { with, share } => assert!(label != *with && *share < 0.5),
            }
        }
        assert_eq!(truth_csv(&generate(&params).unwrap()).lines().count(), 71);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert!(generate(&SyntheticParams { count: 29, ..Default::default() }).is_err());
        assert!(generate(&SyntheticParams { blends: 0.4, ..Default::default() }).is_err());
        assert!(generate(&SyntheticParams { mislabelled: f64::NAN, ..Default::default() }).is_err());
    }
}
