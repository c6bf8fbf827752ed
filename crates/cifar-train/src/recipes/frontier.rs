//! The recipe for a given time: which network to train, and for how many epochs.
//!
//! For each time there is a best size of the network: a wide one learns more per epoch, a narrow one
//! takes more epochs. The frontier lists the sizes from narrow to wide, each with the fewest epochs
//! at which it is better than the narrower ones in the same time. `docs/training.md` has the
//! measurements.

use std::time::Duration;

use cifar_model::{Architecture, ModelParams, Views};

use super::{airbench94, hour};
use crate::{Averaging, Recipe, Result, TrainError, TrainParams};

/// Time that is kept for validation, checkpoints and a busy machine, as a fraction of the limit.
const RESERVE: f64 = 0.05;
/// Time of a forward pass over an image, as a fraction of that of a training step.
const FORWARD: f64 = 1.0 / 3.0;

/// Number of networks of the frontier: the most that [`within`] measures.
pub const FRONTIER_SIZES: usize = 3;

/// A network of the frontier.
struct Size {
    recipe: Recipe,
    /// From this number of epochs on, it is better than narrower networks in the same time.
    from_epochs: usize,
    /// More epochs were not measured, or bring nothing.
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
}

/// Returns the recipe that reaches the highest accuracy on CIFAR-10 in `limit` of training.
///
/// `images` has the numbers of training and validation images. `rate` measures the training images
/// per second of a recipe on this machine; it is called for wide networks first, until one fits.
///
/// ```
/// use std::time::Duration;
/// use cifar_train::{TrainError, recipes::within};
///
/// // On a machine on which every network trains 1,000 images per second:
/// let of = |minutes| within(Duration::from_mins(minutes), [45_000, 5_000], |_| Ok::<_, TrainError>(1000.0));
/// let (short, long) = (of(1)?, of(30)?);
/// assert!(short.recipe.train.epochs < long.recipe.train.epochs);
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// If not even one epoch of the narrowest network fits. Those of `rate`.
pub fn within<E: From<TrainError>>(
    limit: Duration,
    images: [usize; 2],
    mut rate: impl FnMut(&Recipe) -> Result<f64, E>,
) -> Result<TimedRecipe, E> {
    let [train, val] = images.map(|count| count as f64);
    let mut fastest = f64::INFINITY;
    for Size { recipe, from_epochs, to_epochs } in frontier().into_iter().rev() {
        let rate = rate(&recipe)?;
        let seconds_per_epoch = (train + FORWARD * val) / (rate * (1.0 - RESERVE));
        fastest = fastest.min(seconds_per_epoch);
        let fit = (limit.as_secs_f64() / seconds_per_epoch) as usize;
        if fit >= from_epochs {
            let epochs = fit.min(to_epochs);
            return Ok(TimedRecipe {
                recipe: Recipe { train: recipe.train.stretched_to(epochs), model: recipe.model },
                views: Views::MirrorShift,
                rate,
                duration: Duration::from_secs_f64(epochs as f64 * seconds_per_epoch),
            });
        }
    }
    let least = Duration::try_from_secs_f64(fastest).unwrap_or(Duration::MAX);
    Err(TrainError::TooShort { limit, least }.into())
}

/// Returns the networks from narrow to wide.
fn frontier() -> [Size; FRONTIER_SIZES] {
    let narrow = airbench94().recipe;
    let hour = hour().recipe;
    let of = |widths: [usize; 3]| ModelParams { widths: widths.to_vec(), ..ModelParams::of(Architecture::Airbench94) };
    let train = TrainParams {
        batch_size: 500,
        muon_learning_rate: 0.12,
        weight_decay: 0.125,
        averaging: Averaging::Lookahead,
        averaging_decay: 0.5,
        ..narrow.train
    };
    [
        Size { recipe: Recipe { model: of([32, 128, 128]), train: train.clone() }, from_epochs: 1, to_epochs: 10 },
        Size { recipe: Recipe { model: of([64, 256, 256]), train }, from_epochs: 6, to_epochs: 20 },
        Size { recipe: hour, from_epochs: 10, to_epochs: 40 },
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

    fn chosen(minutes: f64) -> TimedRecipe {
        within(Duration::from_secs_f64(60.0 * minutes), IMAGES, |recipe| Ok::<_, TrainError>(rate(recipe))).unwrap()
    }

    #[test]
    fn sizes_are_in_order_and_their_epochs_are_allowed() {
        let sizes = frontier();
        let operations = |size: &Size| size.recipe.model.widths.iter().product::<usize>();
        assert!(sizes.windows(2).all(|pair| operations(&pair[0]) < operations(&pair[1])));
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
    fn more_time_is_never_spent_on_a_narrower_network_and_never_exceeded() {
        let (mut widest, mut longest) = (0, Duration::ZERO);
        for minutes in [0.5, 1.0, 3.0, 10.0, 30.0, 90.0, 240.0] {
            let TimedRecipe { recipe, duration, .. } = chosen(minutes);
            let width = recipe.model.widths.iter().sum();
            assert!(width >= widest && duration.as_secs_f64() <= 60.0 * minutes, "{minutes}: {duration:?}");
            assert!(duration >= longest);
            (widest, longest) = (width, duration);
        }
        assert_eq!(widest, frontier()[2].recipe.model.widths.iter().sum::<usize>());
    }

    #[test]
    fn a_day_is_not_spent_on_epochs_that_bring_nothing() {
        let found = chosen(24.0 * 60.0);
        assert_eq!(found.recipe.train.epochs, frontier()[2].to_epochs);
        assert!(found.duration < Duration::from_hours(24));
    }

    #[test]
    fn a_time_for_less_than_an_epoch_is_refused() {
        let of = |images| within(Duration::from_secs(5), images, |_| Ok::<_, TrainError>(1000.0));
        let error = of(IMAGES).unwrap_err().to_string();
        assert_eq!(error, "one epoch of the narrowest network takes 49.1 s here, and the limit is 5.0 s");
        assert!(of([0, 0]).is_ok(), "no images take no time");
    }
}
