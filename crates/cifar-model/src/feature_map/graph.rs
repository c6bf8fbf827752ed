//! The operations of feature maps in candle's graph.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::Buffer;

use super::{FeatureMap, Slot};
use crate::gradients::deliver;
use crate::number::Number;
use crate::ops::with_values;

fn take<N: Number>(slot: &Slot, op: &str) -> Result<Buffer<N>> {
    let gradient = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    N::unwrap(gradient.ok_or_else(|| Error::Msg(format!("{op}: no gradient arrived; is this a node of two graphs?")))?)
}

/// The storage of a node for candle: one element without meaning.
fn nothing() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), 1.into())
}

/// The gradient of a node for candle, if candle visits it.
fn node_gradient(node: &Tensor) -> Result<Option<Tensor>> {
    node.track_op().then(|| node.zeros_like()).transpose()
}

/// The backward half of an operation on feature maps, with what it stored in the forward pass. The
/// backward pass releases that, so the memory serves the operations before.
pub(crate) trait Operation: Send + Sync + 'static {
    /// The name in errors.
    const NAME: &'static str;
    /// The type of the result's values and of their gradient.
    type Number: Number;

    /// Computes gradients from the gradient of the result. Those of tracked input maps are passed
    /// on by [`FeatureMap::put_gradient`]; those of tracked parameters are returned in the
    /// parameters' order.
    fn backward(self, gradient: Buffer<Self::Number>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]>;
}

/// Creates the result of an operation: `values` of shape `dims`, computed from `input`, optionally
/// a second map, and up to two parameters. `operation` is only stored if one of them is tracked.
pub(crate) fn record<O: Operation>(
    operation: O,
    values: Buffer<O::Number>,
    dims: &[usize],
    input: &FeatureMap,
    second: Option<&FeatureMap>,
    parameters: &[&Tensor],
) -> Result<FeatureMap> {
    let map = FeatureMap { precision: input.precision, ..FeatureMap::of(values, dims)? };
    let inputs = match second {
        // A custom op has at most three arguments, so the nodes of two maps are joined first.
        Some(second) if second.is_tracked() => input.node.apply_op2(&second.node, Join)?,
        _ => input.node.clone(),
    };
    if !inputs.track_op() && parameters.iter().all(|p| !p.track_op()) {
        return Ok(map);
    }
    let recorded = Recorded { operation: Mutex::new(Some(operation)), gradient: Arc::clone(&map.gradient) };
    let node = match parameters {
        [] => inputs.apply_op1(recorded)?,
        [a] => inputs.apply_op2(a, recorded)?,
        [a, b] => inputs.apply_op3(a, b, recorded)?,
        _ => return Err(Error::Msg(format!("{}: at most two parameters can be recorded", O::NAME))),
    };
    Ok(FeatureMap { node, ..map })
}

/// An operation in candle's graph, with the slot of its result.
struct Recorded<O> {
    /// None after the backward pass.
    operation: Mutex<Option<O>>,
    gradient: Slot,
}

impl<O: Operation> Recorded<O> {
    fn run(&self, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let operation = self.operation.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operation = operation.ok_or_else(|| {
            let name = O::NAME;
            Error::Msg(format!(
                "{name}: the backward pass of this graph has already run; compute the forward pass again"
            ))
        })?;
        operation.backward(take(&self.gradient, O::NAME)?, parameters)
    }
}

impl<O: Operation> CustomOp1 for Recorded<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(&self, inputs: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.run(&[])?;
        node_gradient(inputs)
    }
}

impl<O: Operation> CustomOp2 for Recorded<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(&self, inputs: &Tensor, a: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_a, _] = self.run(&[a])?;
        Ok((node_gradient(inputs)?, deliver(a, of_a)))
    }
}

impl<O: Operation> CustomOp3 for Recorded<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [of_a, of_b] = self.run(&[a, b])?;
        Ok((node_gradient(inputs)?, deliver(a, of_a), deliver(b, of_b)))
    }
}

/// Joins two nodes into one.
struct Join;

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((node_gradient(a)?, node_gradient(b)?))
    }
}

/// Copies a tensor to a map.
pub(super) struct FromTensor(pub(super) Slot);

impl CustomOp1 for FromTensor {
    fn name(&self) -> &'static str {
        "feature-map-from-tensor"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(&self, tensor: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let gradient = take::<f32>(&self.0, "from_tensor")?;
        Tensor::from_slice(&gradient, tensor.shape(), &Device::Cpu).map(Some)
    }
}

/// Copies a map to a tensor.
pub(super) struct ToTensor(pub(super) FeatureMap);

impl CustomOp1 for ToTensor {
    fn name(&self) -> &'static str {
        "feature-map-to-tensor"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.0.values()?.to_vec()), self.0.dims.as_slice().into()))
    }

    fn bwd(&self, node: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.put_gradient(with_values(gradient, |values| Ok(Buffer::copied(values)))?)?;
        node_gradient(node)
    }
}
