//! The data of the page as JSON, with one array per column. A browser parses 60,000 rows quickly in
//! this layout.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cifar_data::duplicates::Kind;
use cifar_data::labels::Entry;
use cifar_data::splits::Split;
use cifar_data::{Content, ImageSize, SampleId};
use serde::{Serialize, Serializer};

use super::data::{ActivationMaps, PageData, Row};
use super::{PageError, Review, sheets};
use crate::measures::{Measure, scores_first};

/// Version of the JSON layout, which the scripts check.
const SCHEMA: u32 = 3;
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
    activations: Option<Activations>,
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
    /// Empty if no image is on the map.
    position: Vec<Option<[Figure; 2]>>,
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

/// The activation maps of the embedded images, in the order of [`Pictures::rows`].
#[derive(Debug, Serialize)]
struct Activations {
    rows: usize,
    columns: usize,
    /// One signed byte per value, in base64: the value relative to the largest absolute value of its
    /// map, −127 to 127.
    values: String,
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
    let Linked { neighbours, pairs } = linked(data, &indices)?;
    let pictures = embedded(data, &neighbours, &pairs);
    let pixels = pictures.iter().map(|row| data.rows[*row].pixels).collect();
    let activations = data.activation_maps.map(|maps| activations(maps, data.rows, &pictures)).transpose()?;

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
            position: if rows.iter().all(|row| row.position.is_none()) {
                Vec::new()
            } else {
                rows.iter().map(|row| row.position.map(|xy| xy.map(|v| Figure(v.into())))).collect()
            },
            measures: scores_first()
                .map(|measure| rows.iter().map(|row| measure.of(&row.measures).map(Figure)).collect())
                .collect(),
        },
        pictures: Pictures { columns: sheets::COLUMNS, per_sheet: sheets::PER_SHEET, rows: pictures },
        activations,
        pairs,
        review: review(data)?,
    };
    Ok((payload, pixels))
}

/// The images that rows and pairs name, as row indices.
struct Linked {
    neighbours: Vec<Vec<usize>>,
    pairs: Vec<(usize, usize, Figure, Kind)>,
}

fn linked(data: &PageData, indices: &HashMap<SampleId, usize>) -> Result<Linked, PageError> {
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
    Ok(Linked { neighbours, pairs })
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
    if row.position.is_some_and(|xy| xy.iter().any(|value| !value.is_finite())) {
        return Err(PageError::NotFinite { id, what: "position on the map" });
    }
    let not_finite = |measure: &&Measure| measure.of(&row.measures).is_some_and(|value| !value.is_finite());
    match scores_first().find(not_finite) {
        Some(measure) => Err(PageError::NotFinite { id, what: measure.key }),
        None => Ok(()),
    }
}

/// Returns the indices of the rows whose images are embedded in the page, in the order of the file.
///
/// # Errors
/// If a neighbour or a pair names an image without a row, or an image has two rows.
pub fn embedded_rows(data: &PageData) -> Result<Vec<usize>, PageError> {
    let Linked { neighbours, pairs } = linked(data, &row_indices(data.rows)?)?;
    Ok(embedded(data, &neighbours, &pairs))
}

/// Returns the rows to embed, each once: the hardest, then those of pairs, neighbours, outliers and
/// the map.
fn embedded(data: &PageData, neighbours: &[Vec<usize>], pairs: &[(usize, usize, Figure, Kind)]) -> Vec<usize> {
    let (rows, embed) = (data.rows, data.embed);
    let hardest = 0..rows.len().min(embed.images);
    let of_pairs = pairs.iter().take(embed.pairs).flat_map(|(first, second, ..)| [*first, *second]);
    let of_neighbours = neighbours.iter().take(embed.neighbours_of).flatten().copied();
    let outlier = |row: &usize| rows[*row].measures.outlier_score;
    let mut outliers: Vec<usize> = (0..rows.len()).filter(|row| outlier(row).is_some()).collect();
    outliers.sort_by(|a, b| outlier(b).unwrap_or_default().total_cmp(&outlier(a).unwrap_or_default()).then(a.cmp(b)));
    outliers.truncate(embed.outliers);
    let on_map: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].position.is_some()).collect();
    let of_map = (0..embed.of_map.min(on_map.len())).map(|n| on_map[n * on_map.len() / embed.of_map.min(on_map.len())]);
    let mut chosen = vec![false; rows.len()];
    let wanted = hardest.chain(of_pairs).chain(of_neighbours).chain(outliers).chain(of_map);
    wanted.filter(|row| !std::mem::replace(&mut chosen[*row], true)).collect()
}

/// Encodes the activation maps of the embedded images.
fn activations(maps: &ActivationMaps, rows: &[Row], pictures: &[usize]) -> Result<Activations, PageError> {
    let [height, width] = maps.size;
    let mut bytes = Vec::with_capacity(pictures.len() * height * width);
    for id in pictures.iter().map(|row| rows[*row].id) {
        let map = maps.maps.get(&id).map_or(&[][..], Vec::as_slice);
        if map.len() != height * width {
            return Err(PageError::ActivationMap { id, found: map.len(), expected: height * width });
        }
        let largest = map.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        bytes.extend(map.iter().map(|value| (value / largest * 127.0).round() as i8 as u8));
    }
    Ok(Activations { rows: height, columns: width, values: BASE64.encode(bytes) })
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
