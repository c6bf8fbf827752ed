//! Labels of training images are judged by validation images.
#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use cifar_data::random::{Purpose, stream};
use cifar_data::splits::Split;
use cifar_data::{Dataset, ImageSize, Silent};
use cifar_eval::hard_images::{Category, Inputs, SplitPredictions, identify};

/// Returns 2,000 training and 1,000 validation images of four classes, of which a twentieth have a wrong
/// label. The network has learnt the training labels by heart. It knows the class of `known` of the
/// validation images.
fn learnt_by_heart(known: f64) -> [(Dataset, Vec<f32>, Vec<bool>); 2] {
    let size = ImageSize { height: 8, width: 8 };
    [(2000u32, 0u32, 1u64), (1000, 5000, 2)].map(|(count, first, seed)| {
        let mut draws = stream(seed, Purpose::Synthetic, 9, 0);
        let (mut labels, mut rows, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..count {
            let (class, is_wrong) = (image as u16 % 4, draws.chance(0.05));
            let label = if is_wrong { (class + 1) % 4 } else { class };
            let sure = (0.9 + 0.05 * draws.unit()) as f32;
            let predicted = if draws.chance(known) { class } else { (class + 2) % 4 };
            // A wrong training label is learnt less firmly.
            let learnt = if is_wrong { sure - 0.3 } else { sure };
            let (favourite, most) = if seed == 1 { (label, learnt) } else { (predicted, sure) };
            let second = if seed == 1 && is_wrong { class } else { (favourite + 1) % 4 };
            let rest = 1.0 - most;
            rows.extend((0..4).map(|k| match k {
                k if k == favourite => most,
                k if k == second => 0.8 * rest,
                _ => 0.1 * rest,
            }));
            labels.push(label);
            wrong.push(is_wrong);
        }
        let pixels = vec![100; count as usize * size.bytes()];
        let images = Dataset::from_arrays(&["ape", "bee", "cat", "dog"], size, &labels, pixels).unwrap();
        (images.numbered_from(first).unwrap(), rows, wrong)
    })
}

#[test]
fn learnt_labels_are_judged_by_validation_images_that_the_network_knows() {
    let flags = |known: f64, with_val: bool| {
        let [(train, of_train, wrong), (val, of_val, _)] = learnt_by_heart(known);
        let mut splits = vec![SplitPredictions::new(Split::Train, &train, of_train)];
        if with_val {
            splits.push(SplitPredictions::new(Split::Val, &val, of_val));
        }
        let inputs = Inputs { splits, ..Inputs::of_predictions(&train, Vec::new()) };
        let found = identify(&inputs, &Silent).unwrap();
        let flagged = found
            .images
            .iter()
            .filter(|image| image.split == Split::Train && image.category == Some(Category::LikelyMislabelled));
        let flagged: Vec<_> = flagged.collect();
        let right = flagged.iter().filter(|image| wrong[image.sample.id.0 as usize]).count();
        let reason = flagged.first().map(|image| image.reason.clone()).unwrap_or_default();
        (flagged.len(), right, wrong.iter().filter(|wrong| **wrong).count(), reason)
    };
    assert_eq!(flags(1.0, false).0, 0, "no network contradicts a label");
    let (flagged, right, planted, reason) = flags(1.0, true);
    assert!(flagged.abs_diff(planted) < 40 && right as f64 > 0.9 * flagged.min(planted) as f64, "{flagged} {right}");
    assert!(reason.contains("less well than those of other images; its best other class is "), "{reason}");
    assert_eq!(flags(0.4, true).0, 0, "validation images of which the network knows too little judge nothing");
}
