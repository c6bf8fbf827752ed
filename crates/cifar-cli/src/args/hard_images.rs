//! The command line of `hard-images`.

use std::path::PathBuf;

use cifar_eval::study::Arm;
use cifar_pipeline::stages::study;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};

use super::ParamsArgs;

#[derive(Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HardImagesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<HardImagesCommand>,
    /// Rank the prepared images by the predictions of any model; writes evaluation/given_predictions/
    ///
    /// A CSV file with `id` or `file` and one column per class with its probability. No network is
    /// trained or loaded.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["truth", "column", "table"])]
    pub(crate) predictions: Option<PathBuf>,
    /// No image was predicted by a model that was trained on it
    #[arg(long, requires = "predictions")]
    pub(crate) out_of_fold: bool,
    /// Compare the measures of the last analysis with your own labels; writes evaluation/truth/
    ///
    /// A CSV file with `id` and a column of 0/1 or numbers. No image is analysed again.
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// Column of that file [default: the only one besides `id`]
    #[arg(long, value_name = "NAME", requires = "truth")]
    pub(crate) column: Option<String>,
    /// Table of measures, such as the means over seeds in experiments/hard_images/ [default: the last analysis]
    #[arg(long, value_name = "FILE", requires = "truth")]
    pub(crate) table: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HardImagesCommand {
    /// Test whether acting on flagged images helps: drop, down-weight or relabel them, and score on test images
    #[command(
        after_help = "Examples:\n  cifar-cli hard-images study --flip 0.2                      # makes a fifth of the labels wrong first\n  \
                            cifar-cli hard-images study --flip 0.2 --to confused        # makes them the class that is confused most often\n  \
                            cifar-cli hard-images study --flip 0.2 --to human-like      # makes errors like those of people, mostly on hard images\n  \
                            cifar-cli hard-images study                                 # uses the wrong labels that labels/ corrects\n  \
                            cifar-cli hard-images study --flip 0.1 --arms base          # measures only how well wrong labels are found\n\n\
                            Trains one network per arm and seed with the recipe of params.yaml. An interrupted study resumes.\n\
                            Results are in evaluation/study/."
    )]
    Study(StudyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
    /// Fraction of training and validation labels to make wrong [default: restore the labels that labels/ corrects]
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    pub(crate) flip: Option<f64>,
    /// What a label is changed to
    #[arg(long, value_name = "KIND", default_value = "any", requires = "flip")]
    pub(crate) to: FlipTo,
    /// Seeds; every arm is trained under each
    #[arg(long, value_name = "SEED,…", value_delimiter = ',', default_values_t = [42, 123, 456])]
    pub(crate) seeds: Vec<u64>,
    /// What to do with flagged images; `base`, which does nothing, is always included [default: all]
    #[arg(long, value_name = "ARM,…", value_delimiter = ',', value_parser = arms())]
    pub(crate) arms: Vec<Arm>,
}

/// What a label is changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlipTo {
    /// Any other class, with equal probability.
    Any,
    /// The class that the trained network confuses with it most often on validation images.
    Confused,
    /// A class that people would confuse with it, mostly on hard images; trains two more networks.
    HumanLike,
}

impl From<FlipTo> for study::FlipTo {
    fn from(to: FlipTo) -> Self {
        match to {
            FlipTo::Any => Self::Any,
            FlipTo::Confused => Self::Confused,
            FlipTo::HumanLike => Self::HumanLike,
        }
    }
}

/// A fraction above 0 and below 1.
fn fraction(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number such as 0.2".to_string())?;
    if number > 0.0 && number < 1.0 { Ok(number) } else { Err("allowed is more than 0 and less than 1".into()) }
}

/// The names of a study's arms.
fn arms() -> impl TypedValueParser<Value = Arm> {
    let names = PossibleValuesParser::new(Arm::ALL.map(Arm::name));
    names.map(|name| Arm::ALL.into_iter().find(|arm| arm.name() == name).unwrap_or(Arm::Base))
}
