//! The recipe for a given time: which network to train, and for how many epochs.
//!
//! A wide network learns more per epoch, a narrow one trains more epochs in the same time. So each
//! time has a best width. The frontier lists networks from narrow to wide, each with the fewest
//! epochs at which it beats the narrower ones. They were chosen by validation images of CIFAR-10 for
//! up to three minutes on two cores; beyond, they are estimates. See `docs/measurements.md`.

use std::time::Duration;

use cifar_model::{Architecture, ModelParams, Precision, Views};

use super::{airbench94, hour};
use crate::{Averaging, Recipe, Result, TrainError, TrainParams};

/// Time that is kept for validation, checkpoints and a busy machine, as a fraction of the limit.
const RESERVE: f64 = 0.05;
/// Time of a forward pass over an image, as a fraction of that of a training step.
const FORWARD: f64 = 1.0 / 3.0;
/// The fewest steps of a run, if the time allows: small sets have more epochs, and are left to
/// narrower networks, which make more steps in the same time.
const STEPS: usize = 100;
/// Small sets have batches of this size, as in the recipe of a new project, or else an epoch of at
/// least [`STEPS`] steps.
const SMALL_BATCH: usize = 128;

/// Number of networks of the frontier: the most that [`recipe_within`] measures.
pub const FRONTIER_SIZES: usize = 4;

/// A network of the frontier.
struct Size {
    recipe: Recipe,
    /// From this number of epochs on, it beats narrower networks in the same time.
    from_epochs: usize,
    /// More epochs were not measured.
    to_epochs: usize,
}

/// A recipe that fits a time.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedRecipe {
    /// The network and how it is trained, with the epochs that fit.
    pub recipe: Recipe,
    /// Augmented copies over which test predictions are averaged.
    pub views: Views,
    /// Training images per second, as measured.
    pub rate: f64,
    /// The time that training takes, as estimated from the rate.
    pub duration: Duration,
    /// Whether more epochs would fit, but were not measured to help.
    pub is_longest: bool,
}

/// Returns the best known recipe for `limit` of training on CIFAR-10, or `None` if no recipe suits.
///
/// `images` has the numbers of training and validation images. The recipe computes in `precision`.
/// `rate` measures the training images per second of a recipe on this machine, and returns `None`
/// if it does not suit the images or the memory. It is called for wide networks first, until one
/// fits.
///
/// Batches shrink with the number of images, and rates with them, as in the recipe of a new
/// project.
///
/// ```
/// use std::time::Duration;
/// use cifar_model::Precision;
/// use cifar_train::{TrainError, recipes::recipe_within};
///
/// // On a machine on which every network trains 1,000 images per second:
/// let rate = |_: &_| Ok::<_, TrainError>(Some(1000.0));
/// let limit = Duration::from_mins;
/// let of = |minutes| recipe_within(limit(minutes), [45_000, 5_000], Precision::F32, rate);
/// let (short, long) = (of(1)?.unwrap(), of(30)?.unwrap());
/// assert!(short.recipe.train.epochs < long.recipe.train.epochs);
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// If not even one epoch of the narrowest network fits. Those of `rate`.
pub fn recipe_within<E: From<TrainError>>(
    limit: Duration,
    images: [usize; 2],
    precision: Precision,
    mut rate: impl FnMut(&Recipe) -> Result<Option<f64>, E>,
) -> Result<Option<TimedRecipe>, E> {
    let [train, val] = images.map(|count| count as f64);
    let mut fastest: Option<f64> = None;
    for (number, Size { recipe, from_epochs, to_epochs }) in frontier().into_iter().enumerate().rev() {
        let mut recipe = for_images(&recipe, images[0]);
        recipe.train.precision = precision;
        let Some(rate) = rate(&recipe)? else { continue };
        let seconds_per_epoch = (train + FORWARD * val) / (rate * (1.0 - RESERVE));
        fastest = Some(fastest.map_or(seconds_per_epoch, |fastest| fastest.min(seconds_per_epoch)));
        let fit = (limit.as_secs_f64() / seconds_per_epoch) as usize;
        let enough = STEPS.div_ceil(recipe.train.steps_per_epoch(images[0]));
        let to_epochs = to_epochs.max(enough);
        let epochs = fit.min(to_epochs);
        let has_steps = number == 0 || epochs >= enough;
        if fit >= from_epochs && has_steps {
            return Ok(Some(TimedRecipe {
                recipe: Recipe { train: recipe.train.stretched_to(epochs), model: recipe.model },
                views: Views::MirrorShift,
                rate,
                duration: Duration::from_secs_f64(epochs as f64 * seconds_per_epoch),
                is_longest: fit > to_epochs,
            }));
        }
    }
    let Some(fastest) = fastest else { return Ok(None) };
    let least = Duration::try_from_secs_f64(fastest).unwrap_or(Duration::MAX);
    Err(TrainError::TooShort { limit, least }.into())
}

/// Returns the recipe in batches that suit this number of images: at most half of them, so that the
/// recipe also suits if the number was an estimate. The rate of SGD stays, since losses are summed.
/// That of Muon follows the root of the batch size, and weight decay the size.
fn for_images(recipe: &Recipe, images: usize) -> Recipe {
    let Recipe { model, train } = recipe.clone();
    let batch_size = train.batch_size.min((images / STEPS).max(SMALL_BATCH)).min(images.div_ceil(2)).max(1);
    let ratio = batch_size as f64 / train.batch_size as f64;
    // Three digits suffice, and are short to read.
    let rounded = |x: f64| format!("{x:.2e}").parse().unwrap_or(x);
    let train = TrainParams {
        batch_size,
        muon_learning_rate: rounded(train.muon_learning_rate * libm::sqrt(ratio)),
        weight_decay: rounded(train.weight_decay * ratio),
        ..train
    };
    Recipe { model, train }
}

/// Returns the networks from narrow to wide.
fn frontier() -> [Size; FRONTIER_SIZES] {
    let of = |widths: [usize; 3]| ModelParams { widths: widths.to_vec(), ..ModelParams::of(Architecture::Airbench94) };
    let train = TrainParams {
        batch_size: 250,
        muon_learning_rate: 0.085,
        weight_decay: 0.063,
        averaging: Averaging::Lookahead,
        averaging_decay: 0.5,
        ..airbench94().recipe.train
    };
    let size = |widths, from_epochs, to_epochs| Size {
        recipe: Recipe { model: of(widths), train: train.clone() },
        from_epochs,
        to_epochs,
    };
    [
        size([24, 96, 128], 1, 16),
        size([32, 128, 256], 5, 12),
        size([64, 256, 256], 6, 12),
        Size { recipe: hour().recipe, from_epochs: 12, to_epochs: 16 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: [usize; 2] = [45_000, 5_000];

    /// Images per second on a machine that trains the narrowest network with 3,000.
    fn rate(recipe: &Recipe) -> f64 {
        let first: usize = frontier()[0].recipe.model.widths.iter().sum();
        let these: usize = recipe.model.widths.iter().sum();
        3000.0 * (first as f64 / these as f64).powi(2)
    }

    fn chosen(minutes: f64, images: [usize; 2]) -> TimedRecipe {
        let limit = Duration::from_secs_f64(60.0 * minutes);
        let rate = |recipe: &Recipe| Ok::<_, TrainError>(Some(rate(recipe)));
        recipe_within(limit, images, Precision::F32, rate).unwrap().unwrap()
    }

    fn width(recipe: &Recipe) -> usize {
        recipe.model.widths.iter().sum()
    }

    #[test]
    fn sizes_are_in_order_and_their_epochs_are_allowed() {
        let sizes = frontier();
        assert!(sizes.windows(2).all(|pair| width(&pair[0].recipe) < width(&pair[1].recipe)));
        assert_eq!(sizes[0].from_epochs, 1, "the narrowest network is for any time");
        for Size { recipe, from_epochs, to_epochs } in sizes {
            assert!(from_epochs <= to_epochs);
            for epochs in [from_epochs, to_epochs] {
                let train = recipe.train.stretched_to(epochs);
                let json = serde_json::to_string(&train).unwrap();
                assert_eq!(serde_json::from_str::<TrainParams>(&json).unwrap(), train);
            }
        }
    }

    #[test]
    fn more_time_is_never_given_to_a_narrower_network() {
        let (mut widest, mut longest) = (0, Duration::ZERO);
        for minutes in [0.5, 1.0, 3.0, 10.0, 30.0, 90.0, 240.0] {
            let TimedRecipe { recipe, duration, .. } = chosen(minutes, IMAGES);
            assert!(width(&recipe) >= widest && duration.as_secs_f64() <= 60.0 * minutes, "{minutes}: {duration:?}");
            assert!(duration >= longest);
            (widest, longest) = (width(&recipe), duration);
        }
        assert_eq!(widest, width(&frontier()[FRONTIER_SIZES - 1].recipe));
    }

    #[test]
    fn recipes_suit_any_number_of_images() {
        for images in [1, 70, 200, 704, 1_500, 14_010, 45_000] {
            for minutes in [0.1, 1.0, 10.0, 100.0] {
                let limit = Duration::from_secs_f64(60.0 * minutes);
                let rate = |recipe: &Recipe| Ok::<_, TrainError>(Some(rate(recipe)));
                let Ok(found) = recipe_within(limit, [images, 10], Precision::F32, rate) else { continue };
                let Recipe { model, train } = found.unwrap().recipe;
                train.check(images, 10, cifar_data::ImageSize { height: 32, width: 32 }).unwrap();
                let steps = train.epochs * train.steps_per_epoch(images);
                let is_narrowest = model.widths == frontier()[0].recipe.model.widths;
                assert!(steps >= STEPS || is_narrowest, "{images} images, {minutes} minutes: {steps} steps");
            }
        }
        let small = chosen(10.0, [704, 94]).recipe.train;
        assert_eq!(small.batch_size, SMALL_BATCH);
        // Ten minutes are enough for all steps, even of a single image.
        for images in [1, 70, 200] {
            let Recipe { train, .. } = chosen(10.0, [images, 10]).recipe;
            assert!(train.epochs * train.steps_per_epoch(images) >= STEPS, "{images} images");
        }
        let default = super::super::default().recipe.train;
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
        let airbench94 = chosen(0.1, [704, 94]).recipe.train;
        close(airbench94.muon_learning_rate, default.muon_learning_rate);
        close(airbench94.weight_decay, default.weight_decay);
        assert_eq!(chosen(3.0, IMAGES).recipe.train.batch_size, 250);
    }

    #[test]
    fn a_day_is_not_spent_on_epochs_that_bring_nothing() {
        let found = chosen(24.0 * 60.0, IMAGES);
        assert!(found.is_longest && found.recipe.train.epochs == frontier()[FRONTIER_SIZES - 1].to_epochs);
        assert!(found.duration < Duration::from_hours(24) && !chosen(3.0, IMAGES).is_longest);
    }

    #[test]
    fn a_network_that_does_not_suit_is_skipped() {
        let narrow = |recipe: &Recipe| Ok::<_, TrainError>((width(recipe) < 500).then(|| rate(recipe)));
        let limit = Duration::from_hours(2);
        let found = recipe_within(limit, IMAGES, Precision::F32, narrow).unwrap().unwrap();
        assert_eq!(found.recipe.model.widths, [32, 128, 256]);
        let none = recipe_within(limit, IMAGES, Precision::F32, |_| Ok::<_, TrainError>(None));
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn a_time_for_less_than_an_epoch_is_refused() {
        let rate = |_: &Recipe| Ok::<_, TrainError>(Some(1000.0));
        let of = |images| recipe_within(Duration::from_secs(5), images, Precision::F32, rate);
        let error = of(IMAGES).unwrap_err().to_string();
        assert_eq!(error, "one epoch of the narrowest network takes 49.1 s here, and the limit is 5.0 s");
        assert!(of([0, 0]).is_ok(), "no images take no time");
    }
}
