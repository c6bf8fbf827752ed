//! Predictions of any model, from a CSV file.

use std::collections::BTreeMap;
use std::path::Path;

use cifar_data::csv_table::{CsvRow, CsvTable};
use cifar_data::splits::Split;
use cifar_data::spreadsheet::plain;
use cifar_data::{Content, DataError, Dataset, SampleId, store};

use crate::{EvalError, Result};

/// Columns that may be there and say nothing about the prediction, besides those of manifest.csv.
const OTHER_COLUMNS: [&str; 4] = ["content", "split", "predicted", "pred"];
/// How far the probabilities of an image may be from adding up to 1: they may be rounded.
const SUM_TOLERANCE: f64 = 0.01;
/// Below this difference from 1, probabilities are not scaled: it is the rounding error of f32.
const EXACT: f64 = 1e-5;

/// The predictions of a file, for the sets that it covers.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenPredictions {
    /// For each set: probabilities, images × classes, or none if the file has no row for it.
    pub probabilities: Vec<Option<Vec<f32>>>,
    /// Number of rows that have the id of an image, but neither its file nor its content. They apply
    /// to other images if files were added or removed in between.
    pub rows_by_id_alone: usize,
}

/// Reads the probabilities that any model predicted for the images of `sets`.
///
/// The file has one row per image, in any order, and these columns:
///
/// - `id`, `file` or both name the image, as in manifest.csv. An optional `content` or `blake3` is
///   the hash of its pixels.
/// - One column per class has its probability, named like the class or `p_` and the class. Each is
///   in 0..1. A row may add up to 0.99 to 1.01 and is scaled to 1.
/// - Other columns of manifest.csv and of predictions.csv are ignored.
///
/// A set is covered wholly or not at all.
///
/// ```
/// use cifar_data::splits::Split;
/// use cifar_data::{Dataset, ImageSize};
/// use cifar_eval::predictions::read_given;
///
/// let size = ImageSize { height: 1, width: 1 };
/// let images = Dataset::from_arrays(&["cat", "dog"], size, &[0, 1], vec![0; 6])?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("mine.csv");
/// std::fs::write(&path, "id,cat,dog\n1,0.2,0.8\n0,0.75,0.25\n").unwrap();
/// let found = read_given(&path, &[(Split::Test, &images)])?;
/// assert_eq!(found.probabilities[0].as_deref(), Some(&[0.75, 0.25, 0.2, 0.8][..]));
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If the file cannot be read, lacks a column, has an unknown one, names an unknown image or one
/// image twice, has a row that is no probability distribution, or covers a part of a set only. The
/// error names the line.
pub fn read_given(path: &Path, sets: &[(Split, &Dataset)]) -> Result<GivenPredictions> {
    let malformed = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let Some((_, first)) = sets.first() else {
        return Err(malformed("there are no images that it could be about".into()));
    };
    let table = CsvTable::read(path)?;
    let columns = Columns::of(&table, first.classes()).map_err(malformed)?;
    let index = Index::new(sets);
    let mut rows_by_id_alone = 0;
    let mut probabilities: Vec<Vec<f32>> =
        sets.iter().map(|(_, set)| vec![f32::NAN; set.len() * set.classes().len()]).collect();
    let mut lines: Vec<Vec<u64>> = sets.iter().map(|(_, set)| vec![0; set.len()]).collect();
    for row in table.rows() {
        let (set, image, id_alone) = columns.find(row, &table, &index)?;
        rows_by_id_alone += usize::from(id_alone);
        let line = &mut lines[set][image];
        if *line != 0 {
            let sample = &sets[set].1.samples()[image];
            let problem = format!("image {} ({}) appears twice; its first row is line {line}", sample.id, sample.file);
            return Err(table.wrong(row, problem).into());
        }
        *line = row.line;
        let classes = first.classes().len();
        let own = &mut probabilities[set][image * classes..(image + 1) * classes];
        columns.probabilities(row, first.classes(), own).map_err(|problem| table.wrong(row, problem))?;
    }
    if table.rows().is_empty() {
        return Err(malformed("has no rows; expected one per image".into()));
    }
    let covered = sets.iter().zip(&lines).zip(probabilities).map(|(((split, set), lines), probabilities)| {
        let found = lines.iter().filter(|line| **line != 0).count();
        let Some(missing) = lines.iter().position(|line| *line == 0) else {
            return Ok(Some(probabilities).filter(|_| !lines.is_empty()));
        };
        let sample = &set.samples()[missing];
        match found {
            0 => Ok(None),
            _ => Err(malformed(format!(
                "has rows for {found} of {} {split} images; a split is covered wholly or not at all; the first image without a row is {} ({})",
                set.len(),
                sample.id,
                sample.file
            ))),
        }
    });
    Ok(GivenPredictions { probabilities: covered.collect::<Result<_>>()?, rows_by_id_alone })
}

/// Which columns have what.
struct Columns {
    id: Option<usize>,
    file: Option<usize>,
    content: Option<usize>,
    /// One per class.
    classes: Vec<usize>,
}

impl Columns {
    fn of(table: &CsvTable, classes: &[String]) -> Result<Self, String> {
        let names = table.columns();
        let is_other = |name: &str| store::COLUMNS.contains(&name) || OTHER_COLUMNS.contains(&name);
        let position = |name: &str| names.iter().position(|column| plain(column) == name);
        // A class may have the name of another column, such as "label"; it needs the prefix then.
        let plainly: Vec<Option<usize>> =
            classes.iter().map(|class| position(class).filter(|_| !is_other(class))).collect();
        let prefixed: Vec<Option<usize>> = classes.iter().map(|class| position(&format!("p_{class}"))).collect();
        let count = |found: &[Option<usize>]| found.iter().flatten().count();
        let (found, prefix) = if count(&prefixed) > count(&plainly) { (prefixed, "p_") } else { (plainly, "") };
        let (id, file) = (table.column("id"), table.column("file"));
        if id.is_none() && file.is_none() {
            return Err(format!("has the columns {}; expected `id` or `file`, which name the image", names.join(", ")));
        }
        if let Some(missing) = found.iter().position(Option::is_none) {
            return Err(match count(&found) {
                0 => format!(
                    "has the columns {}; expected one per class with its probability: {}",
                    names.join(", "),
                    classes.join(", ")
                ),
                _ => format!("has no column `{prefix}{}`; expected one per class", classes[missing]),
            });
        }
        let found: Vec<usize> = found.into_iter().flatten().collect();
        let unknown = (0..names.len()).find(|at| !found.contains(at) && !is_other(&names[*at]));
        if let Some(unknown) = unknown {
            return Err(format!("has the column `{}`, which is no class: {}", names[unknown], classes.join(", ")));
        }
        Ok(Self { id, file, content: table.column("content").or_else(|| table.column("blake3")), classes: found })
    }

    /// Returns the set and the index of the row's image, and whether only its id names it.
    fn find(&self, row: &CsvRow, table: &CsvTable, index: &Index) -> Result<(usize, usize, bool)> {
        let cell = |column: Option<usize>| column.map(|at| row.fields[at].as_str()).filter(|text| !text.is_empty());
        let file = cell(self.file).map(plain);
        let wrong = |problem: String| table.wrong(row, problem);
        let (set, image) = match (cell(self.id), file) {
            (Some(text), _) => {
                let id: u32 = text.parse().map_err(|_| wrong(format!("id {text:?} is not a number")))?;
                index.by_id(SampleId(id)).ok_or_else(|| wrong(format!("there is no image {id}")))?
            }
            (None, Some(file)) => match index.by_file.get(file) {
                Some(Some(found)) => *found,
                Some(None) => return Err(wrong(format!("several images are called {file:?}; add their `id`")).into()),
                None => {
                    let example = index.by_file.keys().next().copied().unwrap_or_default();
                    return Err(wrong(format!("there is no image {file:?}; files are called like {example:?}")).into());
                }
            },
            (None, None) => return Err(wrong("has neither `id` nor `file`".into()).into()),
        };
        let (_, images) = index.sets[set];
        let sample = &images.samples()[image];
        let misplaced = |then: String| DataError::Misplaced {
            path: table.path().to_path_buf(),
            line: row.line,
            problem: format!("image {} is {}, but this row is about {then}", sample.id, sample.file),
        };
        if let Some(file) = file.filter(|file| *file != sample.file) {
            return Err(misplaced(file.into()).into());
        }
        let content = cell(self.content).map(str::parse::<Content>).transpose().map_err(wrong)?;
        if let Some(content) = content.filter(|content| *content != images.content(image)) {
            return Err(misplaced(format!("an image with the content {content}")).into());
        }
        Ok((set, image, file.is_none() && content.is_none()))
    }

    /// Writes the probabilities of the row into `own`, one per class.
    fn probabilities(&self, row: &CsvRow, classes: &[String], own: &mut [f32]) -> Result<(), String> {
        let mut values = Vec::with_capacity(own.len());
        for (class, column) in classes.iter().zip(&self.classes) {
            let text = &row.fields[*column];
            let value: f64 =
                text.parse().map_err(|_| format!("the probability of {class} is {text:?}, which is not a number"))?;
            // Logits are the most common mistake.
            if !(0.0..=1.0 + SUM_TOLERANCE).contains(&value) {
                return Err(format!(
                    "the probability of {class} is {text}; allowed is 0 to 1 (apply a softmax to logits)"
                ));
            }
            values.push(value);
        }
        let sum: f64 = values.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(format!("the probabilities add up to {sum:.4}; expected 1, at most {SUM_TOLERANCE} off"));
        }
        let scale = if (sum - 1.0).abs() <= EXACT { 1.0 } else { sum };
        own.iter_mut().zip(values).for_each(|(own, value)| *own = (value / scale) as f32);
        Ok(())
    }
}

/// Finds images by id and by file.
struct Index<'a> {
    sets: &'a [(Split, &'a Dataset)],
    /// The set and the index in it; none for a name that several images have.
    by_file: BTreeMap<&'a str, Option<(usize, usize)>>,
}

impl<'a> Index<'a> {
    fn new(sets: &'a [(Split, &'a Dataset)]) -> Self {
        let mut by_file = BTreeMap::new();
        for (at, (_, set)) in sets.iter().enumerate() {
            for (image, sample) in set.samples().iter().enumerate() {
                by_file.entry(sample.file.as_str()).and_modify(|found| *found = None).or_insert(Some((at, image)));
            }
        }
        Self { sets, by_file }
    }

    fn by_id(&self, id: SampleId) -> Option<(usize, usize)> {
        self.sets.iter().enumerate().find_map(|(at, (_, set))| Some((at, set.index_of(id)?)))
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::ImageSize;

    use super::*;

    const SIZE: ImageSize = ImageSize { height: 1, width: 1 };

    /// Two training images with ids 0 and 1, two test images with ids 2 and 3. Files are
    /// `array[0]`, `array[1]` in both sets.
    fn sets() -> (Dataset, Dataset) {
        let of = |pixel: u8| Dataset::from_arrays(&["cat", "dog"], SIZE, &[0, 1], vec![pixel; 6]).unwrap();
        (of(0), of(9).numbered_from(2).unwrap())
    }

    fn read(text: &str) -> Result<GivenPredictions> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.csv");
        std::fs::write(&path, text).unwrap();
        let (train, test) = sets();
        read_given(&path, &[(Split::Train, &train), (Split::Test, &test)])
    }

    #[test]
    fn every_way_to_name_images_and_classes_is_read() {
        let expected = Some(vec![0.75, 0.25, 0.5, 0.5]);
        let contents = sets().1;
        let by_content =
            format!("id,content,cat,dog\n2,{},0.75,0.25\n3,{},0.5,0.5\n", contents.content(0), contents.content(1));
        for (text, by_id_alone) in [
            ("id,cat,dog\n3,0.5,0.5\n2,0.75,0.25\n", 2),
            // As evaluate writes it.
            (
                "id,file,label,predicted,p_cat,p_dog,source\n2,array[0],cat,cat,0.75,0.25,x\n3,array[1],dog,cat,.5,.5,x\n",
                0,
            ),
            (&by_content, 0),
            // Rounded; scaled to 1.
            ("id,dog,cat\n2,0.251,0.753\n3,0.499,0.499\n", 2),
        ] {
            let found = read(text).unwrap();
            assert_eq!(found.probabilities, [None, expected.clone()], "{text}");
            assert_eq!(found.rows_by_id_alone, by_id_alone, "{text}");
        }
        let both = read("id,cat,dog\n0,1,0\n1,0,1\n3,0.5,0.5\n2,0.75,0.25\n").unwrap();
        assert_eq!(both.probabilities, [Some(vec![1.0, 0.0, 0.0, 1.0]), expected]);
    }

    #[test]
    fn files_name_images_where_they_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.csv");
        std::fs::write(&path, "file,cat,dog\narray[1],1,0\narray[0],0,1\n").unwrap();
        let (train, _) = sets();
        let found = read_given(&path, &[(Split::Train, &train)]).unwrap();
        assert_eq!(found.probabilities, [Some(vec![0.0, 1.0, 1.0, 0.0])]);
        assert_eq!(found.rows_by_id_alone, 0);
    }

    #[test]
    fn a_class_may_be_called_like_another_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.csv");
        let images = Dataset::from_arrays(&["label", "p_label"], SIZE, &[0, 1], vec![0; 6]).unwrap();
        std::fs::write(&path, "id,p_label,p_p_label\n0,1,0\n1,0,1\n").unwrap();
        let found = read_given(&path, &[(Split::Test, &images)]).unwrap();
        assert_eq!(found.probabilities, [Some(vec![1.0, 0.0, 0.0, 1.0])]);
    }

    #[test]
    fn wrong_files_are_refused_with_the_line_and_the_cause() {
        for (text, expected) in [
            ("", "is empty; its first line must have the names of the columns"),
            ("id,cat,dog\n", "has no rows; expected one per image"),
            ("cat,dog\n1,0\n", "has the columns cat, dog; expected `id` or `file`"),
            ("id,label\n0,cat\n", "expected one per class with its probability: cat, dog"),
            ("id,cat\n0,1\n", "has no column `dog`; expected one per class"),
            ("id,p_cat\n0,1\n", "has no column `p_dog`; expected one per class"),
            ("id,cat,dog,bird\n0,1,0,0\n", "has the column `bird`, which is no class: cat, dog"),
            ("id,cat,dog\nx,1,0\n", "line 2: id \"x\" is not a number"),
            ("id,cat,dog\n7,1,0\n", "line 2: there is no image 7"),
            ("file,cat,dog\nb,1,0\n", "line 2: there is no image \"b\"; files are called like \"array[0]\""),
            ("file,cat,dog\narray[0],1,0\n", "line 2: several images are called \"array[0]\"; add their `id`"),
            ("id,file,cat,dog\n,,1,0\n", "line 2: has neither `id` nor `file`"),
            ("id,file,cat,dog\n2,b,1,0\n", "line 2: image 2 is array[0], but this row is about b"),
            (
                "id,content,cat,dog\n2,b3:0123456789abcdef,1,0\n",
                "line 2: image 2 is array[0], but this row is about an image with the content b3:0123456789abcdef",
            ),
            ("id,cat,dog\n2,1,0\n3,0,1\n2,1,0\n", "line 4: image 2 (array[0]) appears twice; its first row is line 2"),
            ("id,cat,dog\n2,?,0\n", "line 2: the probability of cat is \"?\", which is not a number"),
            ("id,cat,dog\n2,nan,0\n", "line 2: the probability of cat is nan; allowed is 0 to 1"),
            ("id,cat,dog\n2,3.1,-2\n", "line 2: the probability of cat is 3.1; allowed is 0 to 1 (apply a softmax"),
            ("id,cat,dog\n2,0.9,0.2\n", "line 2: the probabilities add up to 1.1000; expected 1, at most 0.01 off"),
            (
                "id,cat,dog\n0,1,0\n1,1,0\n3,1,0\n",
                "has rows for 1 of 2 test images; a split is covered wholly or not at all; the first image without a row is 2 (array[0])",
            ),
        ] {
            let found = read(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text:?}: {found}");
        }
    }
}
