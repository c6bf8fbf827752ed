//! The command line of `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "onnx")]
    pub(crate) format: FormatName,
    /// Model file [default: models/final/model.safetensors in the project folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// File or folder to write [default: export/model.onnx, export/pytorch or export/README.md in the project folder]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Images that the ONNX graph takes [default: uint8]
    #[arg(long, value_name = "KIND")]
    pub(crate) input: Option<InputName>,
    /// Test-time augmentation in the ONNX graph: the copies of each image to average over [default: none]
    #[arg(long, value_name = "COPIES")]
    pub(crate) tta: Option<TtaName>,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// An ONNX file: pixels to logits, with standard operators only.
    Onnx,
    /// A folder with a state_dict and the network as load.py.
    Pytorch,
    /// A model card with results, data and recipe, as Hugging Face reads it.
    Card,
}

/// The images that an ONNX graph takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputName {
    /// Bytes, [batch, height, width, 3].
    Uint8,
    /// Floats in 0..1, [batch, 3, height, width].
    Float,
}

/// Test-time augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TtaName {
    /// The image alone.
    None,
    /// The image and its mirror image.
    Mirror,
    /// Both, and both shifted by a pixel towards two corners.
    MirrorShift,
}
