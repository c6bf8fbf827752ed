//! The data of the page as JSON, with one array per column. A browser parses 60,000 rows quickly in
//! this layout.

use std::collections::HashMap;

use cifar_data::duplicates::Kind;
use cifar_data::labels::Entry;
use cifar_data::splits::Split;
use cifar_data::{Content, ImageSize, SampleId};
use serde::{Serialize, Serializer};

use super::data::{PageData, Row};
use super::{PageError, Review, sheets};
use crate::measures::{Measure, scores_first};

/// Version of the JSON layout, which the scripts check.
const SCHEMA: u32 = 2;
/// Significant digits of the values on the page. The CSV table has the exact values.
const DIGITS: usize = 4;

#[derive(Debug, Serialize)]
pub(super) struct Payload<'a> {
    schema: u32,
    fingerprint: &'a str,
    classes: &'a [String],
    size: ImageSize,
    splits: [&'static str; 3],
    measures: Vec<&'static Measure>,
    categories: Vec<&'a str>,
    reasons: Vec<&'a str>,
    rows: Columns<'a>,
    pictures: Pictures,
    pairs: Vec<(usize, usize, Figure, Kind)>,
    review: Vec<ReviewRow<'a>>,
}

/// A row of `review.csv`.
#[derive(Debug, Serialize)]
struct ReviewRow<'a> {
    id: SampleId,
    content: Option<Content>,
    file: &'a str,
    decision: &'static str,
    label: &'a str,
    note: &'a str,
}

/// The rows as columns, hardest first. Classes, categories and reasons are indices into their
/// lists; neighbours are row indices.
#[derive(Debug, Serialize)]
struct Columns<'a> {
    id: Vec<SampleId>,
    content: Vec<Content>,
    split: Vec<usize>,
    file: Vec<&'a str>,
    label: Vec<u16>,
    original_label: Vec<u16>,
    predicted: Vec<u16>,
    suggested: Vec<Option<u16>>,
    category: Vec<usize>,
    reason: Vec<usize>,
    neighbours: Vec<Vec<usize>>,
    /// In the order of [`scores_first`].
    measures: Vec<Vec<Option<Figure>>>,
}

/// The rows whose images are embedded, in the order of the sheets.
#[derive(Debug, Serialize)]
struct Pictures {
    columns: usize,
    per_sheet: usize,
    rows: Vec<usize>,
}

/// A number that is serialized with [`DIGITS`] significant digits.
#[derive(Debug, Clone, Copy)]
struct Figure(f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = DIGITS - 1;
        let rounded = format!("{:.digits$e}", self.0).parse::<f64>().map_err(serde::ser::Error::custom)?;
        if rounded.fract() == 0.0 && rounded.abs() < 1e15 {
            serializer.serialize_i64(rounded as i64)
        } else {
            serializer.serialize_f64(rounded)
        }
    }
}

/// Converts `data` to the JSON layout. Also returns the pixels of the embedded images, in order.
pub(super) fn payload<'a>(data: &PageData<'a>) -> Result<(Payload<'a>, Vec<&'a [u8]>), PageError> {
    let indices = row_indices(data.rows)?;
    for row in data.rows {
        check_row(row, data)?;
    }
    let index = |role: &str, id: SampleId| {
        indices.get(&id).copied().ok_or_else(|| PageError::UnknownImage { role: role.to_string(), id })
    };
    let mut neighbours = Vec::with_capacity(data.rows.len());
    for row in data.rows {
        let role = format!("neighbour of image {}", row.id);
        neighbours.push(row.neighbours.iter().map(|id| index(&role, *id)).collect::<Result<Vec<_>, _>>()?);
    }
    let mut pairs = Vec::with_capacity(data.pairs.len());
    for pair in data.pairs {
        if !pair.similarity.is_finite() {
            return Err(PageError::NotFinite { id: pair.first, what: "similarity" });
        }
        let (first, second) = (index("part of a pair", pair.first)?, index("part of a pair", pair.second)?);
        pairs.push((first, second, Figure(pair.similarity), pair.kind));
    }
    let pictures = embedded(data, &neighbours, &pairs);
    let pixels = pictures.iter().map(|row| data.rows[*row].pixels).collect();

    let (categories, category) = dictionary(data.rows.iter().map(|row| row.category));
    let (reasons, reason) = dictionary(data.rows.iter().map(|row| row.reason));
    let rows = data.rows;
    let payload = Payload {
        schema: SCHEMA,
        fingerprint: data.fingerprint,
        classes: &data.header.classes,
        size: data.header.size,
        splits: Split::ALL.map(Split::name),
        measures: scores_first().collect(),
        categories,
        reasons,
        rows: Columns {
            id: rows.iter().map(|row| row.id).collect(),
            content: rows.iter().map(|row| row.content).collect(),
            split: rows.iter().map(|row| row.split as usize).collect(),
            file: rows.iter().map(|row| row.file).collect(),
            label: rows.iter().map(|row| row.label).collect(),
            original_label: rows.iter().map(|row| row.original_label).collect(),
            predicted: rows.iter().map(|row| row.predicted).collect(),
            suggested: rows.iter().map(|row| row.suggested).collect(),
            category,
            reason,
            neighbours,
            measures: scores_first()
                .map(|measure| rows.iter().map(|row| measure.of(&row.measures).map(Figure)).collect())
                .collect(),
        },
        pictures: Pictures { columns: sheets::COLUMNS, per_sheet: sheets::PER_SHEET, rows: pictures },
        pairs,
        review: review(data)?,
    };
    Ok((payload, pixels))
}

/// Returns the index of each image's row.
fn row_indices(rows: &[Row]) -> Result<HashMap<SampleId, usize>, PageError> {
    let mut indices = HashMap::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        if indices.insert(row.id, index).is_some() {
            return Err(PageError::DuplicateImage { id: row.id });
        }
    }
    Ok(indices)
}

fn check_row(row: &Row, data: &PageData) -> Result<(), PageError> {
    let (id, classes) = (row.id, data.header.classes.len());
    let labels = [row.label, row.original_label, row.predicted].into_iter().chain(row.suggested);
    if let Some(label) = labels.filter(|label| usize::from(*label) >= classes).max() {
        return Err(PageError::UnknownClass { id, label, classes });
    }
    if row.pixels.len() != data.header.size.bytes() {
        return Err(PageError::Pixels { id, found: row.pixels.len(), expected: data.header.size.bytes() });
    }
    let not_finite = |measure: &&Measure| measure.of(&row.measures).is_some_and(|value| !value.is_finite());
    match scores_first().find(not_finite) {
        Some(measure) => Err(PageError::NotFinite { id, what: measure.key }),
        None => Ok(()),
    }
}

/// Returns the rows to embed, each once: the hardest, then those of pairs, then neighbours.
fn embedded(data: &PageData, neighbours: &[Vec<usize>], pairs: &[(usize, usize, Figure, Kind)]) -> Vec<usize> {
    let hardest = 0..data.rows.len().min(data.embed.images);
    let of_pairs = pairs.iter().take(data.embed.pairs).flat_map(|(first, second, ..)| [*first, *second]);
    let of_neighbours = neighbours.iter().take(data.embed.neighbours_of).flatten().copied();
    let mut chosen = vec![false; data.rows.len()];
    hardest.chain(of_pairs).chain(of_neighbours).filter(|row| !std::mem::replace(&mut chosen[*row], true)).collect()
}

/// Returns the distinct texts in order of first appearance, and the index of each text among them.
fn dictionary<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<usize>) {
    let (mut distinct, mut known) = (Vec::new(), HashMap::new());
    let indices = texts.map(|text| {
        *known.entry(text).or_insert_with(|| {
            distinct.push(text);
            distinct.len() - 1
        })
    });
    let indices = indices.collect();
    (distinct, indices)
}

fn review<'a>(data: &PageData<'a>) -> Result<Vec<ReviewRow<'a>>, PageError> {
    let classes = &data.header.classes;
    let line = |(id, entry): (&SampleId, &'a Entry<Review>)| {
        let (id, Review { decision, note }) = (*id, &entry.says);
        let label = match decision.label() {
            None => "",
            Some(label) => {
                classes.get(usize::from(label)).ok_or(PageError::UnknownClass { id, label, classes: classes.len() })?
            }
        };
        Ok(ReviewRow { id, content: entry.content, file: &entry.file, decision: decision.name(), label, note })
    };
    data.review.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_significant_digits() {
        let check = |value: f64, expected: &str| {
            assert_eq!(serde_json::to_string(&Figure(value)).unwrap(), expected);
        };
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (0.123_456, "0.1235"),
            (-12.345_6, "-12.35"),
            (123_456.0, "123500"),
            (0.000_012_345, "0.00001234"),
            (1e300, "1e+300"),
        ] {
            check(value, expected);
        }
    }

    #[test]
    fn a_dictionary_keeps_the_order_of_first_appearance() {
        assert_eq!(dictionary(["b", "", "b", "a"].into_iter()), (vec!["b", "", "a"], vec![0, 1, 0, 2]));
    }
}
