//! The names of tensors in `PyTorch`. Those of `resnet18` are the names of torchvision and timm, so that
//! weights of other programs can be read and written.

use crate::networks::Architecture;

/// Returns the name that one of our tensors has in a `state_dict`.
pub(crate) fn torch_name(name: &str, architecture: Architecture) -> String {
    let (layer, tensor) = name.rsplit_once('.').unwrap_or(("", name));
    let (layer, is_norm) = layer.strip_suffix(".norm").map_or((layer, false), |layer| (layer, true));
    let tensor = match tensor {
        "scale" => "weight",
        "shift" => "bias",
        "running_variance" => "running_var",
        other => other,
    };
    let kind = if is_norm { "bn" } else { "conv" };
    // Ours count from 1; lists and sequences in Python count from 0.
    let number = |text: &str, prefix: &str| text.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok());
    let parts: Vec<&str> = layer.split('.').collect();
    let layer = match parts[..] {
        ["dense"] if is_norm => "dense_bn".into(),
        ["stem"] => format!("{kind}1"),
        ["head"] if architecture == Architecture::ResNet18 => "fc".into(),
        [part, conv] => match (number(part, "block"), number(part, "group"), number(conv, "conv")) {
            (Some(block), _, Some(conv)) => format!("blocks.{}.{kind}{conv}", block - 1),
            (_, Some(group), Some(conv)) => {
                format!("groups.{}.{}.{}", group - 1, if is_norm { "norms" } else { "convs" }, conv - 1)
            }
            _ => layer.into(),
        },
        [stage, block, conv] => {
            let (stage, block) = (stage.replace("stage", "layer"), number(block, "").unwrap_or(1) - 1);
            match number(conv, "conv") {
                Some(conv) => format!("{stage}.{block}.{kind}{conv}"),
                None => format!("{stage}.{block}.downsample.{}", u8::from(is_norm)),
            }
        }
        _ => layer.into(),
    };
    format!("{layer}.{tensor}")
}
