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
