//! Partitions → pull → prepare on a small synthetic set: the content of every folder.

use crate::common;

use std::collections::BTreeSet;

use cifar_data::labels::migrate;
use cifar_data::prepare::{OverrideCounts, ReviewCounts, TestSet, TrainingData, normalisation, read_pairs, split};
use cifar_data::pull::Raw;
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Dataset, ImageIndex, Sample, SampleId, Silent, store};
use common::flow::{Flow, ids, rows};
use common::{header, official, pooled, put, sample, set, text, tree};

#[test]
fn partitions_hold_thirds() {
    let flow = Flow::new();
    for (name, expected) in [("v1", 0..40), ("v2", 40..80), ("v3", 80..120)] {
        let part = flow.read(&format!("partitions/{name}"));
        assert_eq!(ids(&part), expected.collect::<Vec<_>>(), "{name}");
        for (index, sample) in part.samples().iter().enumerate() {
            assert_eq!(part.image(index), flow.all.image(sample.id.0 as usize));
        }
    }
}

/// Checks the images of one choice of partitions, and that the pool is that of any other choice.
fn check_pulled(chosen: &str, split: &SplitParams, images: std::ops::Range<u32>) {
    let flow = Flow::new();
    let record = flow.pull(chosen, split).expect("partitions are there");
    let (raw, pool) = (flow.read("raw"), flow.read("raw/pool"));
    assert_eq!(ids(&raw), images.collect::<Vec<_>>());
    assert_eq!(raw.pixels(), flow.all.filter(|s| raw.index_of(s.id).is_some()).pixels());
    assert_eq!((record.images, record.pool_images), (raw.len(), pool.len()));
    assert_eq!(record.partitions["v2"], store::fingerprint(&flow.read("partitions/v2")));

    let read = Raw::read(&flow.path("raw")).expect("just written");
    assert_eq!((&read.dataset, &read.record), (&raw, &record));
    assert_eq!(read.membership.len(), 120);
    let test: Vec<u32> = read.membership.iter().filter(|(_, m)| m.split == Split::Test).map(|(id, _)| id.0).collect();
    assert_eq!(ids(&pool), test);
    assert_eq!(pool, flow.all.filter(|s| test.contains(&s.id.0)));
    assert!(read.membership.iter().all(|(id, m)| u32::from(m.partition.number()) == 1 + id.0 / 40));
}

#[test]
fn pull_joins_the_chosen_partitions_and_separates_the_pool() {
    let choices =
        [("v1", 0..40), ("v2", 40..80), ("v3", 80..120), ("v1+v2", 0..80), ("v3+v2", 40..120), ("v1+v2+v3", 0..120)];
    for (chosen, images) in choices {
        check_pulled(chosen, &SplitParams::default(), images.clone());
        check_pulled(chosen, &official(0.1), images);
    }
}

#[test]
fn the_official_pool_is_the_published_test_set() {
    let flow = Flow::new();
    flow.both("v1", &official(0.1));
    assert_eq!(ids(&flow.read("raw/pool")), (100..120).collect::<Vec<_>>());
    assert_eq!(ids(&flow.read("prepared/test")), (100..120).collect::<Vec<_>>());
    let data = TrainingData::open(&flow.path("prepared")).expect("just prepared");
    assert_eq!(data.train.len() + data.val.len(), 40);
}

#[test]
fn an_image_has_the_same_split_in_every_choice_of_partitions() {
    for split in [SplitParams::default(), pooled(5, 0.3, 0.3)] {
        let flow = Flow::new();
        flow.both("v1+v2+v3", &split);
        let all = flow.places();
        assert_eq!(all.len(), 120);
        for (chosen, count) in [("v1", 40), ("v2", 40), ("v3", 40), ("v1+v2", 80)] {
            flow.both(chosen, &split);
            let places = flow.places();
            assert_eq!(places.len(), count);
            assert!(places.iter().all(|(id, split)| all[id] == *split), "{chosen}");
        }
    }
}

#[test]
fn prepare_puts_every_image_in_one_split_and_counts_correctly() {
    let flow = Flow::new();
    let split = pooled(1, 0.25, 0.2);
    let report = flow.both("v1+v2", &split);
    let TrainingData { train, val, report: read } = TrainingData::open(&flow.path("prepared")).expect("just prepared");
    let test =
        TestSet::open(&flow.path("prepared/test"), report.test_fingerprint()).expect("just prepared").dataset().clone();
    assert_eq!(read, report);
    let sets = [(Split::Train, &train), (Split::Val, &val), (Split::Test, &test)];
    let everywhere: Vec<u32> = sets.iter().flat_map(|(_, set)| ids(set)).collect();
    assert_eq!(everywhere.len(), 80);
    assert_eq!(everywhere.into_iter().collect::<BTreeSet<_>>(), (0..80).collect());
    for (split, set) in sets {
        assert_eq!(*set, flow.all.filter(|s| set.index_of(s.id).is_some()), "{split}");
        assert_eq!(report.images[&split], set.len());
        assert_eq!(report.fingerprints[&split], store::fingerprint(set));
        for (class, count) in set.classes().iter().zip(set.counts_by_class()) {
            assert_eq!(report.images_by_class[&split][class], count, "{split} {class}");
        }
        let first = set.samples().iter().filter(|s| s.id.0 < 40).count();
        assert_eq!(report.images_by_partition[&split]["v1"], first);
        assert_eq!(report.images_by_partition[&split]["v2"], set.len() - first);
    }
    assert_eq!((report.split, report.overrides), (split, OverrideCounts::default()));
    assert!(report.source.description.starts_with("SYNTHETIC"));
    let rows = rows(&flow.path("prepared/split.csv"));
    for (id, row) in (0u32..).zip(&rows) {
        let sample = &flow.all.samples()[id as usize];
        let class = &flow.all.classes()[usize::from(sample.label)];
        assert_eq!(row[0], id.to_string());
        assert_eq!(row[2..], [if id < 40 { "v1" } else { "v2" }, class, class].map(String::from));
    }
}

#[test]
fn a_split_in_memory_equals_the_split_on_disk() {
    for params in [SplitParams::default(), SplitParams { train_images: 50, ..pooled(3, 0.3, 0.3) }] {
        let flow = Flow::new();
        let report = flow.both("v1+v2+v3", &params);
        let found = split(&flow.all, &params, &Silent).expect("enough images");
        assert_eq!(found.data, TrainingData::open(&flow.path("prepared")).expect("just prepared"));
        let test = TestSet::open(&flow.path("prepared/test"), report.test_fingerprint()).expect("just prepared");
        assert_eq!(found.test, test);
        let pairs = read_pairs(&flow.path("prepared")).expect("just prepared");
        let used = |id| found.data.train.index_of(id).or(found.data.val.index_of(id)).or(test.dataset().index_of(id));
        let expected = found.pairs.iter().filter(|p| used(p.first).is_some() && used(p.second).is_some());
        assert!(expected.eq(pairs.iter().map(|placed| &placed.pair)));
    }
    let none = Flow::new().all.filter(|_| false);
    let message = split(&none, &SplitParams::default(), &Silent).unwrap_err().to_string();
    assert!(message.starts_with("no training image is left"), "{message}");
}

#[test]
fn both_stages_write_identical_files_again() {
    let (one, other) = (Flow::new(), Flow::new());
    for threads in [1, 4] {
        let flow = if threads == 1 { &one } else { &other };
        common::on_threads(threads, || flow.both("v1+v2", &SplitParams::default()));
    }
    assert_eq!(tree(one.root.path()), tree(other.root.path()));
}

#[test]
fn each_channel_has_its_own_normalisation() {
    let header = header(&["a"], cifar_data::ImageSize { height: 1, width: 2 });
    let samples = vec![sample(0, 0), sample(1, 0)];
    let set = Dataset::new(header, samples, vec![0, 51, 255, 255, 51, 255, 0, 51, 255, 255, 51, 255]).expect("valid");
    let found = normalisation(&set);
    assert_eq!(found.mean, [0.5, 0.2, 1.0]);
    // The second and third channel are constant: the smallest deviation is one step of a byte.
    assert_eq!(found.std, [0.5, 1.0 / 255.0, 1.0 / 255.0]);
}

#[test]
fn overrides_change_training_and_validation_labels_only() {
    let flow = Flow::new();
    let split = SplitParams::default();
    flow.both("v1", &split);
    let places = flow.places();
    let first = |split: &str| *places.iter().find(|(_, s)| *s == split).expect("there are some").0;
    let (train, val, test) = (first("train"), first("val"), first("test"));
    let classes = flow.all.classes();
    let other = |id: u32| (flow.all.samples()[id as usize].label + 1) % 10;
    let row = |id: u32| format!("{id},{}\n", classes[usize::from(other(id))]);
    let same = places.keys().find(|id| **id != train && places[id] == "train").expect("there are some");
    let same_row = format!("{same},{}\n", classes[usize::from(flow.all.samples()[*same as usize].label)]);
    let overrides = format!("id,label\n{}{}{}{}{same_row}", row(train), row(val), row(test), row(77));
    put(&flow.path("overrides.csv"), overrides.as_bytes());

    let report = flow.prepare("v1", &split).expect("overrides are valid");
    assert_eq!(report.overrides, OverrideCounts { changed: 2, ignored_test: 1, not_chosen: 1 });
    let prepared: Vec<_> = ["train", "val", "test"]
        .iter()
        .flat_map(|split| flow.read(&format!("prepared/{split}")).samples().to_vec())
        .collect();
    assert_eq!(prepared.len(), 40);
    for sample in prepared {
        let original = flow.all.samples()[sample.id.0 as usize].label;
        let expected = if [train, val].contains(&sample.id.0) { other(sample.id.0) } else { original };
        assert_eq!((sample.label, sample.original_label), (expected, original), "image {}", sample.id);
    }
    assert_eq!(flow.places(), places, "no image moves to another split");
    let rows = rows(&flow.path("prepared/split.csv"));
    let changed: Vec<u32> = rows.iter().filter(|r| r[3] != r[4]).map(|r| r[0].parse().unwrap()).collect();
    assert_eq!(changed.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([train, val]));
}

#[test]
fn official_test_labels_are_never_replaced() {
    let flow = Flow::new();
    let other = (flow.all.samples()[110].label + 1) % 10;
    put(&flow.path("overrides.csv"), format!("id,label\n110,{}\n", flow.all.classes()[usize::from(other)]).as_bytes());
    let report = flow.both("v1", &official(0.1));
    assert_eq!(report.overrides, OverrideCounts { ignored_test: 1, ..OverrideCounts::default() });
    assert_eq!(flow.read("prepared/test"), flow.all.filter(|s| s.id.0 >= 100));
}

/// Earlier versions wrote `split.csv` without quotes.
#[test]
fn class_names_may_contain_commas() {
    let classes = ["cats, dogs", "\"ox\""];
    let flow = Flow::of(set(&classes, (0..30).map(|id| sample(id, (id % 2) as u16)).collect()));
    flow.both("v1+v2+v3", &SplitParams::default());
    for (id, row) in rows(&flow.path("prepared/split.csv")).iter().enumerate() {
        assert_eq!(row[3..], [classes[id % 2], classes[id % 2]].map(String::from));
    }
}

#[test]
fn fewer_training_images_leave_the_other_splits_unchanged() {
    let flow = Flow::new();
    flow.both("v1+v2+v3", &SplitParams::default());
    let (all, pulled) = (flow.places(), tree(&flow.path("raw")));
    let split = SplitParams { train_images: 20, ..SplitParams::default() };
    let report = flow.prepare("v1+v2+v3", &split).expect("pulled data do not depend on it");
    let some = flow.places();
    assert_eq!(report.images[&Split::Train], 20);
    assert!(some.iter().all(|(id, split)| all[id] == *split));
    assert!(
        all.iter().all(|(id, split)| split == "train" || some.contains_key(id)),
        "validation and test are unchanged"
    );
    assert_eq!(report.normalisation, normalisation(&flow.read("prepared/train")));
    flow.both("v1+v2+v3", &split);
    assert!(tree(&flow.path("raw")) == pulled, "`pull` writes the same bytes for any number");
}

#[test]
fn decisions_relabel_and_drop_training_images_and_never_test_images() {
    let flow = Flow::new();
    let split = SplitParams::default();
    flow.both("v1", &split);
    let places = flow.places();
    let of = |split: &str| places.iter().filter(|(_, s)| *s == split).map(|(id, _)| *id).collect::<Vec<_>>();
    let (train, test) = (of("train"), of("test"));
    let other = |id: u32| (flow.all.samples()[id as usize].label + 1) % 10;
    let class = |id: u32| &flow.all.classes()[usize::from(other(id))];
    let review = format!(
        "id,decision,label,note\n{0},accept,{1},\n{2},relabel,{3},\n{4},drop,,blurred\n{5},dismiss,,\n{6},drop,,\n77,drop,,\n",
        train[0],
        class(train[0]),
        train[1],
        class(train[1]),
        train[2],
        train[3],
        test[0]
    );
    put(&flow.path("review.csv"), review.as_bytes());
    let report = flow.prepare("v1", &split).expect("decisions are valid");
    let expected = ReviewCounts { changed: 2, dropped: 1, dismissed: 1, ignored_test: 1, not_chosen: 1 };
    assert_eq!(report.review, expected);
    let kept = flow.read("prepared/train");
    assert_eq!(kept.len(), train.len() - 1);
    assert!(kept.index_of(SampleId(train[2])).is_none());
    for sample in kept.samples() {
        let original = flow.all.samples()[sample.id.0 as usize].label;
        let expected = if train[..2].contains(&sample.id.0) { other(sample.id.0) } else { original };
        assert_eq!((sample.label, sample.original_label), (expected, original), "image {}", sample.id);
    }
    assert_eq!(flow.read("prepared/test").len(), test.len());
    assert_eq!(std::fs::read(flow.path("prepared/review.csv")).expect("a copy"), review.as_bytes());

    put(&flow.path("review.csv"), b"id,decision,label,note\n4000000,drop,,\n");
    let refused = flow.prepare("v1", &split).expect_err("there is no such image").to_string();
    assert!(refused.contains("review.csv, line 2: there is no image 4000000"), "{refused}");
}

/// An id is a position in the order of files. Before lines had a content, they silently applied to
/// another image.
#[test]
fn decisions_follow_their_images_when_files_are_removed() {
    let version = "v1+v2+v3";
    let flow = Flow::of(set(&["cat", "dog"], (0..60).map(|id| sample(id, (id % 2) as u16)).collect()));
    flow.both(version, &SplitParams::default());
    let id =
        flow.places().into_iter().find(|(id, split)| *id > 9 && split == "train").expect("an image to train with").0;
    let content = flow.all.content(id as usize);
    let other = ["dog", "cat"][usize::from(flow.all.samples()[id as usize].label)];
    let text = format!("id,content,file,label\n{id},{content},{},{other}\n", flow.all.samples()[id as usize].file);
    put(&flow.path("overrides.csv"), text.as_bytes());
    assert_eq!(flow.prepare(version, &SplitParams::default()).expect("it is the image").overrides.changed, 1);

    // The fourth file is deleted, so every later image has another id.
    let kept: Vec<usize> = (0..60).filter(|index| *index != 3).collect();
    let samples = kept
        .iter()
        .enumerate()
        .map(|(id, index)| Sample { id: SampleId(id as u32), ..flow.all.samples()[*index].clone() });
    let pixels = kept.iter().flat_map(|index| flow.all.image(*index).to_vec()).collect();
    let all = Dataset::new(flow.all.header().clone(), samples.collect(), pixels).expect("a set");
    let after = Flow::of(all);
    put(&after.path("overrides.csv"), text.as_bytes());
    after.pull(version, &SplitParams::default()).expect("partitions are there");
    let error = after.prepare(version, &SplitParams::default()).expect_err("it is another image");
    assert!(matches!(error, DataError::Misplaced { .. }), "{error:?}");
    let refused = error.to_string();
    let now = after.all.content(id as usize);
    for part in ["overrides.csv, line 2: image ", &content.to_string(), &now.to_string()] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let images = ImageIndex::read(&after.path("partitions")).expect("manifests");
    let done = migrate(&after.path("overrides.csv"), &images, false).expect("the image is there");
    assert_eq!(done.moved.iter().map(|m| (m.from.0, m.to.0)).collect::<Vec<_>>(), [(id, id - 1)]);
    after.prepare(version, &SplitParams::default()).expect("it is the image");
    let split = after.places()[&(id - 1)].clone();
    let prepared = after.read(&format!("prepared/{split}"));
    let place = prepared.index_of(SampleId(id - 1)).expect("it is in its split");
    assert_eq!(prepared.content(place), content);
    assert_eq!(prepared.classes()[usize::from(prepared.samples()[place].label)] == other, split != "test");
}

/// With a damaged manifest, a line about an image could be moved to another image.
#[test]
fn labels_are_not_migrated_by_a_damaged_manifest() {
    let flow = Flow::new();
    let manifest = flow.path("partitions/v2/manifest.csv");
    let whole = text(&manifest);
    assert!(ImageIndex::read(&flow.path("partitions")).is_ok());
    for (from, to) in [("\n40,", "\n39,"), ("\n41,", "\n40,"), ("png,", "jpg,")] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole, "{from}");
        put(&manifest, changed.as_bytes());
        let error = ImageIndex::read(&flow.path("partitions")).expect_err("it is damaged").to_string();
        assert!(error.contains("partitions/v2/manifest.csv"), "{error}");
    }
}
