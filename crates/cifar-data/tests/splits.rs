//! The division into train, validation and test.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};

use cifar_data::partitions::{Partition, thirds};
use cifar_data::splits::{Candidate, Split, SplitParams, assign, training_subset};
use cifar_data::{Published, SampleId};
use common::{check_refused, noise, official, pooled};
use proptest::prelude::*;

/// Returns `n` images of `classes` classes, five sixths of them published for training. Each image
/// is its own group.
fn images(n: usize, classes: u8) -> Vec<Candidate> {
    let labels = noise(7, n);
    Partition::FIRST
        .into_iter()
        .zip(thirds(n))
        .flat_map(|(partition, range)| range.map(move |id| (partition, id)))
        .map(|(partition, id)| Candidate {
            id: SampleId(id as u32),
            original_label: u16::from(labels[id] % classes),
            partition,
            published: if id < n * 5 / 6 { Published::Train } else { Published::Test },
            group: SampleId(id as u32),
        })
        .collect()
}

fn divide(images: &[Candidate], params: &SplitParams) -> BTreeMap<SampleId, Split> {
    assign(images, params).expect("these images can be divided")
}

fn ids(assigned: &BTreeMap<SampleId, Split>, split: Split) -> Vec<u32> {
    assigned.iter().filter(|(_, s)| **s == split).map(|(id, _)| id.0).collect()
}

/// Returns the number of images of each split, for each key.
fn counts<K: Ord>(
    images: &[Candidate],
    assigned: &BTreeMap<SampleId, Split>,
    key: impl Fn(&Candidate) -> K,
) -> BTreeMap<K, [usize; 3]> {
    let mut counts = BTreeMap::new();
    for image in images {
        counts.entry(key(image)).or_insert([0; 3])[assigned[&image.id] as usize] += 1;
    }
    counts
}

/// Checks that the count of every stratum is less than one image from its exact number, and that of
/// every class less than one image or 5 %.
fn check_strata(images: &[Candidate], params: &SplitParams) {
    let assigned = divide(images, params);
    assert_eq!(assigned.len(), images.len());
    let mut due_for_val = BTreeMap::new();
    for (stratum, [train, val, test]) in counts(images, &assigned, |c| (c.partition, c.original_label)) {
        let n = train + val + test;
        let off_test = test as f64 - n as f64 * params.test_fraction;
        let share_of_val = (n - test) as f64 * params.val_fraction;
        assert!(off_test.abs() < 1.0 && (val as f64 - share_of_val).abs() < 1.0, "{stratum:?}: {train}/{val}/{test}");
        *due_for_val.entry(stratum.1).or_insert(0.0) += share_of_val;
    }
    for (class, [train, val, test]) in counts(images, &assigned, |c| c.original_label) {
        let is_near = |count: usize, exact: f64| (count as f64 - exact).abs() < f64::max(1.0, 0.05 * exact);
        let exact_test = (train + val + test) as f64 * params.test_fraction;
        assert!(is_near(test, exact_test) && is_near(val, due_for_val[&class]), "class {class}: {train}/{val}/{test}");
    }
}

#[test]
fn a_class_of_five_images_has_test_and_validation_images() {
    // Ids of the first third are in v1, and so on; each of 200 classes has five consecutive images.
    let mut images = images(1000, 1);
    for image in &mut images {
        image.original_label = (image.id.0 / 5) as u16;
    }
    let assigned = divide(&images, &SplitParams::default());
    for (class, found) in counts(&images, &assigned, |c| c.original_label) {
        // A fifth of five, and an eighth of the other four, rounded.
        assert_eq!(found, [3, 1, 1], "class {class}");
    }
}

#[test]
fn every_class_of_every_partition_has_the_same_proportions() {
    let images = images(1000, 7);
    for params in [SplitParams::default(), pooled(3, 0.9, 0.9), pooled(3, 0.05, 0.3), pooled(0, 0.0, 0.0)] {
        check_strata(&images, &params);
    }
}

#[test]
fn the_default_is_seventy_ten_twenty() {
    let images = images(60_000, 10);
    let assigned = divide(&images, &SplitParams::default());
    let all = counts(&images, &assigned, |_| ())[&()];
    // Thirty strata, each rounded by at most half an image.
    for (found, expected) in all.into_iter().zip([42_000_i64, 6_000, 12_000]) {
        assert!((found as i64 - expected).abs() <= 30, "{all:?}");
    }
}

/// The splits of the first images must never change, or recorded results would refer to other data.
#[test]
fn splits_never_change() {
    fn check(params: &SplitParams, val: &[u32], test: &[u32]) {
        let assigned = divide(&images(48, 2), params);
        assert_eq!((ids(&assigned, Split::Val), ids(&assigned, Split::Test)), (val.to_vec(), test.to_vec()));
    }
    check(&pooled(0, 0.25, 0.2), &[3, 12, 20, 29, 33, 40], &[4, 13, 14, 15, 18, 25, 30, 31, 34, 37, 43, 44]);
    check(&official(0.25), &[4, 13, 14, 15, 18, 25, 30, 31, 34, 37], &[40, 41, 42, 43, 44, 45, 46, 47]);
}

#[test]
fn splits_in_large_classes_depend_only_on_the_image_s_partition() {
    let images = images(900, 5);
    let all = divide(&images, &SplitParams::default());
    for partitions in [&Partition::FIRST[..1], &Partition::FIRST[1..2], &Partition::FIRST[..2]] {
        let some: Vec<_> = images.iter().filter(|c| partitions.contains(&c.partition)).cloned().collect();
        for (id, split) in divide(&some, &SplitParams::default()) {
            assert_eq!(split, all[&id], "image {id} in {partitions:?}");
        }
    }
}

#[test]
fn official_keeps_the_published_test_images() {
    let images = images(600, 3);
    let assigned = divide(&images, &official(0.1));
    assert_eq!(ids(&assigned, Split::Test), (500..600).collect::<Vec<_>>());
    let val = ids(&assigned, Split::Val);
    assert!((45..=55).contains(&val.len()) && val.iter().all(|id| *id < 500), "{val:?}");
}

#[test]
fn official_needs_published_test_images() {
    let mut images = images(60, 3);
    for image in &mut images {
        image.published = Published::None;
    }
    check_refused(assign(&images, &official(0.1)), &["split.protocol", "official", "pooled"]);
}

#[test]
fn a_validation_fraction_of_0_gives_no_validation_images() {
    let images = images(600, 3);
    for params in [pooled(0, 0.2, 0.0), official(0.0)] {
        assert_eq!(ids(&divide(&images, &params), Split::Val), Vec::<u32>::new());
    }
}

#[test]
fn the_seed_decides_the_split() {
    let images = images(600, 3);
    let test = |seed| ids(&divide(&images, &pooled(seed, 0.2, 0.1)), Split::Test);
    assert_eq!(test(0), test(0));
    let common = test(0).iter().filter(|id| test(1).contains(id)).count();
    // Independent draws of 120 of 600 share 24; five standard deviations are 20.
    assert!((4..=44).contains(&common), "{common} of {}", test(0).len());
}

#[test]
fn label_overrides_change_no_split() {
    // Candidates have only the original label. What is left to test is that other classes do not
    // matter.
    let mut images = images(600, 3);
    let before = divide(&images, &SplitParams::default());
    images.retain(|c| c.original_label != 1);
    for (id, split) in divide(&images, &SplitParams::default()) {
        assert_eq!(split, before[&id]);
    }
}

#[test]
fn fractions_out_of_range_are_refused_by_name() {
    fn check(test: f64, val: f64, expected: &str) {
        let fractions = format!(r#""test_fraction": {test:?}, "val_fraction": {val:?}"#);
        let json = format!(r#"{{"protocol": "pooled", "split_seed": 0, {fractions}, "train_images": 0}}"#);
        check_refused(serde_json::from_str::<SplitParams>(&json), &[expected, "0 to 0.9"]);
        check_refused(assign(&images(60, 3), &pooled(0, test, val)), &[expected, "0 to 0.9"]);
    }
    check(0.91, 0.1, "test_fraction: 0.91 ");
    check(-0.1, 0.1, "test_fraction: -0.1 ");
    check(0.2, 1.0, "val_fraction: 1 ");
    check(0.2, -1e-9, "val_fraction: -0.000000001 ");
    check_refused(assign(&images(60, 3), &pooled(0, f64::NAN, 0.1)), &["test_fraction: NaN"]);
}

#[test]
fn unknown_parameters_are_refused() {
    let good = serde_json::to_string(&SplitParams::default()).expect("plain values");
    let more = good.replace('{', r#"{"seed": 1, "#);
    check_refused(serde_json::from_str::<SplitParams>(&more), &["seed"]);
    check_refused(serde_json::from_str::<SplitParams>(&good.replace("pooled", "kaggle")), &["kaggle"]);
}

#[test]
fn a_group_without_its_leader_is_refused() {
    let mut images = images(60, 3);
    images[5].group = SampleId(600);
    check_refused(assign(&images, &SplitParams::default()), &["image 5", "600"]);
}

/// Returns images of which some are near-duplicates of an earlier one, of any class and partition.
fn grouped_images() -> impl Strategy<Value = Vec<Candidate>> {
    (3usize..200, 1u8..6).prop_flat_map(|(n, classes)| {
        prop::collection::vec(prop::option::weighted(0.3, any::<prop::sample::Index>()), n).prop_map(move |leaders| {
            let mut images = images(n, classes);
            for (at, leader) in leaders.into_iter().enumerate().skip(1) {
                if let Some(leader) = leader {
                    images[at].group = images[leader.index(at)].group;
                }
            }
            images
        })
    })
}

proptest! {
    #[test]
    fn groups_stay_together_and_leaders_are_stratified(
        images in grouped_images(),
        seed: u64,
        test_fraction in 0.0..=0.9,
        val_fraction in 0.0..=0.9,
    ) {
        let params = pooled(seed, test_fraction, val_fraction);
        let assigned = divide(&images, &params);
        prop_assert_eq!(assigned.len(), images.len());
        for image in &images {
            prop_assert_eq!(assigned[&image.id], assigned[&image.group]);
        }
        let leaders: Vec<_> = images.into_iter().filter(|c| c.id == c.group).collect();
        check_strata(&leaders, &params);
    }

    #[test]
    fn official_groups_straddle_only_the_published_test_set(
        images in grouped_images(),
        seed: u64,
        val_fraction in 0.0..=0.9,
    ) {
        let params = SplitParams { split_seed: seed, ..official(val_fraction) };
        let assigned = divide(&images, &params);
        prop_assert_eq!(assigned.len(), images.len());
        for image in &images {
            let published = image.published == Published::Test;
            prop_assert_eq!(assigned[&image.id] == Split::Test, published);
            if !published {
                prop_assert_eq!(assigned[&image.id], assigned[&image.group]);
            }
        }
    }
}

/// Returns the subset of `count` of the training images of 3,000.
fn subset(count: usize, seed: u64) -> cifar_data::Result<BTreeSet<SampleId>> {
    let images = images(3000, 10);
    let assigned = divide(&images, &SplitParams::default());
    let train = images.iter().filter(|c| assigned[&c.id] == Split::Train);
    let train: Vec<_> = train.map(|c| (c.id, (c.partition, c.original_label))).collect();
    training_subset(train, &SplitParams { train_images: count, split_seed: seed, ..SplitParams::default() })
}

#[test]
fn subsets_are_nested_and_keep_proportions() {
    let all = subset(0, 0).expect("all of them");
    let images = images(3000, 10);
    let share = |ids: &BTreeSet<SampleId>| {
        let mut counts = BTreeMap::new();
        for image in images.iter().filter(|c| ids.contains(&c.id)) {
            *counts.entry((image.partition, image.original_label)).or_insert(0usize) += 1;
        }
        counts
    };
    let whole = share(&all);
    let mut smaller = BTreeSet::new();
    for count in [1, 30, 31, 500, 1000, all.len()] {
        let found = subset(count, 0).expect("there are enough");
        assert_eq!(found.len(), count);
        assert!(smaller.is_subset(&found) && found.is_subset(&all), "{count}");
        let part = share(&found);
        for (stratum, n) in &whole {
            let expected = *n as f64 * count as f64 / all.len() as f64;
            let off = part.get(stratum).copied().unwrap_or(0) as f64 - expected;
            assert!(off.abs() <= 1.0, "{count} {stratum:?} {off}");
        }
        smaller = found;
    }
    assert_eq!(smaller, all);
    assert_ne!(subset(500, 0).expect("enough"), subset(500, 1).expect("enough"), "the seed decides");
}

#[test]
fn too_many_training_images_are_refused() {
    let all = subset(0, 0).expect("all of them").len();
    check_refused(subset(all + 1, 0), &["split.train_images", &(all + 1).to_string(), &format!("0 to {all}")]);
}
