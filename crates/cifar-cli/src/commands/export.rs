//! `export`: writes the trained model for other programs.

use cifar_model::Views;
use cifar_model::export::onnx::OnnxInput;
use cifar_pipeline::stages::export::{ExportFormat, ExportOptions, run as export};
use cifar_pipeline::{Error, Result};

use super::Context;
use crate::args::{ExportArgs, FormatName, InputName, TtaName};

pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<()> {
    if args.format != FormatName::Onnx && (args.input.is_some() || args.tta.is_some()) {
        return Err(Error::usage("--input and --tta are options of `--format onnx` only; remove them"));
    }
    let format = match args.format {
        FormatName::Onnx => ExportFormat::Onnx {
            input: match args.input {
                None | Some(InputName::Uint8) => OnnxInput::Uint8,
                Some(InputName::Float) => OnnxInput::Float,
            },
            views: match args.tta {
                None | Some(TtaName::None) => Views::None,
                Some(TtaName::Mirror) => Views::Mirror,
                Some(TtaName::MirrorShift) => Views::MirrorShift,
            },
        },
        FormatName::Pytorch => ExportFormat::Pytorch,
        FormatName::Card => ExportFormat::Card,
    };
    let options = ExportOptions { format, model: args.model.clone(), output: args.output.clone() };
    context.terminal.outcome(&export(&context.project, &options, context.terminal)?);
    Ok(())
}
