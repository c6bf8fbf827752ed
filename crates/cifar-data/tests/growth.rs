//! Partitions that are added to others: nothing that was there changes.

use crate::common;

use std::collections::BTreeMap;
use std::fs;

use cifar_data::partitions::{self, Partition};
use cifar_data::pull::Raw;
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{Dataset, ImageIndex, ImageSize, Sample, SampleId, Silent};
use common::flow::{Flow, ids};
use common::{check_refused, official, put, set, shown, synthetic, synthetic_of_seed, tree};

/// Returns 60 drawn images whose first ones are copies of `copies`.
fn new_images(copies: &Dataset) -> Dataset {
    let drawn = synthetic_of_seed(60, 1);
    let mut pixels = copies.pixels().to_vec();
    pixels.extend_from_slice(&drawn.pixels()[pixels.len()..]);
    let label = |index: usize| match copies.samples().get(index) {
        Some(copied) => copied.label,
        None => drawn.samples()[index].label,
    };
    let samples = drawn.samples().iter().enumerate().map(|(index, sample)| {
        let label = label(index);
        Sample { label, original_label: label, ..sample.clone() }
    });
    Dataset::new(drawn.header().clone(), samples.collect(), pixels).expect("a valid set")
}

/// A set of 120 images that was pulled and prepared, and the ids of one image per split.
fn first(split: &SplitParams) -> (Flow, BTreeMap<Split, SampleId>) {
    let flow = Flow::new();
    flow.both("v1+v2+v3", split);
    let raw = Raw::read(&flow.path("raw")).expect("just pulled");
    let one_of = |wanted| {
        let alone = |id: &SampleId| raw.pairs.iter().all(|pair| pair.first != *id && pair.second != *id);
        let found = raw.membership.iter().find(|(id, member)| member.split == wanted && alone(id));
        *found.expect("each split has images").0
    };
    let chosen = Split::ALL.into_iter().map(|split| (split, one_of(split))).collect();
    (flow, chosen)
}

/// Returns the files of a folder, except those that name later partitions.
fn lasting(flow: &Flow, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&flow.path(folder));
    if folder == "raw" {
        files.retain(|name, _| !["pull.json", "later.csv", "provenance.json"].contains(&name.as_str()));
    }
    files
}

#[test]
fn earlier_choices_keep_every_byte() {
    for split in [SplitParams::default(), official(0.1)] {
        let (flow, copied) = first(&split);
        let both = |version: &str| {
            flow.both(version, &split);
            [lasting(&flow, "raw"), lasting(&flow, "prepared")]
        };
        let versions = ["v1+v2+v3", "v1", "v2+v3"];
        let before = versions.map(both);
        let copies = flow.all.filter(|s| copied.values().any(|id| *id == s.id));
        flow.grow("v4", &new_images(&copies)).expect("the next partition");
        assert_eq!(versions.map(both), before);

        let with_v4 = ["v4", "v1+v4", "v1+v2+v3+v4"].map(both);
        flow.grow("v5", &synthetic_of_seed(30, 2)).expect("the next partition");
        assert_eq!(["v4", "v1+v4", "v1+v2+v3+v4"].map(both), with_v4);
        assert_eq!(versions.map(both), before);
    }
}

#[test]
fn new_images_follow_the_last_ones_and_stay_with_their_duplicates() {
    for split in [SplitParams::default(), official(0.1)] {
        let (flow, copied) = first(&split);
        let pool = tree(&flow.path("raw/pool"));
        let copies = flow.all.filter(|s| copied.values().any(|id| *id == s.id));
        flow.grow("v4", &new_images(&copies)).expect("the next partition");
        let report = flow.both("v1+v4", &split);
        let raw = Raw::read(&flow.path("raw")).expect("just pulled");
        assert_eq!(ids(&raw.dataset), (0..40).chain(120..180).collect::<Vec<_>>());
        assert_eq!(tree(&flow.path("raw/pool")), pool, "the shared test images stay as they are");
        for (new, old) in (120..).zip(copies.samples()) {
            let [new, old] = [SampleId(new), old.id].map(|id| raw.membership[&id]);
            assert_eq!((new.split, new.content, new.partition.number()), (old.split, old.content, 4));
        }
        let added = &report.added[&Partition::new(4).expect("a partition")];
        assert_eq!((added.counts.images, added.counts.exact_copies, added.counts.of_test_images), (60, 3, 1));
        assert_eq!(report.source.description, "SYNTHETIC, 120 images, seed 0 + SYNTHETIC, 60 images, seed 1");
        // The test images of the new partition are test images of runs that use it.
        let tests = ids(&flow.read("prepared/test"));
        let of_v4 = |id: &&u32| **id >= 120;
        let expected = raw.membership.iter().filter(|(id, m)| id.0 >= 120 && m.split == Split::Test).count();
        assert_eq!(tests.iter().filter(of_v4).count(), expected);
        assert!(expected > 1 && report.straddling_pairs.exact == 0);
    }
}

#[test]
fn labels_of_later_partitions_are_known_to_every_choice() {
    let (flow, _) = first(&SplitParams::default());
    flow.grow("v4", &synthetic_of_seed(60, 1)).expect("the next partition");
    let content =
        ImageIndex::read(&flow.path("partitions")).expect("partitions").get(SampleId(125)).expect("one").content;
    let line =
        |id: u32| put(&flow.path("overrides.csv"), format!("id,content,label\n{id},{content},disc\n").as_bytes());
    line(125);
    let report = flow.both("v1", &SplitParams::default());
    assert_eq!((report.overrides.changed, report.overrides.not_chosen), (0, 1));
    line(124);
    check_refused(flow.prepare("v1", &SplitParams::default()), &["overrides.csv, line 2", "124"]);
    line(180);
    check_refused(flow.prepare("v1", &SplitParams::default()), &["overrides.csv, line 2", "180"]);
}

#[test]
fn what_does_not_continue_the_set_is_refused() {
    let flow = Flow::new();
    let new = synthetic_of_seed(60, 1);
    let before = tree(&flow.path("partitions"));
    check_refused(flow.grow("v5", &new), &["v5 cannot be added; the next one is v4"]);
    check_refused(flow.grow("v2", &new), &["v2 cannot be added; the next one is v4"]);
    let other = set(&["disc", "fish"], vec![common::sample(0, 0), common::sample(1, 1)]);
    check_refused(flow.grow("v4", &other), &["fish is not a class of this set", "its classes are ", "disc"]);
    let size = ImageSize { height: 8, width: 8 };
    let small = Dataset::from_arrays(&["disc"], size, &[0], vec![0; size.bytes()]).expect("a set");
    check_refused(flow.grow("v4", &small), &["8×8 pixels, those that are there 32×32"]);
    let real = Dataset::from_arrays(&["disc"], new.size(), &[0], vec![0; new.size().bytes()]).expect("a set");
    check_refused(flow.grow("v4", &real), &["synthetic images and real ones"]);
    check_refused(flow.pull("v1+v4", &SplitParams::default()), &[&shown(&flow.path("partitions/v4")), "is missing"]);
    assert_eq!(tree(&flow.path("partitions")), before);
}

#[test]
fn classes_are_found_by_their_names() {
    let [first, other] = [&["ant", "bee", "cat"][..], &["cat", "bee"]];
    let size = ImageSize { height: 8, width: 8 };
    let images = |classes: &[&str], labels: &[u16], from: u8| {
        let pixels = (from..).zip(labels).flat_map(|(level, _)| vec![level; size.bytes()]).collect();
        Dataset::from_arrays(classes, size, labels, pixels).expect("a set")
    };
    let flow = Flow::of(images(first, &[0, 1, 2, 0, 1, 2], 0));
    flow.grow("v4", &images(other, &[0, 0, 1], 100)).expect("these are classes of the set");
    let added = flow.read("partitions/v4");
    assert_eq!((added.classes().len(), added.labels(), ids(&added)), (3, vec![2, 2, 1], vec![6, 7, 8]));
}

#[test]
fn partitions_that_do_not_belong_together_are_refused() {
    let grown = || {
        let flow = Flow::new();
        flow.grow("v4", &synthetic_of_seed(60, 1)).expect("the next partition");
        flow.grow("v5", &synthetic_of_seed(30, 2)).expect("the next partition");
        flow
    };
    let pulled = |flow: &Flow| flow.pull("v1", &SplitParams::default());

    let flow = grown();
    fs::remove_dir_all(flow.path("partitions/v4")).expect("it was there");
    check_refused(pulled(&flow), &["partitions/v4", "is missing"]);
    // Other images take its place: v5 was not added to them.
    fs::rename(flow.path("partitions/v5"), flow.path("v5")).expect("it was there");
    flow.grow("v4", &synthetic_of_seed(60, 3)).expect("the next partition");
    pulled(&flow).expect("v1 to v4 belong together");
    fs::rename(flow.path("v5"), flow.path("partitions/v5")).expect("it is free");
    check_refused(pulled(&flow), &["partitions/v5", "was added to other partitions than those before it"]);

    let flow = grown();
    let refused = partitions::write(&synthetic(90), &flow.path("partitions"), &Silent);
    check_refused(refused, &["partitions/v4", "was added to the set that these images would replace", "move"]);
    partitions::write(&flow.all, &flow.path("partitions"), &Silent).expect("the same set");
    pulled(&flow).expect("nothing has changed");

    let path = flow.path("partitions/v4/images.safetensors");
    let mut bytes = common::get(&path);
    *bytes.last_mut().expect("not empty") ^= 1;
    put(&path, &bytes);
    check_refused(pulled(&flow), &["partitions/v4"]);
    check_refused(flow.grow("v6", &synthetic_of_seed(30, 4)), &["partitions/v4"]);
}

#[test]
fn a_killed_addition_leaves_the_set_usable() {
    let flow = Flow::new();
    let before = flow.both("v1+v2+v3", &SplitParams::default());
    let left = flow.path("partitions/.partial-v4-Xy12z9");
    put(&left.join("images.safetensors"), b"half");
    assert_eq!(flow.both("v1+v2+v3", &SplitParams::default()), before);
    flow.grow("v4", &synthetic_of_seed(60, 1)).expect("the next partition");
    assert!(!left.exists() && flow.path("partitions/v4").is_dir());
}
