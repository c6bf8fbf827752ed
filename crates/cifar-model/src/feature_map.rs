//! Activations outside of candle's storage, with candle's autograd as the scheduler.
//!
//! # Motivation
//! candle allocates memory for every activation and adds every gradient to a new tensor of zeros:
//! four passes over memory for each. With fast kernels this is a considerable part of a training
//! step. Here both are in a [`Buffer`], which is taken from a pool and returns to it, and a
//! gradient is written once.
//!
//! # Design
//! A [`FeatureMap`] consists of three parts:
//!
//! - its **values**, a buffer that all its clones share;
//! - a **slot** for its gradient, which is only filled for a moment during the backward pass;
//! - its **node**, a candle tensor of one element without meaning: the map's position in candle's
//!   graph.
//!
//! An operation on feature maps is a candle custom op on their nodes and on the tensors of its
//! parameters. Its forward pass writes values into a new buffer and gives candle one element, the
//! node of the result. Buffers that the backward pass needs are stored in the op, which candle
//! stores in the graph.
//!
//! When candle's backward pass reaches the op, it has visited all users of the result, so the
//! result's slot holds its complete gradient. The op takes the gradient and writes those of its
//! inputs into their slots, adding to gradients from other users. It returns 0 without meaning for
//! every node, so that candle continues. Gradients of parameters are ordinary tensors in candle's
//! `GradStore`, where every optimiser for candle finds them. [`gradients`](crate::gradients()) moves
//! them there; `backward` of candle adds them to zeros.
//!
//! A map that depends on no variable is not tracked: its gradient is not computed, and nothing is
//! stored for it. This is how evaluation works, where no parameter is tracked.
//!
//! The order in which candle visits the graph depends only on the graph, so gradients are added in
//! the same order in every run. A graph can be visited again, but not by two threads at once.
//!
//! [`FeatureMap::from_tensor`] and [`FeatureMap::to_tensor`] are differentiable: candle's own
//! operations can be used before, between and after those of [`ops`](crate::ops).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::Buffer;
use rayon::prelude::*;

use crate::gradients::deliver;
use crate::ops::with_values;

/// Values per task of an addition.
const CHUNK: usize = 16 * 1024;

/// `f32` activations of a batch, `[N, H, W, C]` or `[N, F]`, with a node in candle's graph. Clones
/// share everything.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use cifar_kernels::{Activation, Buffer};
/// use cifar_model::{FeatureMap, ops};
///
/// let images = FeatureMap::new(Buffer::copied(&[1.0, 2.0, -3.0, 4.0]), &[1, 2, 2, 1])?;
/// let weight = Var::from_tensor(&Tensor::full(0.5f32, (1, 1, 1, 1), &Device::Cpu)?)?;
/// let maps = ops::conv2d(&images, weight.as_tensor(), 1, 0)?;
/// let halved = ops::activation(&maps, Activation::Relu)?;
/// assert_eq!(halved.values(), [0.5, 1.0, 0.0, 2.0]);
/// let gradients = halved.to_tensor()?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&weight).unwrap().flatten_all()?.to_vec1::<f32>()?, [7.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FeatureMap {
    dims: Vec<usize>,
    values: Arc<Buffer<f32>>,
    gradient: Slot,
    node: Tensor,
}

/// Holds a gradient until the op that made the map takes it.
type Slot = Arc<Mutex<Option<Buffer<f32>>>>;

impl FeatureMap {
    /// Creates a map that needs no gradient, such as a batch of images.
    ///
    /// # Errors
    /// If `dims` does not have two or four dimensions, or their product is not the number of
    /// values.
    pub fn new(values: Buffer<f32>, dims: &[usize]) -> Result<Self> {
        let node = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        Self { dims: dims.to_vec(), values: Arc::new(values), gradient: Slot::default(), node }.checked()
    }

    fn checked(self) -> Result<Self> {
        if !matches!(self.dims.len(), 2 | 4) || self.dims.iter().product::<usize>() != self.values.len() {
            let (dims, len) = (&self.dims, self.values.len());
            return Err(Error::Msg(format!(
                "feature map: {len} values do not fit {dims:?}; allowed is [N, H, W, C] or [N, F]"
            )));
        }
        Ok(self)
    }

    /// Copies a tensor `[N, H, W, C]` or `[N, F]`. Gradients flow back to it.
    ///
    /// # Errors
    /// If the tensor has another number of dimensions, or is not `f32` on the CPU.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let map = Self::new(with_values(tensor, |values| Ok(Buffer::copied(values)))?, tensor.dims())?;
        if !tensor.track_op() {
            return Ok(map);
        }
        let node = tensor.apply_op1(FromTensor(Arc::clone(&map.gradient)))?;
        Ok(Self { node, ..map })
    }

    /// Returns a copy as a tensor of the same shape. Gradients flow back from it.
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.node.apply_op1(ToTensor(self.clone()))
    }

    /// Returns the dimensions, `[N, H, W, C]` or `[N, F]`.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the values, with the last dimension fastest.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the map's position in candle's graph.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Tensor {
        &self.node
    }

    /// Returns whether the map depends on a variable, so that its gradient is computed.
    pub fn is_tracked(&self) -> bool {
        self.node.track_op()
    }

    /// Returns the same values as `[N, H · W · C]` without a copy. Gradients flow through.
    #[must_use]
    pub fn flatten(&self) -> Self {
        let (batch, rest) = self.dims.split_at(1);
        Self { dims: vec![batch[0], rest.iter().product()], ..self.clone() }
    }

    /// Returns the number of images, height, width and channels.
    pub(crate) fn images(&self, op: &str) -> Result<[usize; 4]> {
        self.dims[..].try_into().map_err(|_| Error::Msg(format!("{op}: expected [N, H, W, C], found {:?}", self.dims)))
    }

    /// Returns a buffer for the gradient if it is needed.
    pub(crate) fn new_gradient(&self) -> Option<Buffer<f32>> {
        self.is_tracked().then(|| Buffer::new(self.values.len()))
    }

    /// Passes the gradient, or the part of one user, to the op that made the map.
    pub(crate) fn put_gradient(&self, gradient: Buffer<f32>) -> Result<()> {
        put(&self.gradient, self.values.len(), gradient)
    }
}

fn put(slot: &Slot, len: usize, gradient: Buffer<f32>) -> Result<()> {
    if gradient.len() != len {
        return Err(Error::Msg(format!("feature map: {} values in a gradient, expected {len}", gradient.len())));
    }
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match slot.as_mut() {
        None => *slot = Some(gradient),
        Some(sum) => {
            sum.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(sum, part)| {
                for (s, p) in sum.iter_mut().zip(part) {
                    *s += p;
                }
            });
        }
    }
    Ok(())
}

fn take(slot: &Slot, op: &str) -> Result<Buffer<f32>> {
    let gradient = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    gradient.ok_or_else(|| Error::Msg(format!("{op}: no gradient arrived; is this a node of two graphs?")))
}

/// The storage of a node for candle: one element without meaning.
fn nothing() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), 1.into())
}

/// The gradient of a node for candle, if candle visits it.
fn node_gradient(node: &Tensor) -> Result<Option<Tensor>> {
    node.track_op().then(|| node.zeros_like()).transpose()
}

/// The backward half of an operation on feature maps, with what it stored in the forward pass.
pub(crate) trait Operation: Send + Sync + 'static {
    /// The name in errors.
    const NAME: &'static str;

    /// Computes gradients from the gradient of the result. Those of tracked input maps are passed
    /// on by [`FeatureMap::put_gradient`]; those of tracked parameters are returned in the
    /// parameters' order.
    fn backward(&self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]>;
}

/// Creates the result of an operation: `values` of shape `dims`, computed from `input`, optionally
/// a second map, and up to two parameters. `operation` is only stored if one of them is tracked.
pub(crate) fn record<O: Operation>(
    operation: O,
    values: Buffer<f32>,
    dims: &[usize],
    input: &FeatureMap,
    second: Option<&FeatureMap>,
    parameters: &[&Tensor],
) -> Result<FeatureMap> {
    let map = FeatureMap::new(values, dims)?;
    let inputs = match second {
        // A custom op has at most three arguments, so the nodes of two maps are joined first.
        Some(second) if second.is_tracked() => input.node.apply_op2(&second.node, Join)?,
        _ => input.node.clone(),
    };
    if !inputs.track_op() && parameters.iter().all(|p| !p.track_op()) {
        return Ok(map);
    }
    let recorded = Recorded { operation, gradient: Arc::clone(&map.gradient) };
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
    operation: O,
    gradient: Slot,
}

impl<O: Operation> Recorded<O> {
    fn run(&self, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        self.operation.backward(take(&self.gradient, O::NAME)?, parameters)
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

struct FromTensor(Slot);

impl CustomOp1 for FromTensor {
    fn name(&self) -> &'static str {
        "feature-map-from-tensor"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(nothing())
    }

    fn bwd(&self, tensor: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let gradient = take(&self.0, "from_tensor")?;
        Tensor::from_slice(&gradient, tensor.shape(), &Device::Cpu).map(Some)
    }
}

struct ToTensor(FeatureMap);

impl CustomOp1 for ToTensor {
    fn name(&self) -> &'static str {
        "feature-map-to-tensor"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.0.values.to_vec()), self.0.dims.as_slice().into()))
    }

    fn bwd(&self, node: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.put_gradient(with_values(gradient, |values| Ok(Buffer::copied(values)))?)?;
        node_gradient(node)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn var(values: &[f32]) -> Var {
        Var::from_tensor(&Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn tensors_go_in_and_out_with_their_gradients() {
        let x = var(&[1.0, -2.0, 3.0]);
        let squared = (x.as_tensor() * x.as_tensor()).unwrap();
        let map = FeatureMap::from_tensor(&squared).unwrap();
        assert_eq!((map.dims(), map.values()), (&[1, 3][..], &[1.0, 4.0, 9.0][..]));
        // The map has two users, whose gradients are added.
        let (once, again) = (map.to_tensor().unwrap(), map.flatten().to_tensor().unwrap());
        let loss = (once.sum_all().unwrap() + again.affine(2.0, 0.0).unwrap().sum_all().unwrap()).unwrap();
        for _ in 0..2 {
            // A graph can be visited again, since every slot is empty afterwards.
            let gradients = loss.backward().unwrap();
            assert_eq!(gradients.get(&x).unwrap().to_vec2::<f32>().unwrap(), [[6.0, -12.0, 18.0]]);
        }
    }

    #[test]
    fn a_map_without_variables_is_not_tracked() {
        let map = FeatureMap::from_tensor(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        assert!(!map.is_tracked() && map.new_gradient().is_none());
        assert!(!map.to_tensor().unwrap().track_op());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(FeatureMap::new(Buffer::new(6), &[2, 3]).is_ok());
        assert!(FeatureMap::new(Buffer::new(6), &[2, 4]).is_err());
        assert!(FeatureMap::new(Buffer::new(6), &[1, 2, 3]).is_err());
        assert!(FeatureMap::new(Buffer::new(6), &[2, 3]).unwrap().put_gradient(Buffer::new(5)).is_err());
    }
}
