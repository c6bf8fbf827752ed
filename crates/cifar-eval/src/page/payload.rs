//! The page's data as JSON: a column an array, so that a browser reads 60,000 rows at once.

use std::collections::HashMap;

use cifar_data::duplicates::Kind;
use cifar_data::labels::Entry;
use cifar_data::splits::Split;
use cifar_data::{Content, ImageSize, SampleId};
use serde::{Serialize, Serializer};

use super::data::{PageData, Row};
use super::{PageError, Review, sheets};
use crate::measures::{Measure, scores_first};

/// The layout of the JSON; the scripts check it.
const SCHEMA: u32 = 2;
/// Significant digits of the page's figures; the table has all of them.
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
    review: Vec<Decided<'a>>,
}

/// A line of `labels/review.csv`.
#[derive(Debug, Serialize)]
struct Decided<'a> {
    id: SampleId,
    content: Option<Content>,
    file: &'a str,
    decision: &'static str,
    label: &'a str,
    note: &'a str,
}

/// Rows, hardest first. Classes, categories and reasons are places in their lists; neighbours are places of rows.
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

/// Which rows have a picture, in the order in which they stand on the sheets.
#[derive(Debug, Serialize)]
struct Pictures {
    columns: usize,
    per_sheet: usize,
    rows: Vec<usize>,
}

/// A number with [`DIGITS`] significant digits.
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

/// Brings `data` into the page's form; also gives the pixels of the pictures to embed, in their order.
pub(super) fn payload<'a>(data: &PageData<'a>) -> Result<(Payload<'a>, Vec<&'a [u8]>), PageError> {
    let places = places(data.rows)?;
    for row in data.rows {
        check(row, data)?;
    }
    let place = |of: &str, id: SampleId| {
        places.get(&id).copied().ok_or_else(|| PageError::UnknownImage { of: of.to_string(), id })
    };
    let mut neighbours = Vec::with_capacity(data.rows.len());
    for row in data.rows {
        let of = format!("neighbour of image {}", row.id);
        neighbours.push(row.neighbours.iter().map(|id| place(&of, *id)).collect::<Result<Vec<_>, _>>()?);
    }
    let mut pairs = Vec::with_capacity(data.pairs.len());
    for pair in data.pairs {
        if !pair.similarity.is_finite() {
            return Err(PageError::NotFinite { id: pair.first, what: "similarity" });
        }
        let (first, second) = (place("half of a pair", pair.first)?, place("half of a pair", pair.second)?);
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

/// Where each image stands.
fn places(rows: &[Row]) -> Result<HashMap<SampleId, usize>, PageError> {
    let mut places = HashMap::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        if places.insert(row.id, place).is_some() {
            return Err(PageError::Twice { id: row.id });
        }
    }
    Ok(places)
}

fn check(row: &Row, data: &PageData) -> Result<(), PageError> {
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

/// The rows whose pictures are embedded: the hardest, then those of pairs, then neighbours; each once.
fn embedded(data: &PageData, neighbours: &[Vec<usize>], pairs: &[(usize, usize, Figure, Kind)]) -> Vec<usize> {
    let hardest = 0..data.rows.len().min(data.embed.images);
    let of_pairs = pairs.iter().take(data.embed.pairs).flat_map(|(first, second, ..)| [*first, *second]);
    let of_neighbours = neighbours.iter().take(data.embed.neighbours_of).flatten().copied();
    let mut taken = vec![false; data.rows.len()];
    hardest.chain(of_pairs).chain(of_neighbours).filter(|row| !std::mem::replace(&mut taken[*row], true)).collect()
}

/// Different texts, in order of their first appearance, and for each text its place among them.
fn dictionary<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<usize>) {
    let (mut distinct, mut known) = (Vec::new(), HashMap::new());
    let places = texts.map(|text| {
        *known.entry(text).or_insert_with(|| {
            distinct.push(text);
            distinct.len() - 1
        })
    });
    let places = places.collect();
    (distinct, places)
}

fn review<'a>(data: &PageData<'a>) -> Result<Vec<Decided<'a>>, PageError> {
    let classes = &data.header.classes;
    let line = |(id, entry): (&SampleId, &'a Entry<Review>)| {
        let (id, Review { decision, note }) = (*id, &entry.says);
        let label = match decision.label() {
            None => "",
            Some(label) => {
                classes.get(usize::from(label)).ok_or(PageError::UnknownClass { id, label, classes: classes.len() })?
            }
        };
        Ok(Decided { id, content: entry.content, file: &entry.file, decision: decision.name(), label, note })
    };
    data.review.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
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
