//! The recipes that come with the crate, by name.

mod frontier;

use cifar_data::batches::Flip;
use cifar_model::{Architecture, ModelParams, Views};

use crate::{Averaging, OptimiserKind, Recipe, Reduction, Schedule, Select, TrainParams};

pub use frontier::{FRONTIER_SIZES, TimedRecipe, recipe_within};

/// A recipe with its name and purpose.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRecipe {
    /// The name.
    pub name: &'static str,
    /// The purpose, in one line.
    pub purpose: &'static str,
    /// The network and how it is trained.
    pub recipe: Recipe,
    /// Augmented copies over which test predictions are averaged.
    pub views: Views,
}

/// Returns all recipes. The first one is that of a new project.
///
/// ```
/// for named in cifar_train::recipes::recipes() {
///     println!("{}: {}", named.name, named.purpose);
/// }
/// ```
pub fn recipes() -> [NamedRecipe; 7] {
    [default(), simple_cnn(), quick(), airbench94(), hour(), airbench96(), resnet18()]
}

/// Returns the recipe with this name.
///
/// ```
/// let airbench = cifar_train::recipes::recipe("airbench94").unwrap();
/// assert_eq!(airbench.recipe.train.epochs, 8);
/// assert!(cifar_train::recipes::recipe("alexnet").is_none());
/// ```
pub fn recipe(name: &str) -> Option<NamedRecipe> {
    recipes().into_iter().find(|recipe| recipe.name == name)
}

/// The recipe `airbench94` in batches of 128 images, for training sets of any size.
///
/// Small batches give small sets more steps per epoch, and `min_steps` gives the smallest ones more
/// epochs. Rates follow the batch size b, from the published ones for 2,000 images. That of SGD
/// stays, since losses are summed. That of Muon, whose steps do not grow with the gradient, is
/// 0.24 · √(b / 2,000). The weight decay of a step is 0.503 · b / 2,000, so that an epoch removes the
/// same fraction.
fn default() -> NamedRecipe {
    let airbench94 = airbench94().recipe;
    NamedRecipe {
        name: "default",
        purpose: "the recipe of a new project, for any number of images: airbench94 in small batches",
        recipe: Recipe {
            model: airbench94.model,
            train: TrainParams {
                min_steps: 100,
                batch_size: 128,
                muon_learning_rate: 0.06,
                weight_decay: 0.032,
                ..airbench94.train
            },
        },
        views: Views::MirrorShift,
    }
}

fn simple_cnn() -> NamedRecipe {
    NamedRecipe {
        name: "simple_cnn",
        purpose: "the plain network of many first projects: SGD, a linear schedule, flip and crop",
        recipe: Recipe { model: ModelParams::default(), train: TrainParams::default() },
        views: Views::None,
    }
}

/// Jordan 2024 (arXiv 2404.00498), `airbench94` with Muon for the filters and eight epochs, as
/// published.
///
/// Learning rates are those of summed losses. The published weight decay of 2e-6 per image passes
/// through the momentum of 0.85: a step removes 2e-6 · 2,000 / 0.15 = 0.0267 of a weight, which is
/// `learning_rate` · 0.503.
fn airbench94() -> NamedRecipe {
    NamedRecipe {
        name: "airbench94",
        purpose: "the best accuracy in a few minutes: Muon, whitening, alternating flips, eight epochs",
        recipe: Recipe {
            model: ModelParams::of(Architecture::Airbench94),
            train: TrainParams {
                epochs: 8,
                batch_size: 2000,
                optimiser: OptimiserKind::Muon,
                learning_rate: 0.053,
                head_lr_scale: 12.64,
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
        },
        views: Views::MirrorShift,
    }
}

/// The recipe `airbench94` with a network narrow enough to train in a minute.
fn quick() -> NamedRecipe {
    let airbench94 = airbench94().recipe;
    NamedRecipe {
        name: "quick",
        purpose: "the best accuracy in about a minute of training on two cores: a narrow airbench94",
        recipe: Recipe {
            model: ModelParams { widths: vec![16, 64, 128], ..airbench94.model },
            train: TrainParams { epochs: 3, batch_size: 500, ..airbench94.train },
        },
        views: Views::MirrorShift,
    }
}

/// Jordan 2024 (arXiv 2404.00498), `airbench96` without data filtering, as published.
///
/// - Learning rate: 9 for 1,024 · (1 + 1 / 0.15) images is 0.001146 for a summed loss. The head
///   here divides logits by its 512 features, the published one by 9. To move logits alike it needs
///   512² / 9² = 3,236 times the rate.
/// - Weight decay: a step of the published optimiser removes 0.012 / (1 + 1 / 0.15) of a weight, and
///   momentum makes it 1 / 0.15 times as much: 0.01043, which is `learning_rate` · 9.1.
/// - Lookahead: its decay rises with the third power of the run's progress to 0.95⁵ = 0.774.
/// - Schedule: up for 23 % of the run, which is 9.2 of 40 epochs.
///
/// Three things differ. The head's initial logits are 0.69 times as large. The bias of the whitening
/// layer has `bias_lr_scale` and a schedule of its own over its three epochs; the published one has
/// the plain rate and schedule. The batches of an epoch have equal sizes, and no image is left out.
fn airbench96() -> NamedRecipe {
    NamedRecipe {
        name: "airbench96",
        purpose: "a wider network as published, in three hours: SGD, rising Lookahead, cutout, forty epochs",
        recipe: Recipe {
            model: ModelParams::of(Architecture::Airbench96),
            train: TrainParams {
                epochs: 40,
                batch_size: 1024,
                learning_rate: 0.001_146,
                head_lr_scale: 3236.0,
                bias_lr_scale: 64.0,
                schedule: Schedule::Triangular,
                warmup_epochs: 9.2,
                momentum: 0.85,
                weight_decay: 9.1,
                decay_biases: true,
                reduction: Reduction::Sum,
                label_smoothing: 0.2,
                averaging: Averaging::Lookahead,
                averaging_decay: 0.774,
                averaging_power: 3.0,
                averaging_every: 5,
                flip: Flip::Alternating,
                crop_padding: 4,
                cutout: 12,
                cutout_inside: true,
                select: Select::Last,
                ..TrainParams::default()
            },
        },
        views: Views::MirrorShift,
    }
}

/// The network and most of the recipe of `airbench96`, for little more than an hour on two cores.
///
/// It differs in these values: 16 epochs with a warm-up of 3.6; Lookahead keeps 0.5 throughout; the
/// squares of cutout may extend over the border.
fn hour() -> NamedRecipe {
    let airbench96 = airbench96().recipe;
    NamedRecipe {
        name: "hour",
        purpose: "the best accuracy in an hour or two on two cores: airbench96's network, sixteen epochs",
        recipe: Recipe {
            train: TrainParams {
                epochs: 16,
                warmup_epochs: 3.6,
                averaging_decay: 0.5,
                averaging_power: 0.0,
                cutout_inside: false,
                ..airbench96.train
            },
            model: airbench96.model,
        },
        views: Views::MirrorShift,
    }
}

/// The standard recipe (He et al. 2015, arXiv 1512.03385) with a cosine schedule, in 12 epochs.
///
/// PyTorch's usual weight decay of 5e-4 passes through a momentum of 0.9; decoupled, it is ten
/// times that.
fn resnet18() -> NamedRecipe {
    NamedRecipe {
        name: "resnet18",
        purpose: "the usual reference network of papers: SGD, a cosine schedule, flip and crop, twelve epochs",
        recipe: Recipe {
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
            let json = serde_json::to_string(&recipe.recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe.recipe, "{}", recipe.name);
        }
        assert!(recipe("airbench94").is_some() && recipe("alexnet").is_none());
    }

    #[test]
    fn rates_of_the_default_follow_its_batch_size() {
        let [published, default] = ["airbench94", "default"].map(|name| recipe(name).unwrap().recipe.train);
        let batch = default.batch_size as f64 / published.batch_size as f64;
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.02, "{found} {expected}");
        close(default.muon_learning_rate, published.muon_learning_rate * batch.sqrt());
        close(default.weight_decay, published.weight_decay * batch);
        assert_eq!(recipes()[0].name, "default");
    }

    /// A step at rate r moves a weight by r times its gradient. With logits divided by d, both the
    /// gradient and the effect of the weight are divided by d, so logits move with r / d².
    #[test]
    fn heads_move_logits_at_the_published_rates() {
        let moves = |name: &str| {
            let Recipe { model, train } = recipe(name).unwrap().recipe;
            let features = *model.widths.last().unwrap() as f64;
            train.learning_rate * train.head_lr_scale / features.powi(2)
        };
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
        close(moves("default"), moves("airbench94"));
        // Jordan 2024: a rate of 0.67 and logits divided by 256; 9 over 1,024 · (1 + 1 / 0.15)
        // images and logits divided by 9.
        close(moves("airbench94"), 0.67 / 256f64.powi(2));
        let published = 9.0 / (1024.0 * (1.0 + 1.0 / 0.15));
        close(moves("airbench96"), published / 81.0);
        let train = recipe("airbench96").unwrap().recipe.train;
        close(train.learning_rate * train.weight_decay, 0.012 / (1.0 + 1.0 / 0.15) / 0.15);
        close(train.averaging_decay.into(), 0.95f64.powi(5));
        close(train.warmup_epochs / train.epochs as f64, 0.23);
    }
}
