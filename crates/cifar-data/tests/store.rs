//! A set on disk: written files are read, and all others are refused.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cifar_data::store::{self, IMAGES, MANIFEST};
use cifar_data::{Dataset, ImageSize, Published, Sample, SampleId};
use common::{SIZE, check_refused, edit, get, header, noise, put, sample, set, shown, temporary, text};
use safetensors::tensor::{Dtype, TensorView};

/// Five images with everything that a manifest can contain: a changed label, names that need
/// quotes, all published splits.
fn five() -> Dataset {
    let mut samples: Vec<Sample> =
        [(3, 0), (4, 1), (10, 2), (11, 0), (70_000, 1)].map(|(id, label)| sample(id, label)).to_vec();
    samples[0].original_label = 2;
    samples[1].file = "train/a, \"b\"/naïve 日本.png".into();
    samples[2].published = Published::Test;
    samples[3].published = Published::None;
    set(&["cat", "dog, wet", "ox"], samples)
}

fn stored(set: &Dataset) -> tempfile::TempDir {
    let folder = temporary();
    store::write(set, folder.path()).expect("the folder exists");
    folder
}

fn check_roundtrip(set: &Dataset) {
    let folder = stored(set);
    assert_eq!(&store::read(folder.path()).expect("just written"), set);
    let again = stored(set);
    for file in [IMAGES, MANIFEST] {
        assert_eq!(get(&folder.path().join(file)), get(&again.path().join(file)), "{file}");
    }
}

#[test]
fn a_set_survives_the_round_trip() {
    check_roundtrip(&five());
    check_roundtrip(&five().filter(|_| false));
    check_roundtrip(&set(&["only"], vec![sample(u32::MAX, 0)]));
    check_roundtrip(&common::synthetic(30));
}

#[cfg(unix)]
#[test]
fn both_files_have_the_permissions_that_the_user_gives_to_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = stored(&five());
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    put(&folder.path().join("plain"), b"1");
    for file in [IMAGES, MANIFEST] {
        assert_eq!(mode(file), mode("plain"), "{file}");
    }
}

#[test]
fn the_manifest_is_readable() {
    let folder = stored(&set(&["cat", "dog"], vec![sample(7, 1)]));
    let hash = store::image_hash(&noise(0, SIZE.bytes()));
    assert_eq!(
        text(&folder.path().join(MANIFEST)),
        format!(
            "id,file,label,original_label,published_split,source,blake3\n\
             7,train/x/7.png,dog,dog,train,\"class folders, by hand\",{hash}\n"
        )
    );
}

/// Reads `folder` with other `bytes` in `file`. Expects an error that names the folder, or a set
/// that `harmless` accepts.
fn check_damaged(folder: &Path, file: &str, bytes: &[u8], harmless: impl Fn(&Dataset) -> bool, what: &str) {
    put(&folder.join(file), bytes);
    match store::read(folder) {
        Ok(read) => assert!(harmless(&read), "{file}, {what}: wrong data were accepted"),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(&shown(folder)), "{file}, {what}: {message}");
            assert!(!message.contains('\n'), "{file}, {what}: {message:?}");
        }
    }
}

#[test]
fn no_truncated_file_is_accepted() {
    let set = five();
    let folder = stored(&set);
    for file in [IMAGES, MANIFEST] {
        let whole = get(&folder.path().join(file));
        for length in 0..whole.len() {
            // A manifest without its last line break is still complete.
            let harmless = |read: &Dataset| file == MANIFEST && length == whole.len() - 1 && *read == set;
            check_damaged(folder.path(), file, &whole[..length], harmless, &format!("{length} bytes"));
        }
        check_damaged(folder.path(), file, &[&whole[..], b"x"].concat(), |_| false, "one byte more");
        put(&folder.path().join(file), &whole);
    }
    assert_eq!(store::read(folder.path()).expect("whole again"), set);
}

#[test]
fn no_flipped_bit_changes_the_data() {
    let set = five();
    let folder = stored(&set);
    for file in [IMAGES, MANIFEST] {
        let whole = get(&folder.path().join(file));
        for at in 0..whole.len() {
            for bit in [0, 4, 6, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let harmless = |read: &Dataset| read == &set;
                check_damaged(folder.path(), file, &bytes, harmless, &format!("byte {at}, bit {bit}"));
            }
        }
        put(&folder.path().join(file), &whole);
    }
}

#[test]
fn a_flipped_pixel_is_reported_with_its_image() {
    let folder = stored(&five());
    let mut bytes = get(&folder.path().join(IMAGES));
    let pixels = bytes.len() - 5 * SIZE.bytes();
    bytes[pixels + 2 * SIZE.bytes()] ^= 1;
    put(&folder.path().join(IMAGES), &bytes);
    check_refused(store::read(folder.path()), &[&shown(&folder.path().join(IMAGES)), "image 10 ", "hash"]);
}

#[test]
fn other_schema_versions_are_named() {
    for other in ["0", "1", "3"] {
        let folder = stored(&five());
        let path = folder.path().join(IMAGES);
        edit(&path, r#"\"schema\":2"#, &format!(r#"\"schema\":{other}"#));
        let found = format!("schema {other}");
        check_refused(store::read(folder.path()), &[&shown(&path), &found, "reads schema 2"]);
    }
}

#[test]
fn a_manifest_of_other_images_is_refused() {
    fn check(from: &str, to: &str, expected: &str) {
        let folder = stored(&five());
        let path = folder.path().join(MANIFEST);
        edit(&path, from, to);
        check_refused(store::read(folder.path()), &[&shown(&path), expected]);
    }
    let row = |id: u32| {
        let folder = stored(&five());
        let manifest = text(&folder.path().join(MANIFEST));
        let row = manifest.lines().find(|line| line.starts_with(&format!("{id},"))).expect("the row is there");
        format!("{row}\n")
    };
    check(&row(10), "", "lists 4 images, but images.safetensors holds 5");
    check(&row(10), &(row(10) + &row(10)), "lists 6 images");
    check(&(row(3) + &row(4)), &(row(4) + &row(3)), "line 2: image 4 is not the image 3");
    check("\n10,", "\n9,", "line 4: image 9 is not the image 10");
    check("\n10,", "\nten,", "line 4: id \"ten\" is not a number");
    check("3,train/x/3.png,cat,ox", "3,train/x/3.png,ox,ox", "line 2: image 3");
    check("3,train/x/3.png,cat,ox", "3,train/x/3.png,cat,cat", "line 2: image 3");
    check("3,train/x/3.png,cat,ox", "3,train/x/3.png,cow,ox", "line 2: unknown class \"cow\"");
    check("10.png,ox,ox,test,", "10.png,ox,ox,exam,", "line 4: published_split \"exam\"");
    check("11.png,cat,cat,none,\"class folders", "11.png,cat,cat,none,\"other folders", "line 5: ");
    check("\n10,", "\n10,10,", "line 4: ");
    check("id,file,label", "id,label,file", "has the columns \"id,label,file,");
}

#[test]
fn files_of_two_sets_do_not_mix() {
    let folder = stored(&five());
    let mut other = five();
    other.relabel(|s| (s.id == SampleId(4)).then_some(0)).expect("label 0 exists");
    let other = stored(&other);
    fs::copy(other.path().join(MANIFEST), folder.path().join(MANIFEST)).expect("a copy");
    check_refused(store::read(folder.path()), &[&shown(folder.path()), "line 3: image 4"]);
}

#[test]
fn a_missing_file_is_named() {
    for file in [IMAGES, MANIFEST] {
        let folder = stored(&five());
        fs::remove_file(folder.path().join(file)).expect("it was there");
        check_refused(store::read(folder.path()), &[&shown(&folder.path().join(file)), "cannot read"]);
    }
}

type Tensors<'a> = Vec<(&'a str, Dtype, Vec<usize>, &'a [u8])>;

/// One image of `size`, stored with tensors and metadata that `change` has modified.
fn check_foreign(size: ImageSize, change: impl Fn(&mut Tensors, &mut HashMap<String, String>), expected: &str) {
    let folder = stored(&set(&["cat"], vec![sample(0, 0)]));
    let mut json = serde_json::json!({"schema": 2, "manifest_hash": ""});
    let header = serde_json::to_value(header(&["cat"], size)).expect("a header is JSON");
    for (key, value) in header.as_object().expect("an object") {
        json[key] = value.clone();
    }
    let mut metadata = HashMap::from([("cifar_data".to_string(), json.to_string())]);
    let pixels = noise(0, SIZE.bytes());
    let mut tensors: Tensors = vec![
        ("images", Dtype::U8, vec![1, SIZE.height, SIZE.width, 3], &pixels),
        ("ids", Dtype::U32, vec![1], &[0; 4]),
        ("labels", Dtype::U16, vec![1], &[0; 2]),
        ("original_labels", Dtype::U16, vec![1], &[0; 2]),
    ];
    change(&mut tensors, &mut metadata);
    let views = tensors
        .into_iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(dtype, shape, data).expect("the data fit")));
    let path = folder.path().join(IMAGES);
    safetensors::serialize_to_file(views, Some(metadata), &path).expect("it can be written");
    check_refused(store::read(folder.path()), &[&shown(&path), expected]);
}

#[test]
fn files_of_other_programs_are_refused() {
    let size = |height, width| ImageSize { height, width };
    check_foreign(SIZE, |_, metadata| metadata.clear(), "no `cifar_data` metadata");
    check_foreign(SIZE, |_, metadata| *metadata.get_mut("cifar_data").unwrap() = "{".into(), "schema none");
    check_foreign(
        SIZE,
        |_, metadata| *metadata.get_mut("cifar_data").unwrap() = r#"{"schema": 2}"#.into(),
        "unreadable metadata",
    );
    check_foreign(SIZE, |tensors, _| drop(tensors.remove(2)), "no tensor `labels`");
    check_foreign(SIZE, |tensors, _| tensors[0].1 = Dtype::I8, "`images` is I8, expected U8");
    check_foreign(SIZE, |tensors, _| tensors[0].2 = vec![SIZE.bytes()], "shape [45], expected [45, 3, 5, 3]");
    check_foreign(
        SIZE,
        |tensors, _| {
            (tensors[2].2, tensors[2].3) = (vec![2], &[0; 4]);
        },
        "1 images, 1 ids, 2 labels",
    );
    check_foreign(size(5, 3), |_, _| {}, "shape [1, 3, 5, 3], expected [1, 5, 3, 3]");
}

/// Earlier versions panicked: they compared hashes image by image before checking that images have
/// any bytes.
#[test]
fn images_without_pixels_are_refused() {
    let without = |shape: Vec<usize>| {
        move |tensors: &mut Tensors, _: &mut HashMap<String, String>| {
            (tensors[0].2, tensors[0].3) = (shape.clone(), &[]);
        }
    };
    check_foreign(ImageSize { height: 0, width: 5 }, without(vec![1, 0, 5, 3]), "5×0 pixels");
    // Half of all addresses per side: the product overflows.
    let half = 1 << (usize::BITS / 2);
    check_foreign(ImageSize { height: half, width: half }, without(vec![0, half, half, 3]), "pixels");
}

#[test]
fn fingerprints_of_different_sets_differ() {
    let base = five();
    let mut others = vec![base.filter(|s| s.id.0 != 11)];
    let mut relabelled = base.clone();
    relabelled.relabel(|s| (s.id.0 == 3).then_some(1)).expect("label 1 exists");
    others.push(relabelled);
    let rebuilt = |change: &dyn Fn(&mut Vec<Sample>, &mut Vec<u8>)| {
        let (mut samples, mut pixels) = (base.samples().to_vec(), base.pixels().to_vec());
        change(&mut samples, &mut pixels);
        Dataset::new(base.header().clone(), samples, pixels).expect("still valid")
    };
    others.push(rebuilt(&|samples, _| samples[4].id = SampleId(70_001)));
    others.push(rebuilt(&|samples, _| samples[0].original_label = 1));
    others.push(rebuilt(&|_, pixels| pixels[0] ^= 1));
    for other in &others {
        assert_ne!(store::fingerprint(other), store::fingerprint(&base));
    }
    assert_eq!(store::fingerprint(&rebuilt(&|_, _| {})), store::fingerprint(&base));
}
