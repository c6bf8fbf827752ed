use cifar_data::batches::Flip;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_model::{ModelParams, ModelSpec};

use super::*;

#[test]
fn the_first_batch_is_what_training_begins_with() {
    let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() }).unwrap();
    let (flip, brightness) = (Flip::Alternating, 0.2);
    let params = TrainParams { batch_size: 32, flip, cutout: 8, mixup: 0.5, brightness, ..TrainParams::default() };
    let batch = first_batch(&params, &data, 42).unwrap();
    let spec = ModelSpec {
        params: ModelParams { widths: vec![4; 3], ..ModelParams::default() },
        classes: data.report.classes.clone(),
        size: data.report.size,
        normalisation: data.report.normalisation.clone(),
    };
    let model = Model::new(spec, 42).unwrap();
    let mode = Mode::Train { seed: 42, epoch: 0, ids: &batch.ids };
    let logits = model.forward(&batch.pixels, &mode).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut trainer = Trainer::new(model, &params, data.train.len(), 42).unwrap();
    trainer.steps(&data.train, 1, |_, _| Ok(ControlFlow::Continue(()))).unwrap();
    assert_eq!(trainer.latest(), (&batch.ids[..], &logits[..]));
    let error = first_batch(&TrainParams { batch_size: 1000, ..params }, &data, 42).unwrap_err().to_string();
    assert!(error.starts_with("train.batch_size: 1000 is not allowed"), "{error}");
}

#[test]
fn batches_of_an_epoch_have_equal_size_and_every_image_once() {
    for (images, batch_size, sizes) in [
        (28_002, 2000, 1866..=1867),
        (50_000, 2000, 2000..=2000),
        (41_975, 2000, 1998..=1999),
        (10, 4, 3..=4),
        (3, 8, 3..=3),
        (7, 1, 1..=1),
    ] {
        let steps_per_epoch = usize::div_ceil(images, batch_size);
        let augmentation = TrainParams::default().augmentation();
        let sampling = Sampling::Natural;
        let plan = Plan { sampling, augmentation, seed: 1, steps_per_epoch, steps: 0..steps_per_epoch };
        let mut next = 0;
        for step in 0..steps_per_epoch {
            let places = plan.places(step, images);
            assert_eq!(places.start, next);
            assert!(sizes.contains(&places.len()), "{images} by {batch_size}: {places:?}");
            next = places.end;
        }
        assert_eq!(next, images);
    }
}
