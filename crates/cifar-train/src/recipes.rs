//! Recipes by name: networks with everything that training them wants to be told.

use cifar_data::batches::Flip;
use cifar_model::{Architecture, ModelParams, Views};

use crate::{Averaging, OptimiserKind, Reduction, Schedule, Select, TrainParams};

/// A network, how to train it and how to look at test images.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub purpose: &'static str,
    /// The network.
    pub model: ModelParams,
    /// How to train it.
    pub train: TrainParams,
    /// Views over which test answers are averaged.
    pub views: Views,
}

/// All recipes.
pub fn recipes() -> [Recipe; 5] {
    [simple_cnn(), quick(), airbench94(), airbench96(), resnet18()]
}

/// The recipe of that name.
pub fn recipe(name: &str) -> Option<Recipe> {
    recipes().into_iter().find(|recipe| recipe.name == name)
}

fn simple_cnn() -> Recipe {
    Recipe {
        name: "simple_cnn",
        purpose: "the plain network of many a first project: SGD, a linear schedule, flip and crop",
        model: ModelParams::default(),
        train: TrainParams::default(),
        views: Views::None,
    }
}

/// Jordan 2024 (arXiv 2404.00498) with Muon for the filters, as published: learning rates are those of summed losses. The
/// published weight decay of 2e-6 an image goes through the momentum of 0.85, so that a step takes 2e-6 · 2,000 / 0.15 =
/// 0.0267 of a weight away, which is `learning_rate` · 0.503.
fn airbench94() -> Recipe {
    Recipe {
        name: "airbench94",
        purpose: "the best accuracy for a coffee break: Muon, whitening, alternating flips, eight epochs",
        model: ModelParams::of(Architecture::Airbench94),
        train: TrainParams {
            epochs: 8,
            batch_size: 2000,
            optimiser: OptimiserKind::Muon,
            learning_rate: 0.053,
            head_rate: 12.64,
            muon_learning_rate: 0.24,
            schedule: Schedule::Linear,
            warmup_epochs: 0.0,
            whitening_bias_epochs: 3,
            momentum: 0.85,
            muon_momentum: 0.6,
            weight_decay: 0.503,
            decay_biases: true,
            reduction: Reduction::Sum,
            label_smoothing: 0.2,
            flip: Flip::Alternating,
            crop_padding: 2,
            select: Select::Last,
            ..TrainParams::default()
        },
        views: Views::MirrorShift,
    }
}

/// The recipe of `airbench94` for a network that is narrow enough for a minute.
fn quick() -> Recipe {
    let airbench94 = airbench94();
    Recipe {
        name: "quick",
        purpose: "the best accuracy for about a minute of training on two cores: a narrow airbench94",
        model: ModelParams { widths: vec![16, 64, 128], ..airbench94.model },
        train: TrainParams { epochs: 3, batch_size: 500, ..airbench94.train },
        views: Views::MirrorShift,
    }
}

/// Jordan 2024 with SGD, without its filtering of data and with sixteen of its forty epochs, so that two cores are done in an hour
/// or two: a learning rate of 9 for 1,024 · (1 + 1 / 0.15) images is 0.001146 for a summed loss, and the weight decay of 0.012 is 9.1
/// once it need not go through the momentum. The published head has logits divided by 9, ours by its 512 features with weights as much
/// larger: to move logits alike it wants 512² / 9² = 3,236 times the rate.
fn airbench96() -> Recipe {
    Recipe {
        name: "airbench96",
        purpose: "a wider network for an hour or two: SGD with Lookahead, a triangular schedule, cutout, sixteen epochs",
        model: ModelParams::of(Architecture::Airbench96),
        train: TrainParams {
            epochs: 16,
            batch_size: 1024,
            learning_rate: 0.001_146,
            head_rate: 3236.0,
            bias_rate: 64.0,
            schedule: Schedule::Triangular,
            warmup_epochs: 3.6,
            momentum: 0.85,
            weight_decay: 9.1,
            decay_biases: true,
            reduction: Reduction::Sum,
            label_smoothing: 0.2,
            averaging: Averaging::Lookahead,
            averaging_decay: 0.5,
            averaging_every: 5,
            flip: Flip::Alternating,
            crop_padding: 4,
            cutout: 12,
            select: Select::Last,
            ..TrainParams::default()
        },
        views: Views::MirrorShift,
    }
}

/// The standard recipe (He et al. 2015, arXiv 1512.03385) with a cosine schedule, in twelve epochs. PyTorch's usual weight decay of 5e-4 goes
/// through a momentum of 0.9, so decoupled it is ten times that.
fn resnet18() -> Recipe {
    Recipe {
        name: "resnet18",
        purpose: "the network that papers compare with: SGD, a cosine schedule, flip and crop, twelve epochs",
        model: ModelParams::of(Architecture::ResNet18),
        train: TrainParams {
            epochs: 12,
            batch_size: 128,
            learning_rate: 0.1,
            schedule: Schedule::Cosine,
            warmup_epochs: 1.0,
            weight_decay: 5e-3,
            label_smoothing: 0.0,
            ..TrainParams::default()
        },
        views: Views::Mirror,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_within_its_ranges() {
        for recipe in recipes() {
            let json = serde_json::to_string(&recipe.train).unwrap();
            assert_eq!(serde_json::from_str::<TrainParams>(&json).unwrap(), recipe.train, "{}", recipe.name);
            let json = serde_json::to_string(&recipe.model).unwrap();
            assert_eq!(serde_json::from_str::<ModelParams>(&json).unwrap(), recipe.model, "{}", recipe.name);
        }
        assert!(recipe("airbench94").is_some() && recipe("alexnet").is_none());
    }

    /// A step at rate r moves a weight by r times its gradient; with logits divided by d both the gradient and what the weight does
    /// are divided by d, so that logits move with r / d².
    #[test]
    fn heads_move_logits_as_published() {
        let moves = |name: &str| {
            let Recipe { model, train, .. } = recipe(name).unwrap();
            let features = *model.widths.last().unwrap() as f64;
            train.learning_rate * train.head_rate / features.powi(2)
        };
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
        // Jordan 2024: a rate of 0.67 and logits divided by 256; 9 over 1,024 · (1 + 1 / 0.15) images and logits divided by 9.
        close(moves("airbench94"), 0.67 / 256f64.powi(2));
        close(moves("airbench96"), 9.0 / (1024.0 * (1.0 + 1.0 / 0.15)) / 81.0);
    }
}
