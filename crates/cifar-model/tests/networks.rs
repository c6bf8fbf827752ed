//! Every network as a whole in a narrow version, and the wide ones through the model file.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;

use crate::common::{BATCH, CLASSES, NAMES, SIZE, get, ids, images, labels, narrow, train};
use candle_core::{Device, Tensor};
use cifar_data::prepare::normalisation;
use cifar_data::sources::synthetic::{SyntheticParams, generate, training_data};
use cifar_data::splits::Split;
use cifar_data::{DataError, ImageSize, Stage};
use cifar_model::networks::{Airbench, AirbenchParams, Architecture};
use cifar_model::ops::{self, Targets};
use cifar_model::parameters::Parameters;
use cifar_model::{Mode, Model, ModelError, ModelOrigin, ModelParams, ModelSpec};

/// Runs a training pass and returns the logits, the gradients of the loss, and the parameters.
fn pass(name: &str, size: ImageSize) -> (Tensor, candle_core::backprop::GradStore, Parameters) {
    let (network, parameters) = narrow(name, size);
    let ids = ids();
    let logits = network.forward(images(size), &Mode::Train { seed: 0, epoch: 0, ids: &ids }).unwrap();
    let gradients =
        ops::softmax_cross_entropy(&logits, &Targets { labels: &labels(), smoothing: 0.1, ..Targets::default() })
            .unwrap()
            .backward()
            .unwrap();
    (logits, gradients, parameters)
}

#[test]
fn gradients_reach_every_parameter_for_many_sizes_of_images() {
    for name in NAMES {
        for (height, width) in [(12, 12), (9, 20), (17, 13), (64, 64), (96, 96)] {
            let (logits, gradients, parameters) = pass(name, ImageSize { height, width });
            assert_eq!(logits.dims(), [BATCH, CLASSES], "{name}");
            for parameter in parameters.trained() {
                let gradient = gradients.get(&parameter.var).expect(&parameter.name);
                assert_eq!(gradient.dims(), parameter.var.dims(), "{name} {}", parameter.name);
                let values = get(gradient);
                assert!(values.iter().all(|g| g.is_finite()), "{name} {}", parameter.name);
                assert!(values.iter().any(|g| *g != 0.0), "{name} {}", parameter.name);
            }
        }
    }
}

#[test]
fn a_frozen_whitening_bias_gets_no_gradient() {
    let (network, parameters) = narrow("airbench94", SIZE);
    parameters.freeze("whitening.bias", true).unwrap();
    let ids = ids();
    let logits = network.forward(images(SIZE), &Mode::Train { seed: 0, epoch: 0, ids: &ids }).unwrap();
    let gradients =
        ops::softmax_cross_entropy(&logits, &Targets { labels: &labels(), smoothing: 0.1, ..Targets::default() })
            .unwrap()
            .backward()
            .unwrap();
    let (frozen, trained): (Vec<_>, Vec<_>) = parameters.trained().iter().partition(|p| p.name == "whitening.bias");
    assert!(frozen.iter().all(|p| gradients.get(&p.var).is_none()) && frozen.len() == 1);
    assert!(trained.iter().all(|p| gradients.get(&p.var).is_some()));
}

#[test]
fn steps_lower_the_loss() {
    for name in NAMES {
        let (network, parameters) = narrow(name, SIZE);
        let losses = train(&*network, &parameters, SIZE, 0.02, 8);
        assert!(losses[7] < 0.9 * losses[0], "{name}: {losses:?}");
    }
}

#[test]
fn evaluation_agrees_with_training_once_the_running_statistics_have_settled() {
    let size = ImageSize { height: 16, width: 16 };
    for name in NAMES {
        let (network, _) = narrow(name, size);
        let ids = ids();
        let mode = Mode::Train { seed: 0, epoch: 0, ids: &ids };
        // 0.9¹⁰⁰ of the initial statistics remains.
        let trained = (0..100).map(|_| network.forward(images(size), &mode).unwrap()).last().unwrap();
        let evaluated = network.forward(images(size), &Mode::Evaluate).unwrap();
        assert!(!evaluated.track_op());
        let (trained, evaluated) = (get(&trained), get(&evaluated));
        let size = trained.iter().fold(0f32, |m, x| m.max(x.abs()));
        // Running variances are unbiased: n / (n − 1) times those of the batch. In every layer, n
        // is at least 12 images.
        for (a, b) in trained.iter().zip(&evaluated) {
            assert!((a - b).abs() < 0.15 * size, "{name}: {a} in training, {b} in evaluation, of {size}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for name in NAMES {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (network, parameters) = narrow(name, SIZE);
                let losses = train(&*network, &parameters, SIZE, 0.02, 2);
                let tensors: Vec<u32> = parameters.all().flat_map(|(_, v)| get(v)).map(f32::to_bits).collect();
                (losses.into_iter().map(f32::to_bits).collect::<Vec<_>>(), tensors)
            })
        };
        assert!(run(1) == run(2), "{name}");
    }
}

fn spec(architecture: Architecture) -> ModelParams {
    let (dropout, conv_dropout) = (0.0, 0.0);
    ModelParams { dropout, conv_dropout, ..ModelParams::of(architecture) }
}

#[test]
fn a_saved_model_gives_the_same_logits() {
    let data = generate(&SyntheticParams { count: 40, ..Default::default() }).unwrap().dataset;
    let folder = tempfile::tempdir().unwrap();
    for (architecture, parameters) in [
        (Architecture::SimpleCnn, 551_146),
        (Architecture::Airbench94, 1_971_352),
        (Architecture::Airbench96, 12_717_464),
        (Architecture::ResNet18, 11_173_962),
    ] {
        let spec = ModelSpec {
            params: spec(architecture),
            classes: data.classes().to_vec(),
            size: data.size(),
            normalisation: normalisation(&data),
        };
        let model = Model::new(spec, 3).unwrap();
        model.prepare(&data).unwrap();
        assert_eq!(model.parameters().count(), parameters, "{}", architecture.name());
        assert_eq!(model.summary().iter().map(|l| l.parameters).sum::<usize>(), parameters);
        let path = folder.path().join(architecture.name());
        model.save(&path).unwrap();
        let logits = |model: &Model| get(&model.forward(data.image(5), &Mode::Evaluate).unwrap());
        let (expected, found) = (logits(&model), logits(&Model::load(&path).unwrap()));
        assert!(expected.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", architecture.name());
        assert!(expected.iter().all(|l| l.is_finite()));
    }
}

#[test]
fn class_activations_and_the_bias_sum_to_the_logits() {
    let data = generate(&SyntheticParams { count: 30, ..Default::default() }).unwrap().dataset;
    for (architecture, widths, places) in [
        (Architecture::SimpleCnn, vec![4; 3], None),
        (Architecture::Airbench94, vec![4, 5, 6], Some(9)),
        (Architecture::Airbench96, vec![4, 5, 6], Some(9)),
        (Architecture::ResNet18, vec![4, 5, 6, 7], Some(16)),
    ] {
        let spec = ModelSpec {
            params: ModelParams { widths, ..spec(architecture) },
            classes: data.classes().to_vec(),
            size: data.size(),
            normalisation: normalisation(&data),
        };
        let model = Model::new(spec, 3).unwrap();
        let mut bias = vec![0.0; 10];
        if let Some((_, var)) = model.parameters().all().find(|(name, _)| *name == "head.bias") {
            bias = (0..10).map(|class| class as f32 / 4.0).collect();
            var.set(&Tensor::from_vec(bias.clone(), 10, &Device::Cpu).unwrap()).unwrap();
        }
        let pixels = &data.pixels()[..5 * data.size().bytes()];
        let logits = get(&model.forward(pixels, &Mode::Evaluate).unwrap());
        let maps = model.class_activations(pixels).unwrap();
        assert_eq!(maps.as_ref().map(|maps| maps.dims()[1] * maps.dims()[2]), places, "{}", architecture.name());
        let Some(maps) = maps else { continue };
        for (map, logits) in maps.values().unwrap().chunks_exact(places.unwrap() * 10).zip(logits.chunks_exact(10)) {
            for (class, logit) in logits.iter().enumerate() {
                let sum = map.iter().skip(class).step_by(10).sum::<f32>() + bias[class];
                // Sums of at most 112 products in another order.
                assert!((sum - logit).abs() < 1e-5 * (1.0 + logit.abs()), "{}: {sum}, {logit}", architecture.name());
            }
        }
    }
}

#[test]
fn images_that_are_too_small_are_refused_in_one_line() {
    let size = ImageSize { height: 8, width: 32 };
    let error = Airbench::new(&AirbenchParams::AIRBENCH94, 10, size, &mut Parameters::new(0)).unwrap_err();
    assert_eq!(error.to_string(), "airbench94 needs images of at least 9×9 pixels, these have 32×8");
}

#[test]
fn invalid_network_parameters_are_refused() {
    let parse = |json: &str| serde_json::from_str::<ModelParams>(json).map_err(|e| e.to_string());
    let network = |architecture: &str, widths: &str, dropout: &str| {
        let rest = format!(r#""widths": {widths}, "dropout": {dropout}, "conv_dropout": 0"#);
        parse(&format!(r#"{{"architecture": "{architecture}", {rest}}}"#))
    };
    assert!(network("simple_cnn", "[8, 16, 32]", "0.3").is_ok());
    assert_eq!(network("resnet18", "[64, 128, 256, 512]", "0"), Ok(spec(Architecture::ResNet18)));
    let refused = |found: Result<ModelParams, String>, expected: &str| {
        let error = found.unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    refused(
        network("airbench94", "[64, 256, 256]", "0.3"),
        "dropout: 0.3 is not allowed; airbench94 has no dropout; set it to 0",
    );
    refused(network("resnet18", "[64, 128, 256]", "0"), "widths: [64, 128, 256] is not allowed");
    refused(network("simple_cnn", "[0, 16, 32]", "0"), "widths: [0, 16, 32] is not allowed");
}

#[test]
fn a_missing_model_and_one_of_other_images_name_the_stage_that_trains() {
    let data = training_data(&SyntheticParams { count: 60, ..Default::default() }).unwrap();
    let path = std::path::Path::new("no/such/model.safetensors");
    let missing = Model::load(path).unwrap_err();
    assert!(missing.to_string().starts_with("no/such/model.safetensors: cannot read the model: "), "{missing}");
    assert!(matches!(&missing, ModelError::Data(DataError::Missing { .. })) && missing.made_by() == [Stage::Train]);

    let report = &data.report;
    let spec = ModelSpec {
        params: spec(Architecture::SimpleCnn),
        classes: report.classes.clone(),
        size: report.size,
        normalisation: report.normalisation.clone(),
    };
    let mut model = Model::new(spec, 3).unwrap();
    let check = |model: &Model, expected: &str| {
        let stale = model.expect_trained_on(report, path).unwrap_err();
        assert_eq!(stale.to_string(), format!("no/such/model.safetensors: {expected}"));
        assert!(matches!(&stale, ModelError::Data(DataError::Stale { .. })) && stale.made_by() == [Stage::Train]);
    };
    check(&model, "does not say what it was trained on");
    let fingerprint = |split| report.fingerprint(split).to_string();
    let origin = ModelOrigin {
        source: report.source.clone(),
        dataset_version: report.dataset_version.to_string(),
        training_fingerprint: fingerprint(Split::Train),
        validation_fingerprint: fingerprint(Split::Val),
        seed: 3,
        epoch: 1,
        arithmetic: String::new(),
        init: None,
        continues: Vec::new(),
        settings: BTreeMap::new(),
    };
    model.origin = Some(origin.clone());
    model.expect_trained_on(report, path).unwrap();
    let other = "images or labels than those of the prepared set";
    model.origin = Some(ModelOrigin { training_fingerprint: String::new(), ..origin.clone() });
    check(&model, &format!("was trained on other training {other}"));
    model.origin = Some(ModelOrigin { validation_fingerprint: String::new(), ..origin });
    check(&model, &format!("was trained on other validation {other}"));
}
