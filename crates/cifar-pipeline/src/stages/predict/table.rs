//! The table of predictions as CSV, written part by part.

use std::path::Path;

use cifar_data::output::OutputFile;
use cifar_data::spreadsheet::{csv, csv_rows};
use cifar_model::Model;

use super::Prediction;
use crate::Result;

/// Rows that are written together.
const ROWS: usize = 1000;

/// A table that appears under its name when it is finished.
pub(super) struct Table<'a> {
    file: OutputFile,
    rows: Vec<Vec<String>>,
    model: &'a Model,
    /// Classes per image.
    top: usize,
}

impl<'a> Table<'a> {
    /// Begins the table with the names of its columns.
    pub(super) fn create(path: &Path, model: &'a Model, top: usize) -> Result<Self> {
        let top = top.clamp(1, model.spec().classes.len());
        let mut columns: Vec<String> = ["file", "predicted", "probability"].map(String::from).to_vec();
        columns.extend((2..=top).flat_map(|place| [format!("class_{place}"), format!("probability_{place}")]));
        columns.extend(["margin", "entropy", "trained_on"].map(String::from));
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut file = OutputFile::create(path)?;
        file.write(&csv(&columns, std::iter::empty::<[&str; 0]>()))?;
        Ok(Self { file, rows: Vec::new(), model, top })
    }

    pub(super) fn add(&mut self, prediction: &Prediction) -> Result<()> {
        let (classes, origin) = (&self.model.spec().classes, self.model.origin.as_ref());
        let mut row = vec![prediction.file.to_string_lossy().into_owned()];
        let ranked = prediction.ranked().into_iter().take(self.top);
        row.extend(ranked.flat_map(|(class, p)| [classes[class].clone(), p.to_string()]));
        row.extend([prediction.margin(), prediction.entropy()].map(|value| format!("{value:.6}")));
        row.push(origin.map_or_else(String::new, |origin| origin.source.description.clone()));
        self.rows.push(row);
        if self.rows.len() == ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        Ok(self.file.write(&csv_rows(self.rows.drain(..)))?)
    }

    /// Replaces the file of this name with the table.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write()?;
        Ok(self.file.commit()?)
    }
}
