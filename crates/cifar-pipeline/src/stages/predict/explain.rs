//! Pictures of class-activation maps, one per image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cifar_data::names::shown;
use cifar_data::output::write_file;
use cifar_eval::plots::{Caption, activation_map};
use cifar_model::{Architecture, Model};
use rayon::prelude::*;

use super::{Evidence, Prediction};
use crate::{Result, bail};

/// Pictures that are drawn together, on all threads.
const TOGETHER: usize = 64;

/// Draws pictures into a folder, under the paths of their images.
pub(super) struct Pictures<'a> {
    folder: PathBuf,
    model: &'a Model,
    /// The pictures so far.
    names: BTreeSet<PathBuf>,
    waiting: Vec<Picture>,
}

struct Picture {
    path: PathBuf,
    title: String,
    evidence: Evidence,
}

impl<'a> Pictures<'a> {
    /// # Errors
    /// If the network has no class-activation maps.
    pub(super) fn new(folder: &Path, model: &'a Model) -> Result<Self> {
        let spec = model.spec();
        if model.class_activations(&vec![128; spec.size.bytes()])?.is_none() {
            let others = [Architecture::Airbench94, Architecture::Airbench96, Architecture::ResNet18];
            bail!(
                "--explain: {} has more than one layer after its last feature maps, so it has no class-activation \
                 maps; {} have them",
                spec.params.architecture.name(),
                others.map(Architecture::name).join(", ")
            );
        }
        Ok(Self { folder: folder.to_path_buf(), model, names: BTreeSet::new(), waiting: Vec::new() })
    }

    /// Adds the picture of an image, whose path in the folder is `relative`.
    pub(super) fn add(&mut self, prediction: &Prediction, relative: &Path, evidence: Evidence) -> Result<()> {
        let (class, probability) = prediction.ranked()[0];
        let class = &self.model.spec().classes[class];
        let title = format!("{class} {:.1} %: {}", probability * 100.0, shown(relative));
        let name = self.free(relative);
        let path = self.folder.join(name);
        self.waiting.push(Picture { path, title, evidence });
        if self.waiting.len() == TOGETHER { self.draw() } else { Ok(()) }
    }

    /// Returns a file name that no picture has: images of several folders may have the same.
    fn free(&mut self, relative: &Path) -> PathBuf {
        let named = |suffix: String| {
            let mut name = relative.file_name().unwrap_or_default().to_os_string();
            name.push(suffix);
            relative.with_file_name(name)
        };
        let mut name = named(".png".into());
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = named(format!("-{number}.png"));
            number += 1;
        }
        name
    }

    fn draw(&mut self) -> Result<()> {
        let spec = self.model.spec();
        let synthetic = self.model.origin.as_ref().is_some_and(|origin| origin.source.is_synthetic());
        let draw = |Picture { path, title, evidence }: Picture| {
            let caption = Caption { title: &title, footer: "orange: for this class; blue: against it", synthetic };
            let size = [spec.size.height, spec.size.width];
            let png = activation_map(&evidence.pixels, size, &evidence.map, evidence.size, &caption)?;
            Ok(write_file(&path, &png)?)
        };
        std::mem::take(&mut self.waiting).into_par_iter().map(draw).collect()
    }

    /// Draws the rest.
    pub(super) fn finish(mut self) -> Result<()> {
        self.draw()
    }
}
