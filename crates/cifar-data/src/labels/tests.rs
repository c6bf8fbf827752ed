use super::*;
use crate::{Known, Silent};

/// Creates a file with this name and text, in its own folder.
fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn classes() -> [String; 2] {
    ["cat".to_string(), "dog".to_string()]
}

/// Returns the message of an error without the folder.
fn problem<T: std::fmt::Debug>(result: Result<T>, path: &Path) -> String {
    result.unwrap_err().to_string().replace(&path.display().to_string(), path.file_name().unwrap().to_str().unwrap())
}

fn content(of: &str) -> Content {
    Content::of(of.as_bytes())
}

/// Creates an index of images: id, pixels and file.
fn images(list: &[(u32, &str, &str)]) -> ImageIndex {
    let known = |(id, shows, file): &(u32, &str, &str)| {
        (SampleId(*id), Known { content: content(shows), file: (*file).to_string() })
    };
    ImageIndex::from_images(list.iter().map(known))
}

/// Collects warnings.
#[derive(Default)]
struct Warnings(std::sync::Mutex<Vec<String>>);

impl Progress for Warnings {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_string());
    }
}

#[test]
fn overrides_are_read_or_refused_with_the_line() {
    let read = |text: &str| {
        let (_folder, path) = file("overrides.csv", text);
        match read_overrides(&path, &classes()) {
            Ok(entries) => {
                Ok(entries.into_iter().map(|(id, entry)| (id.0, entry.line, entry.says)).collect::<Vec<_>>())
            }
            Err(e) => Err(problem::<()>(Err(e), &path)),
        }
    };
    let fine = |text: &str, expected: &[(u32, u64, u16)]| assert_eq!(read(text), Ok(expected.to_vec()), "{text:?}");
    let wrong = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), format!("overrides.csv{expected}"));
    fine("id,label\n", &[]);
    fine("id,content,file,label\n", &[]);
    fine("id,label\n7,dog\n3, cat\n", &[(3, 3, 0), (7, 2, 1)]);
    // Empty rows of a spreadsheet, line ends of Windows, a byte order mark.
    fine("\u{feff}id,label\r\n\r\n7,dog\r\n,\r\n,\r\n", &[(7, 3, 1)]);
    fine("id,note,label\n7,\"two\nlines\",dog\n8,,cat\n", &[(7, 2, 1), (8, 4, 0)]);
    wrong("id;label\n", ": has the columns \"id;label\"; expected id,label; separate the fields by commas");
    wrong("id,label\n\n\n0,dog\n1,cow\n", ", line 5: unknown class \"cow\"; the classes are cat, dog");
    wrong("id,label\n1,cat\nx,cat\n", ", line 3: id \"x\" is not a number");
    wrong("id,label\n1,cat\n1,dog\n", ", line 3: id 1 appears twice, first on line 2");
    wrong("id,label\n1\n", ", line 2: has 1 field, but the header has 2");
    wrong("id,label\n0,cat\n1,\"dog\n2,cat\n", ", line 3: has a double quote that is never closed");
    wrong(
        "id,content,label\n1,1.23E+15,cat\n",
        ", line 2: content \"1.23E+15\" is not the hash of an image; expected b3: and 16 hexadecimal digits, or nothing",
    );
    let (_folder, path) = file("overrides.csv", "");
    std::fs::write(&path, b"id,label\n0,d\xf6g\n").unwrap();
    assert!(problem(read_overrides(&path, &classes()), &path).starts_with("overrides.csv, line 2: is not UTF-8"));
}

#[test]
fn classes_that_look_like_formulas_may_have_an_apostrophe() {
    let classes = ["=cat".to_string(), "'dog".to_string()];
    let (_folder, path) = file("overrides.csv", "id,file,label\n1,'=x.png,'=cat\n2,,=cat\n3,,'dog\n");
    let read = read_overrides(&path, &classes).unwrap();
    assert_eq!(read.values().map(|entry| entry.says).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(read[&SampleId(1)].file, "=x.png");
}

#[test]
fn reviews_are_read_or_refused_with_the_line() {
    let read = |text: &str| {
        let (_folder, path) = file("review.csv", text);
        match read_review(&path, &classes()) {
            Ok(entries) => {
                Ok(entries.into_iter().map(|(id, e)| (id.0, e.says.decision, e.says.note)).collect::<Vec<_>>())
            }
            Err(e) => Err(problem::<()>(Err(e), &path)),
        }
    };
    assert_eq!(read("id,content,file,decision,label,note\n"), Ok(vec![]));
    let note = |text: &str| text.to_string();
    assert_eq!(
        read(
            "id,decision,label,note,split\n7,accept,dog,,train\n3, relabel, cat,'=x,val\n4,drop,,,\n5,dismiss,,,\n6,,dog,,\n"
        ),
        Ok(vec![
            (3, Decision::Relabel(0), note("=x")),
            (4, Decision::Drop, note("")),
            (5, Decision::Dismiss, note("")),
            (7, Decision::Accept(1), note("")),
        ])
    );
    let wrong = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), format!("review.csv{expected}"));
    wrong("id,label\n", ": has the columns \"id,label\"; expected id,decision,label,note");
    let line = |line: &str, expected: &str| wrong(&format!("id,decision,label,note\n1,drop,,\n{line}\n"), expected);
    line("2,relabel,cow,", ", line 3: unknown class \"cow\"; the classes are cat, dog");
    line("2,accept,,", ", line 3: unknown class \"\"; the classes are cat, dog");
    line("x,drop,,", ", line 3: id \"x\" is not a number");
    line("1,dismiss,,", ", line 3: id 1 appears twice, first on line 2");
    let allowed = ", line 4: unknown decision \"keep\"; allowed are accept, relabel, drop, dismiss, or nothing";
    wrong("id,decision,label,note\n0,dismiss,,\"two\nlines\"\n2,keep,,\n", allowed);
}

#[test]
fn a_line_about_another_image_is_refused() {
    let images = images(&[(0, "a", "a.png"), (1, "b", "b.png"), (2, "c", "c.png"), (3, "c", "copy.png")]);
    let check_file = |text: &str| {
        let (_folder, path) = file("overrides.csv", text);
        let warnings = Warnings::default();
        let checked = check(&path, &read_overrides(&path, &classes()).unwrap(), &images, &warnings);
        let warned = warnings.0.into_inner().unwrap();
        checked.map(|()| warned).map_err(|e| problem::<()>(Err(e), &path))
    };
    let (a, b, c) = (content("a"), content("b"), content("c"));
    let digits = a.to_string().split_off(3);
    // The content as this crate, the manifest or a person writes it. An exact duplicate has the
    // same content.
    for text in [
        format!("id,content,file,label\n0,{a},a.png,dog\n1,{b},,cat\n3,{c},gone.png,cat\n"),
        format!("content,label,id\n{digits},dog,0\n"),
        format!("id,content,label\n0,{},dog\n", crate::store::image_hash(b"a")),
    ] {
        assert_eq!(check_file(&text), Ok(vec![]), "{text}");
    }
    let warned = check_file(&format!("id,content,label\n0,,dog\n1,{b},cat\n2,,cat\n")).unwrap();
    assert_eq!(warned.len(), 1);
    assert!(warned[0].contains("no `content` on 2 of 3 lines") && warned[0].ends_with("added or removed"));

    assert_eq!(
        check_file(&format!("id,content,file,label\n0,{a},,dog\n\n2,{b},b.png,cat\n1,{a},,cat\n")),
        Err(format!(
            "overrides.csv, line 4: image 2 is not the one that the line was written for: it was {b} (b.png), now it is {c} (c.png) (and one more line like it)"
        ))
    );
    assert_eq!(
        check_file(&format!("id,content,file,label\n9,{a},a.png,dog\n")),
        Err(format!("overrides.csv, line 2: there is no image 9; the line is about {a} (a.png)"))
    );
    assert_eq!(check_file("id,label\n9,dog\n"), Err("overrides.csv, line 2: there is no image 9".into()));
    // The duplicate with the line's file name has another id.
    assert!(
        check_file(&format!("id,content,file,label\n2,{c},copy.png,dog\n"))
            .unwrap_err()
            .contains("image 2 is not the one")
    );
}

/// Migrates a file with this text. Returns the result and the new text.
fn migrated(text: &str, images: &ImageIndex, drop_missing: bool) -> (std::result::Result<Migration, String>, String) {
    let (_folder, path) = file("review.csv", text);
    let result = migrate(&path, images, drop_missing).map_err(|e| problem::<()>(Err(e), &path));
    (result, std::fs::read_to_string(&path).unwrap())
}

#[test]
fn lines_move_along_with_their_images() {
    let before = images(&[(0, "a", "a.png"), (1, "b", "b.png"), (2, "c", "c.png"), (3, "d", "d.png")]);
    // The first image is deleted.
    let after = images(&[(0, "b", "b.png"), (1, "c", "c.png"), (2, "d", "d.png")]);
    let text = "id,decision,who,label,note\n3,drop,Ann,,\"a, b\"\n1,relabel,Ben,dog,\"two\nlines\"\n";
    let (done, with_content) = migrated(text, &before, false);
    assert_eq!(done.unwrap().adopted.iter().map(|a| (a.line, a.id.0)).collect::<Vec<_>>(), [(2, 3), (3, 1)]);
    let (b, d) = (content("b"), content("d"));
    let expected = |ids: [u32; 2]| {
        format!(
            "id,content,file,decision,who,label,note\n{},{d},d.png,drop,Ann,,\"a, b\"\n{},{b},b.png,relabel,Ben,dog,\"two\nlines\"\n",
            ids[0], ids[1]
        )
    };
    assert_eq!(with_content, expected([3, 1]));
    assert_eq!(
        migrated(&with_content, &before, false),
        (Ok(Migration { lines: 2, ..Migration::default() }), with_content.clone())
    );

    let (done, moved) = migrated(&with_content, &after, false);
    let done = done.unwrap();
    assert_eq!(done.moved.iter().map(|m| (m.line, m.from.0, m.to.0)).collect::<Vec<_>>(), [(2, 3, 2), (3, 1, 0)]);
    assert_eq!(moved, expected([2, 0]));
    let (_folder, path) = file("review.csv", &moved);
    check(&path, &read_review(&path, &classes()).unwrap(), &after, &Silent).unwrap();

    // Line ends and byte order mark of a spreadsheet stay.
    let (_, windows) = migrated(&format!("\u{feff}{}", with_content.replace('\n', "\r\n")), &after, false);
    assert_eq!(windows, format!("\u{feff}{}", expected([2, 0]).replace('\n', "\r\n")));
}

#[test]
fn lines_of_missing_images_are_dropped_only_on_request() {
    let after = images(&[(0, "b", "b.png")]);
    let (a, b) = (content("a"), content("b"));
    let text =
        format!("id,content,file,decision,label,note\n0,{a},a.png,drop,,x\n1,{b},b.png,dismiss,,y\n7,,,drop,,z\n");
    let (refused, kept) = migrated(&text, &after, false);
    assert_eq!(
        refused.unwrap_err(),
        format!(
            "review.csv: the images of these lines are no longer there: line 2: image 0 ({a} (a.png)); line 4: image 7 (no content given)"
        )
    );
    assert_eq!(kept, text);
    let (done, left) = migrated(&text, &after, true);
    assert_eq!(done.unwrap().dropped.len(), 2);
    assert_eq!(left, format!("id,content,file,decision,label,note\n0,{b},b.png,dismiss,,y\n"));
}

#[test]
fn among_exact_duplicates_the_file_name_decides() {
    let x = content("x");
    let after = images(&[(0, "b", "b.png"), (4, "x", "one.png"), (5, "x", "two.png"), (9, "x", "three.png")]);
    let ids = |text: &str| -> Vec<(u32, Vec<u32>)> {
        let done = migrated(text, &after, false).0.unwrap();
        done.moved.iter().map(|m| (m.to.0, m.copies.iter().map(|id| id.0).collect())).collect()
    };
    let head = "id,content,file,decision,label,note\n";
    assert_eq!(ids(&format!("{head}6,{x},two.png,drop,,\n")), [(5, vec![])]);
    // Both ids move by one, and no line moves to the other's image.
    assert_eq!(ids(&format!("{head}5,{x},one.png,dismiss,,\n6,{x},two.png,drop,,\n")), [(4, vec![]), (5, vec![])]);
    // Without a file: the nearest image without its own line; the others are listed.
    assert_eq!(ids(&format!("{head}5,{x},two.png,dismiss,,\n6,{x},,drop,,\n")), [(4, vec![9])]);
    let (refused, _) = migrated("id,decision,label\n5,drop,\n5,drop,\n", &after, false);
    assert_eq!(refused.unwrap_err(), "review.csv, line 3: is about image 5, like line 2; remove one of them");
}
