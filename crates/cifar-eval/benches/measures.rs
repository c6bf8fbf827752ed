//! Time to score 50,000 images, from the logits of eight epochs to percentile ranks:
//! `cargo bench -p cifar-eval`.

use cifar_data::random::{Purpose, stream};
use cifar_eval::measures::{ConfidentJoint, NoiseRates, Trajectories, ranks};
use criterion::{Criterion, criterion_group, criterion_main};

const IMAGES: usize = 50_000;
const CLASSES: usize = 10;
const EPOCHS: usize = 8;

fn score(criterion: &mut Criterion) {
    let labels: Vec<u16> = (0..IMAGES).map(|i| (i % CLASSES) as u16).collect();
    let epochs: Vec<Vec<f32>> = (0..EPOCHS as u64)
        .map(|epoch| {
            let mut random = stream(1, Purpose::Synthetic, epoch, 0);
            (0..IMAGES * CLASSES).map(|_| random.normal() as f32 * 3.0).collect()
        })
        .collect();
    criterion.bench_function("all measures of 50,000 images over 8 epochs", |bencher| {
        bencher.iter(|| {
            let found = Trajectories::from_logits(CLASSES, &labels, EPOCHS, |epoch| epochs[epoch].clone());
            let found = found.ok().flatten();
            let scores = found.as_ref().map(|found| {
                let probabilities = &found.late_probabilities;
                let rates = NoiseRates::estimate(CLASSES, &labels, probabilities);
                let rows = labels.iter().zip(probabilities.chunks_exact(CLASSES));
                let log_odds: Vec<f64> =
                    rows.map(|(label, row)| rates.log_odds_wrong(usize::from(*label), row)).collect();
                let losses: Vec<f64> = found.images.iter().map(|image| image.mean_loss).collect();
                (ConfidentJoint::estimate(CLASSES, &labels, probabilities), ranks(&log_odds), ranks(&losses))
            });
            (found, scores)
        });
    });
}

criterion_group!(benches, score);
criterion_main!(benches);
