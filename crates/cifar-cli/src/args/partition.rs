//! The command line of `partition`.

use cifar_data::{DataError, Fit, Resize};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    /// Add the images of --source as this partition, v4, v5 and so on; what is there stays as it is
    ///
    /// The images get the ids after the last one. Classes and size must be those of the set, and its
    /// rule for resizing is applied. Near-duplicates of earlier images get their split.
    #[arg(long, value_name = "NAME")]
    pub(crate) add: Option<String>,
    /// Where the images come from
    ///
    /// `auto` uses cifar10_dataset/ if it exists, else a download, else the synthetic set.
    /// `download` fetches the official archive of CIFAR-10 (170 MB). `synthetic` draws images.
    /// A path may be class folders of image files (alone or in train/ and test/ or val/), a CSV file
    /// with the columns file,label or file,label,split, an archive of CIFAR-10 or CIFAR-100 (binary
    /// or python version, packed or unpacked), Parquet files as Hugging Face publishes them, or a
    /// folder that contains one of these. Images are JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    pub(crate) source: String,
    /// Never use the network: `auto` takes cifar10_dataset/ or the synthetic set
    #[arg(long)]
    pub(crate) offline: bool,
    /// Download the archive from another address; size and MD5 are checked all the same
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Label CIFAR-100 by its 20 superclasses instead of its 100 classes
    #[arg(long)]
    pub(crate) coarse_labels: bool,
    /// Skip and list files that are not usable images, instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_broken: bool,
    #[command(flatten)]
    pub(crate) resize: ResizeArgs,
    /// Number of synthetic images
    #[arg(long, value_name = "N", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(30..=1_000_000))]
    pub(crate) synthetic_images: u32,
    /// Seed of the synthetic images
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) synthetic_seed: u64,
}

/// The size to which images are resized.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// Resize all images to N×N pixels, 16 to 224 [default: all images have one size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(SIDES))]
    size: Option<u16>,
    /// How images of another shape become square [default: crop]
    #[arg(long, value_name = "RULE", requires = "size")]
    fit: Option<FitRule>,
}

impl ResizeArgs {
    /// Returns the size with its rule; none if images keep their size.
    pub(crate) fn resize(&self) -> Result<Option<Resize>, DataError> {
        let fit = self.fit.map_or_else(Fit::default, Into::into);
        self.size.map(|side| Resize::square(side, fit)).transpose()
    }
}

/// How images of another shape become square.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FitRule {
    /// Scale the short side, cut out the centre
    Crop,
    /// Scale the long side, fill the rest with black
    Pad,
    /// Scale both sides; shapes change
    Stretch,
}

impl From<FitRule> for Fit {
    fn from(rule: FitRule) -> Self {
        match rule {
            FitRule::Crop => Self::Crop,
            FitRule::Pad => Self::Pad,
            FitRule::Stretch => Self::Stretch,
        }
    }
}

/// Sides to which images can be resized, for the parser.
const SIDES: std::ops::RangeInclusive<i64> = *cifar_data::SIDES.start() as i64..=*cifar_data::SIDES.end() as i64;
