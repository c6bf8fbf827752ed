//! Test-time augmentation compared with manually augmented copies.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_data::{Dataset, Silent};
use cifar_model::{
    Mode, Model, ModelParams, ModelSpec, TestTimeAugmentation, Views, predict, predict_augmented, predict_pixels,
};

fn images(count: usize) -> Dataset {
    generate(&SyntheticParams { count, ..Default::default() }).unwrap().dataset
}

fn model(set: &Dataset) -> Model {
    let params = ModelParams { widths: vec![4, 5, 6], ..ModelParams::default() };
    let normalisation = cifar_data::prepare::normalisation(set);
    let spec = ModelSpec { params, classes: set.classes().to_vec(), size: set.size(), normalisation };
    Model::new(spec, 3).unwrap()
}

/// Returns an image cut at `row` and `column` from its reflection-padded version, optionally
/// mirrored.
fn view(image: &[u8], row: usize, column: usize, mirrored: bool) -> Vec<u8> {
    const SIDE: usize = 32;
    // The coordinates of the padded version in the image.
    let source: Vec<usize> = std::iter::once(1).chain(0..SIDE).chain([SIDE - 2]).collect();
    let mut pixels = Vec::new();
    for y in 0..SIDE {
        for x in 0..SIDE {
            let x = if mirrored { SIDE - 1 - x } else { x };
            let at = (source[y + row] * SIDE + source[x + column]) * 3;
            pixels.extend_from_slice(&image[at..at + 3]);
        }
    }
    pixels
}

fn check(views: Views, expected: &[(usize, usize, bool, f32)]) {
    let set = images(30);
    let model = model(&set);
    let augmentation = TestTimeAugmentation { views, fraction: 1.0 };
    let found = predict_augmented(&model, &set, augmentation, "testing", &Silent).unwrap();
    assert_eq!(found.plain, predict(&model, &set, "testing", &Silent).unwrap());
    assert_eq!(found.averaged, predict_pixels(&model, set.pixels(), views).unwrap());
    for index in 0..set.len() {
        let mut mean = vec![0.0; 10];
        for (row, column, mirrored, weight) in expected {
            let pixels = view(set.image(index), *row, *column, *mirrored);
            let logits =
                model.forward(&pixels, &Mode::Evaluate).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            mean.iter_mut().zip(logits).for_each(|(m, l)| *m += weight * l);
        }
        for (found, expected) in found.averaged.row(index).iter().zip(&mean) {
            // Six roundings of values of about 1, and another order of images in a batch.
            assert!((found - expected).abs() < 1e-5, "image {index}: {found} instead of {expected}");
        }
    }
}

#[test]
fn logits_are_means_over_augmented_copies() {
    check(Views::None, &[(1, 1, false, 1.0)]);
    check(Views::Mirror, &[(1, 1, false, 0.5), (1, 1, true, 0.5)]);
    let corners = [(0, 0, false, 0.125), (0, 0, true, 0.125), (2, 2, false, 0.125), (2, 2, true, 0.125)];
    check(Views::MirrorShift, &[&[(1, 1, false, 0.25), (1, 1, true, 0.25)][..], &corners].concat());
}

#[test]
fn only_the_least_certain_images_are_augmented() {
    let set = images(300);
    let model = model(&set);
    let run = |fraction| {
        predict_augmented(&model, &set, TestTimeAugmentation { views: Views::Mirror, fraction }, "testing", &Silent)
            .unwrap()
    };
    let all = run(1.0);
    // More than one batch.
    assert_eq!(all.averaged, predict_pixels(&model, set.pixels(), Views::Mirror).unwrap());
    let probabilities = all.plain.probabilities().unwrap();
    let margins: Vec<f32> = probabilities
        .chunks_exact(10)
        .map(|row| {
            let mut row = row.to_vec();
            row.sort_by(f32::total_cmp);
            row[9] - row[8]
        })
        .collect();
    for (fraction, count) in [(0.0, 0), (0.25, 75), (0.9001, 271), (1.0, 300)] {
        let some = run(fraction);
        let again: Vec<usize> = (0..300).filter(|i| some.averaged.row(*i) != some.plain.row(*i)).collect();
        assert_eq!(again.len(), count, "fraction {fraction}");
        let highest = again.iter().map(|i| margins[*i]).fold(f32::NEG_INFINITY, f32::max);
        let lowest = (0..300).filter(|i| !again.contains(i)).map(|i| margins[i]).fold(f32::INFINITY, f32::min);
        assert!(highest <= lowest, "{highest} {lowest}");
        // Batches hold other images, so the last bits may differ.
        let near =
            |i: &usize| some.averaged.row(*i).iter().zip(all.averaged.row(*i)).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(again.iter().all(near));
    }
}

#[test]
fn pixels_that_are_no_whole_images_are_refused() {
    let set = images(30);
    let model = model(&set);
    assert!(predict_pixels(&model, &[], Views::Mirror).unwrap().is_empty());
    let error = predict_pixels(&model, &set.pixels()[1..], Views::None).unwrap_err().to_string();
    assert_eq!(error, "92159 bytes are not whole images of 32×32 pixels");
}

#[test]
fn an_empty_dataset_is_allowed_and_a_fraction_out_of_range_is_refused() {
    let set = images(30);
    let model = model(&set);
    let run = |set: &Dataset, fraction| {
        predict_augmented(&model, set, TestTimeAugmentation { views: Views::MirrorShift, fraction }, "testing", &Silent)
    };
    assert!(run(&set.filter(|_| false), 1.0).unwrap().averaged.is_empty());
    for fraction in [-0.1, 1.1, f64::NAN] {
        assert!(run(&set, fraction).unwrap_err().to_string().starts_with("tta_fraction: "));
    }
}
