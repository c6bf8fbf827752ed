//! Batches: orientation, channel order, and what their images depend on.

use crate::common;

use std::collections::BTreeSet;

use cifar_data::batches::{
    Augmentation, Batch, Draw, Flip, balanced_draws, drawn_batch, epoch_order, evaluation_batch, training_batch,
};
use cifar_data::{Dataset, ImageSize, SampleId};
use common::{SIZE, check_refused, header, on_threads, sample, set};

/// No augmentation.
const PLAIN: Augmentation = Augmentation {
    flip: Flip::None,
    crop_padding: 0,
    cutout: 0,
    cutout_inside: false,
    mixup: 0.0,
    brightness: 0.0,
    contrast: 0.0,
};

/// One colour per letter, with three different channels: swapped channels match no letter.
fn colour(letter: u8) -> [u8; 3] {
    [letter, letter + 60, letter + 120]
}

/// Creates a dataset of one image, given in letters, row by row. Its id is 9.
fn drawn(rows: &[&str]) -> Dataset {
    let size = ImageSize { height: rows.len(), width: rows[0].len() };
    let pixels = rows.concat().bytes().flat_map(colour).collect();
    Dataset::new(header(&["a"], size), vec![sample(9, 0)], pixels).expect("valid")
}

/// Returns the first image of a batch in letters.
fn letters(batch: &Batch) -> Vec<String> {
    let pixels = &batch.pixels[..batch.size.bytes()];
    let letter = |rgb: &[u8]| (b'A'..=b'Z').find(|letter| colour(*letter) == *rgb).map_or('?', char::from);
    let all: Vec<char> = pixels.chunks_exact(3).map(letter).collect();
    all.chunks_exact(batch.size.width).map(|row| row.iter().collect()).collect()
}

const ROWS: [&str; 3] = ["ABCD", "EFGH", "IJKL"];

fn check_augmented(flip: Flip, crop_padding: usize, epoch: u64, expected: [&str; 3]) {
    let augmentation = Augmentation { flip, crop_padding, ..PLAIN };
    let found = letters(&training_batch(&drawn(&ROWS), &[0], &augmentation, 1, epoch));
    assert_eq!(found, expected, "{augmentation:?}, epoch {epoch}");
}

#[test]
fn images_without_augmentation_are_unchanged() {
    assert_eq!(letters(&evaluation_batch(&drawn(&ROWS), 0, 1)), ROWS);
    check_augmented(Flip::None, 0, 0, ROWS);
}

#[test]
fn a_flip_swaps_left_and_right() {
    check_augmented(Flip::Random, 0, 5, ROWS);
    check_augmented(Flip::Random, 0, 6, ["DCBA", "HGFE", "LKJI"]);
}

#[test]
fn a_crop_shifts_the_image_with_reflected_borders() {
    // The image is shifted down and left by one; down by one and right by two; up and left by two.
    // Then two mirrored ones.
    check_augmented(Flip::None, 1, 0, ["FGHG", "BCDC", "FGHG"]);
    check_augmented(Flip::None, 2, 1, ["GFEF", "CBAB", "GFEF"]);
    check_augmented(Flip::Random, 2, 3, ["KLKJ", "GHGF", "CDCB"]);
    check_augmented(Flip::Random, 2, 9, ["KLKJ", "GHGF", "CDCB"]);
    check_augmented(Flip::Random, 2, 11, ["KJIJ", "GFEF", "CBAB"]);
}

/// Returns the items with `padding` of their reflection on both sides, without repeating the first
/// and the last.
fn reflected<T: Clone>(items: &[T], padding: usize) -> Vec<T> {
    let before = items[1..=padding].iter().rev();
    let after = items[items.len() - 1 - padding..items.len() - 1].iter().rev();
    before.chain(items).chain(after).cloned().collect()
}

/// Over many epochs exactly the windows of the padded image occur, unmirrored and, with `flip`,
/// mirrored.
fn check_windows(rows: &[&str], flip: Flip, padding: usize) {
    let (height, width) = (rows.len(), rows[0].len());
    let rows_of_chars: Vec<Vec<char>> =
        rows.iter().map(|row| reflected(&row.chars().collect::<Vec<_>>(), padding)).collect();
    let padded = reflected(&rows_of_chars, padding);
    let mut expected = BTreeSet::new();
    for (down, right) in (0..=2 * padding).flat_map(|down| (0..=2 * padding).map(move |right| (down, right))) {
        let window = || padded[down..down + height].iter().map(|row| row[right..right + width].iter());
        expected.insert(window().map(Iterator::collect).collect::<Vec<String>>());
        if flip == Flip::Random {
            expected.insert(window().map(|row| row.rev().collect()).collect());
        }
    }
    let set = drawn(rows);
    let augmentation = Augmentation { flip, crop_padding: padding, ..PLAIN };
    let found: BTreeSet<_> =
        (0..2000).map(|epoch| letters(&training_batch(&set, &[0], &augmentation, 7, epoch))).collect();
    assert_eq!(found, expected);
}

#[test]
fn exactly_the_windows_of_the_padded_image_occur() {
    check_windows(&ROWS, Flip::None, 0);
    check_windows(&ROWS, Flip::Random, 1);
    check_windows(&ROWS, Flip::None, 2);
    check_windows(&["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"], Flip::Random, 3);
}

#[test]
fn flips_and_shifts_are_uniform_and_independent() {
    let set = drawn(&ROWS);
    let augmentation = Augmentation { flip: Flip::Random, crop_padding: 1, ..PLAIN };
    let mut flipped = 0;
    for epoch in 0..10_000 {
        let rows = letters(&training_batch(&set, &[0], &augmentation, 0, epoch));
        // The two middle columns move by one at most, so the position of B, F or J shows whether
        // the image is mirrored.
        let left = rows[1].find(['B', 'F', 'J']).expect("it never leaves the image");
        let right = rows[1].find(['C', 'G', 'K']).expect("it never leaves the image");
        flipped += i32::from(left > right);
    }
    // Five standard deviations of a binomial with n = 10 000 and p = 1/2.
    assert!((flipped - 5000).abs() < 250, "{flipped}");
}

/// 23 images of two classes, ids 5, 12, 19, …
fn many() -> Dataset {
    set(&["a", "b"], (0..23).map(|i| sample(5 + 7 * i, (i % 2) as u16)).collect())
}

fn batches_of(set: &Dataset, size: usize, seed: u64, epoch: u64) -> Vec<Batch> {
    let augmentation = Augmentation { flip: Flip::Random, crop_padding: 2, ..PLAIN };
    epoch_order(set.len(), seed, epoch)
        .chunks(size)
        .map(|indices| training_batch(set, indices, &augmentation, seed, epoch))
        .collect()
}

/// Returns ids, labels and pixels of an epoch, image by image.
fn images(batches: &[Batch]) -> Vec<(SampleId, u32, Vec<u8>)> {
    batches
        .iter()
        .flat_map(|b| b.ids.iter().zip(&b.labels).zip(b.pixels.chunks_exact(b.size.bytes())))
        .map(|((id, label), pixels)| (*id, *label, pixels.to_vec()))
        .collect()
}

#[test]
fn every_epoch_visits_every_image_once() {
    let set = many();
    for epoch in 0..5 {
        let mut visited: Vec<_> = batches_of(&set, 4, 3, epoch).into_iter().flat_map(|b| b.ids).collect();
        assert_ne!(visited, set.samples().iter().map(|s| s.id).collect::<Vec<_>>(), "shuffled");
        visited.sort_unstable();
        assert_eq!(visited, set.samples().iter().map(|s| s.id).collect::<Vec<_>>());
    }
    assert_eq!(epoch_order(0, 0, 0), Vec::<usize>::new());
    assert_eq!(epoch_order(1, 0, 0), [0]);
}

#[test]
fn a_label_follows_its_image() {
    let set = many();
    for (id, label, _) in images(&batches_of(&set, 5, 0, 1)) {
        assert_eq!(label, u32::from(set.samples()[set.index_of(id).expect("it is in the set")].label));
    }
}

#[test]
fn the_batch_size_does_not_matter() {
    let set = many();
    let whole = images(&batches_of(&set, 23, 3, 1));
    for size in [1, 2, 7, 22, 100] {
        assert_eq!(images(&batches_of(&set, size, 3, 1)), whole, "batches of {size}");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let run = |threads| on_threads(threads, || images(&batches_of(&many(), 4, 3, 1)));
    assert_eq!(run(1), run(4));
}

#[test]
fn augmentation_depends_on_seed_epoch_and_id_alone() {
    let set = many();
    let augmentation = Augmentation { flip: Flip::Random, crop_padding: 2, ..PLAIN };
    let pixels = |set: &Dataset, index, seed, epoch| training_batch(set, &[index], &augmentation, seed, epoch).pixels;
    let part = set.filter(|s| s.id.0 > 100);
    let place = set.len() - part.len();
    assert!(place > 0);
    for index in 0..part.len() {
        assert_eq!(pixels(&part, index, 3, 1), pixels(&set, place + index, 3, 1), "with other images in the set");
    }
    let all = |seed, epoch| (0..set.len()).flat_map(|index| pixels(&set, index, seed, epoch)).collect::<Vec<_>>();
    assert_eq!(all(3, 1), all(3, 1));
    assert_ne!(all(3, 1), all(4, 1));
    assert_ne!(all(3, 1), all(3, 2));
    assert_ne!(epoch_order(23, 3, 1), epoch_order(23, 4, 1));
    assert_ne!(epoch_order(23, 3, 1), epoch_order(23, 3, 2));
}

/// The same image under different ids gets different flips and crops.
#[test]
fn images_are_augmented_independently() {
    let one = many();
    let pixels = one.image(0).repeat(one.len());
    let same = Dataset::new(one.header().clone(), one.samples().to_vec(), pixels).expect("valid");
    let augmentation = Augmentation { flip: Flip::Random, crop_padding: 2, ..PLAIN };
    let batch = training_batch(&same, &(0..same.len()).collect::<Vec<_>>(), &augmentation, 0, 0);
    let different: BTreeSet<_> = batch.pixels.chunks_exact(SIZE.bytes()).collect();
    assert!(different.len() > 10, "{} of 23", different.len());
}

#[test]
fn evaluation_counts_every_image_in_order() {
    let set = many();
    for size in [1, 4, 23, 50, usize::MAX] {
        let (mut ids, mut pixels) = (Vec::new(), Vec::new());
        for start in (0..set.len()).step_by(size.min(1000)) {
            let batch = evaluation_batch(&set, start, size);
            assert_eq!((batch.len(), batch.is_empty()), (size.min(set.len() - start), false));
            ids.extend(batch.ids);
            pixels.extend(batch.pixels);
        }
        assert_eq!(ids, set.samples().iter().map(|s| s.id).collect::<Vec<_>>());
        assert_eq!(pixels, set.pixels());
    }
    assert!(evaluation_batch(&set, 23, 4).is_empty());
    assert!(evaluation_batch(&set, 99, 4).is_empty());
}

#[test]
fn alternating_flips_show_every_image_both_ways_in_two_epochs() {
    let set = many();
    let augmentation = Augmentation { flip: Flip::Alternating, crop_padding: 0, ..PLAIN };
    let indices: Vec<usize> = (0..set.len()).collect();
    let batch = |seed, epoch| training_batch(&set, &indices, &augmentation, seed, epoch).pixels;
    let mirror = |pixels: &[u8]| -> Vec<u8> {
        pixels.chunks_exact(3 * SIZE.width).flat_map(|row| row.rchunks_exact(3).flatten().copied()).collect()
    };
    for epoch in 0..4 {
        assert_eq!(batch(3, epoch + 1), mirror(&batch(3, epoch)));
        assert_eq!(batch(3, epoch + 2), batch(3, epoch));
    }
    let first = batch(3, 0);
    let flipped = indices.iter().filter(|i| first[*i * SIZE.bytes()..][..SIZE.bytes()] != *set.image(**i)).count();
    assert!((4..=19).contains(&flipped), "{flipped} of 23");
    assert_ne!(first, batch(4, 0));
}

#[test]
fn balanced_draws_are_equal_by_class_and_take_turns_within_a_class() {
    // 50 images of class 0, one of class 1, none of class 2, six of class 3.
    let labels: Vec<u16> = [vec![0; 50], vec![1], vec![3; 6]].concat();
    let (mut drawn, mut of_class) = (vec![0u64; labels.len()], [0usize; 4]);
    for epoch in 0..40 {
        let draws = balanced_draws(&labels, 7, epoch);
        assert_eq!(draws, balanced_draws(&labels, 7, epoch), "no state of earlier calls");
        assert_eq!(draws.len(), labels.len());
        let counts = [0, 1, 3].map(|class| draws.iter().filter(|draw| labels[draw.index] == class).count());
        assert_eq!(counts, [19; 3]);
        // In the order of its draws, an image's visits count from 0.
        let mut sorted = draws.clone();
        sorted.sort_by_key(|draw| (draw.index, draw.visit));
        for draw in &sorted {
            assert_eq!(draw.visit, drawn[draw.index], "epoch {epoch}, image {}", draw.index);
            drawn[draw.index] += 1;
            of_class[usize::from(labels[draw.index])] += 1;
        }
        let turns = |class| drawn.iter().zip(&labels).filter(move |(_, label)| **label == class).map(|(n, _)| *n);
        for class in [0, 1, 3] {
            assert!(turns(class).max() <= turns(class).min().map(|least| least + 1), "class {class}: {drawn:?}");
        }
        let first: Vec<u16> = draws[..19].iter().map(|draw| labels[draw.index]).collect();
        assert!([0, 1, 3].iter().all(|class| first.contains(class)), "classes are mixed: {first:?}");
    }
    assert_eq!(of_class, [760, 760, 0, 760]);
    assert_ne!(balanced_draws(&labels, 7, 0), balanced_draws(&labels, 8, 0));
    // Eight draws of three classes: after three epochs all have eight.
    let labels = [0, 0, 0, 1, 1, 1, 1, 2];
    let mut counts = [0; 3];
    for epoch in 0..3 {
        for draw in balanced_draws(&labels, 1, epoch) {
            counts[usize::from(labels[draw.index])] += 1;
        }
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
    assert_eq!(counts, [8; 3]);
    assert_eq!(balanced_draws(&[], 1, 0), []);
}

#[test]
fn repeated_draws_of_an_image_are_augmented_differently() {
    let set = many();
    let augmentation = Augmentation { flip: Flip::Alternating, crop_padding: 2, mixup: 1.0, ..PLAIN };
    let draws = [Draw { index: 3, visit: 0 }, Draw { index: 3, visit: 1 }, Draw { index: 3, visit: 2 }];
    let batch = drawn_batch(&set, &draws, &augmentation, 5);
    let images: BTreeSet<&[u8]> = batch.pixels.chunks_exact(SIZE.bytes()).collect();
    let mix = batch.mix.as_ref().expect("mixed");
    let shares: BTreeSet<u32> = mix.shares.iter().map(|share| share.to_bits()).collect();
    assert_eq!((images.len(), shares.len()), (3, 3));
    // Draws of one visit per epoch are the images of that epoch.
    let draws = [4, 9, 2].map(|index| Draw { index, visit: 6 });
    assert_eq!(drawn_batch(&set, &draws, &augmentation, 5), training_batch(&set, &[4, 9, 2], &augmentation, 5, 6));
}

/// Returns the rows and columns that contain `grey` pixels, and their number.
fn erased(batch: &Batch) -> (BTreeSet<usize>, BTreeSet<usize>, usize) {
    let grey: Vec<usize> =
        batch.pixels.chunks_exact(3).enumerate().filter(|(_, p)| **p == [128; 3]).map(|(at, _)| at).collect();
    let width = batch.size.width;
    (grey.iter().map(|at| at / width).collect(), grey.iter().map(|at| at % width).collect(), grey.len())
}

#[test]
fn cutout_erases_a_square_around_any_pixel() {
    let rows = ["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"];
    for side in 1..=5 {
        let (set, augmentation) = (drawn(&rows), Augmentation { cutout: side, ..PLAIN });
        let mut corners = BTreeSet::new();
        for epoch in 0..600 {
            let batch = training_batch(&set, &[0], &augmentation, 2, epoch);
            let (rows, columns, count) = erased(&batch);
            assert_eq!(rows.len() * columns.len(), count, "a rectangle");
            assert!(
                (side.div_ceil(2)..=side).contains(&rows.len()) && (side.div_ceil(2)..=side).contains(&columns.len())
            );
            corners.insert((rows.first().copied(), columns.first().copied(), rows.len(), columns.len()));
        }
        assert_eq!(corners.len(), expected_squares(side), "side {side}");
    }
}

#[test]
fn cutout_can_be_wholly_inside() {
    let set = drawn(&["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"]);
    for side in 1..=5 {
        let augmentation = Augmentation { cutout: side, cutout_inside: true, ..PLAIN };
        let mut corners = BTreeSet::new();
        for epoch in 0..600 {
            let (rows, columns, count) = erased(&training_batch(&set, &[0], &augmentation, 2, epoch));
            assert_eq!((rows.len(), columns.len(), count), (side, side, side * side), "a whole square");
            corners.insert((rows.first().copied(), columns.first().copied()));
        }
        assert_eq!(corners.len(), (6 - side).pow(2), "side {side}");
    }
}

/// Returns the number of different parts of a 5×5 image that squares around its pixels cover.
fn expected_squares(side: usize) -> usize {
    let spans: BTreeSet<_> = (0..5i32)
        .map(|centre| centre - side as i32 / 2)
        .map(|start| (start.max(0), (start + side as i32).min(5)))
        .collect();
    spans.len() * spans.len()
}

#[test]
fn jitter_shifts_and_scales_values_around_the_mean() {
    let set = many();
    let (brightness, contrast) = (0.1, 0.3);
    let augmentation = Augmentation { brightness, contrast, ..PLAIN };
    let (mut moves, mut stretches) = (Vec::new(), Vec::new());
    for epoch in 0..200 {
        let batch = training_batch(&set, &[4], &augmentation, 1, epoch);
        let mean = |pixels: &[u8]| pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / pixels.len() as f64;
        let (before, after) = (set.image(4), &batch.pixels);
        // A least-squares line through (value before, value after) of unsaturated values.
        let pairs = || before.iter().zip(after).filter(|(_, y)| !matches!(**y, 0 | 255));
        let n = pairs().count() as f64;
        let (mx, my) =
            (pairs().map(|p| f64::from(*p.0)).sum::<f64>() / n, pairs().map(|p| f64::from(*p.1)).sum::<f64>() / n);
        let slope = pairs().map(|(x, y)| (f64::from(*x) - mx) * (f64::from(*y) - my)).sum::<f64>()
            / pairs().map(|(x, _)| (f64::from(*x) - mx).powi(2)).sum::<f64>();
        stretches.push(slope);
        moves.push(my + slope * (mean(before) - mx) - mean(before));
        let line = |x: u8| my + slope * (f64::from(x) - mx);
        assert!(pairs().all(|(x, y)| (line(*x) - f64::from(*y)).abs() < 1.1), "a line, but for rounding");
    }
    let range = |values: &[f64]| {
        (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    };
    // The extremes of 200 uniform draws are within 5 % of both ends except with probability 2 ·
    // 0.975²⁰⁰ = 1.3 %; the seed is fixed.
    let (low, high) = range(&moves);
    assert!((-26.5..-23.0).contains(&low) && (23.0..26.5).contains(&high), "{low} {high}");
    let (low, high) = range(&stretches);
    assert!((0.69..0.73).contains(&low) && (1.27..1.31).contains(&high), "{low} {high}");
}

#[test]
fn mixup_is_a_weighted_mean_with_the_next_image() {
    let set = many();
    let plain = Augmentation { crop_padding: 2, flip: Flip::Random, ..PLAIN };
    let mixed = Augmentation { mixup: 1.0, ..plain };
    for count in [1, 2, 23] {
        let indices: Vec<usize> = (0..count).rev().collect();
        let (before, after) =
            (training_batch(&set, &indices, &plain, 3, 1), training_batch(&set, &indices, &mixed, 3, 1));
        assert_eq!((&before.ids, &before.labels, &before.mix), (&after.ids, &after.labels, &None));
        let mix = after.mix.expect("mixed");
        for i in 0..count {
            let next = (i + 1) % count;
            assert_eq!(mix.partner_labels[i], before.labels[next]);
            let share = mix.shares[i];
            assert!((0.0..=1.0).contains(&share));
            let image = |batch: &Batch, i: usize| batch.pixels[i * SIZE.bytes()..(i + 1) * SIZE.bytes()].to_vec();
            let expected: Vec<u8> = image(&before, i)
                .iter()
                .zip(image(&before, next))
                .map(|(a, b)| (share * f32::from(*a) + (1.0 - share) * f32::from(b)).round() as u8)
                .collect();
            assert_eq!(after.pixels[i * SIZE.bytes()..(i + 1) * SIZE.bytes()], expected, "{i} of {count}");
        }
    }
    assert!(training_batch(&set, &[], &mixed, 3, 1).is_empty());
}

#[test]
fn augmentations_out_of_range_are_refused() {
    let check = |augmentation: Augmentation, expected: &[&str]| check_refused(augmentation.check(SIZE), expected);
    check(Augmentation { cutout: 4, ..PLAIN }, &["cutout: 4", "0 to 3"]);
    check(Augmentation { mixup: -0.1, ..PLAIN }, &["mixup: -0.1", "0 to 10"]);
    check(Augmentation { mixup: f64::NAN, ..PLAIN }, &["mixup: NaN"]);
    check(Augmentation { brightness: 1.5, ..PLAIN }, &["brightness: 1.5", "0 to 1"]);
    check(Augmentation { contrast: -1.0, ..PLAIN }, &["contrast: -1", "0 to 1"]);
    let most = Augmentation { cutout: 3, mixup: 10.0, brightness: 1.0, contrast: 1.0, ..PLAIN };
    most.check(SIZE).expect("in range");
}

#[test]
fn a_padding_larger_than_the_image_is_refused() {
    let check = |crop_padding| Augmentation { flip: Flip::None, crop_padding, ..PLAIN }.check(SIZE);
    check(0).expect("no crop");
    check(2).expect("the smaller side is 3");
    check_refused(check(3), &["crop_padding: 3", "5×3", "0 to 2"]);
}
