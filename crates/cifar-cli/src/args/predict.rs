//! The command lines of `predict` and `embed`.

use std::path::PathBuf;

use cifar_model::Precision;
use clap::{Args, ValueEnum};

use super::ParamsArgs;

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Image files of any size (JPEG, PNG, WebP, BMP, GIF or TIFF), folders, or patterns such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Model file [default: models/final/model.safetensors in the project folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Number of classes per image
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) top: u16,
    /// Write a table instead of printing the predictions
    ///
    /// One row per image: the K most probable classes with their probabilities, margin and entropy.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Average predictions over augmented copies of each image: 2 for mirror, 6 for mirror_shift
    #[arg(long, value_name = "COPIES", num_args = 0..=1, require_equals = true, default_missing_value = "mirror_shift")]
    pub(crate) tta: Option<ViewsName>,
    /// Precision of the network's products: f32, bf16 or auto (bf16 on processors with AMX)
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Also draw a class-activation map beside each image, as PNG files in this folder
    ///
    /// For networks with one linear layer after global pooling: airbench94, airbench96 and resnet18.
    #[arg(long, value_name = "DIR")]
    pub(crate) explain: Option<PathBuf>,
}

/// Augmented copies of an image.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ViewsName {
    /// The image and its mirror image.
    Mirror,
    /// Also shifted by one pixel towards two corners.
    MirrorShift,
}

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Image files of any size, folders, or patterns such as 'photos/**/*.jpg'
    #[arg(value_name = "IMAGE", required_unless_present = "split")]
    pub(crate) images: Vec<PathBuf>,
    /// Embed the images of a split of the project instead
    #[arg(long, value_name = "SPLIT", conflicts_with = "images")]
    pub(crate) split: Option<EmbedSplit>,
    /// Files to write, without their extensions [default: evaluation/embeddings/ and the split, or `images`]
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
    /// Model file [default: models/final/model.safetensors in the project folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
}

/// The images of a project.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EmbedSplit {
    /// Training images.
    Train,
    /// Validation images.
    Val,
    /// Test images.
    Test,
    /// Shared test images: those of v1, v2 and v3.
    Pool,
}
