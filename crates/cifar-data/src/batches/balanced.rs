//! Balanced sampling: every class is drawn equally often, however many images it has.

use super::Draw;
use crate::random::{Purpose, stream};

/// Returns the images of an epoch that draws every class equally often, in random order.
///
/// The epoch has as many draws as there are `labels`. The draws of two classes differ by at most
/// one, also when they are added up over several epochs. Within a class all images take turns, in a
/// new random order each time: over a run they are drawn equally often, give or take one. So an
/// image of a rare class may appear several times in an epoch, and one of a frequent class in some
/// epochs only. Classes without images are left out.
///
/// The draws depend on the labels, the seed and the epoch, counted from 0, and need no state of
/// earlier epochs.
///
/// ```
/// use cifar_data::batches::balanced_draws;
///
/// // Six images of class 0 and two of class 1.
/// let labels = [0, 0, 0, 0, 0, 0, 1, 1];
/// let draws = balanced_draws(&labels, 42, 0);
/// let of_class = |class| draws.iter().filter(|draw| labels[draw.index] == class).count();
/// assert_eq!((draws.len(), of_class(0), of_class(1)), (8, 4, 4));
/// ```
pub fn balanced_draws(labels: &[u16], seed: u64, epoch: u64) -> Vec<Draw> {
    let classes = labels.iter().max().map_or(0, |last| usize::from(*last) + 1);
    let mut images = vec![Vec::new(); classes];
    for (index, label) in labels.iter().enumerate() {
        images[usize::from(*label)].push(index);
    }
    let present: Vec<(usize, Vec<usize>)> = images.into_iter().enumerate().filter(|(_, i)| !i.is_empty()).collect();
    let mut draws = Vec::with_capacity(labels.len());
    for (place, (class, images)) in present.iter().enumerate() {
        // Over all epochs, draw n is of class n modulo the number of classes.
        let before = |draws: u64| (draws + (present.len() - 1 - place) as u64) / present.len() as u64;
        let (length, turns) = (labels.len() as u64, images.len() as u64);
        let (first, end) = (before(epoch * length), before((epoch + 1) * length));
        for round in first / turns..end.div_ceil(turns) {
            let mut order = images.clone();
            stream(seed, Purpose::BalancedSampling, round, *class as u64).shuffle(&mut order);
            let from = (first.max(round * turns) - round * turns) as usize;
            let to = (end.min((round + 1) * turns) - round * turns) as usize;
            draws.extend(order[from..to].iter().map(|&index| Draw { index, visit: round }));
        }
    }
    stream(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut draws);
    draws
}
