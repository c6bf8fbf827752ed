//! What scoring 50,000 images costs, from what was recorded over eight epochs to places: `cargo bench -p cifar-eval`.

use cifar_data::random::{Purpose, stream};
use cifar_eval::measures::{Joint, Trajectories, ranks};
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
            let found = Trajectories::follow(CLASSES, &labels, EPOCHS, |epoch| epochs[epoch].clone());
            let found = found.ok().flatten();
            let joint = found.as_ref().map(|found| Joint::estimate(CLASSES, &labels, &found.late_probabilities));
            let losses: Vec<f64> = found.iter().flat_map(|f| f.images.iter().map(|i| i.mean_loss)).collect();
            (found, joint, ranks(&losses), ranks(&losses))
        });
    });
}

criterion_group!(benches, score);
criterion_main!(benches);
