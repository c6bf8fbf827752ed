//! Activations outside of candle's storage, with candle's autograd as the scheduler.
//!
//! # Why
//! candle allocates every activation anew and adds every gradient to a fresh tensor of zeros: four passes over memory
//! for each. Beside fast kernels that is a good part of a training step. Here both live in a
//! [`Buffer`], which comes from a pool and goes back there, and a gradient is written once.
//!
//! # How
//! A [`FeatureMap`] is three things:
//!
//! - its **values**, a buffer that all its clones share;
//! - a **slot** for its gradient, which is empty but for a moment of the backward pass;
//! - its **node**: a candle tensor of one element, whose value means nothing. It is the map's place in candle's graph.
//!
//! An operation on feature maps is a candle custom op on their nodes and on the tensors of its parameters. Its forward
//! pass computes values into a new buffer and gives candle one element, the node of the result; the buffers that the
//! backward pass will need are kept in the op, which candle keeps in the graph. When candle's backward pass comes to
//! that op, all users of the result have had their turn, so the result's slot holds its whole gradient. The op takes
//! it out, puts the gradients of its inputs into their slots (adding to what is there, where a map has several users),
//! and returns a meaningless 0 for every node, so that candle goes on. Gradients of parameters are tensors as ever and
//! end in candle's `GradStore`, where every optimiser for candle finds them.
//!
//! What does not lead to a variable is not tracked: its gradient is not computed, and nothing is kept for it. That is
//! all there is to evaluation, where no parameter is tracked.
//!
//! candle walks the graph in an order that depends on the graph alone, so gradients are added in the same order in
//! every run. A graph can be walked again, but not by two threads at once.
//!
//! [`FeatureMap::from_tensor`] and [`FeatureMap::to_tensor`] are differentiable: candle's own operations can stand
//! before, between and behind those of [`ops`](crate::ops).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::Buffer;
use rayon::prelude::*;

use crate::ops::with_values;

/// Values that one task adds.
const CHUNK: usize = 16 * 1024;

/// `f32` activations of a batch, [N, H, W, C] or [N, F], and their place in candle's graph. Clones share everything.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use cifar_kernels::{Activation, Buffer};
/// use cifar_model::{FeatureMap, ops};
///
/// let images = FeatureMap::new(Buffer::copied(&[1.0, 2.0, -3.0, 4.0]), &[1, 2, 2, 1])?;
/// let weight = Var::from_tensor(&Tensor::full(0.5f32, (1, 1, 1, 1), &Device::Cpu)?)?;
/// let halved = ops::activation(&ops::conv2d(&images, weight.as_tensor(), 1, 0)?, Activation::Relu)?;
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

/// Where a gradient waits for the op that made its map.
type Slot = Arc<Mutex<Option<Buffer<f32>>>>;

impl FeatureMap {
    /// Values that no gradient is asked of, such as a batch of images.
    ///
    /// # Errors
    /// If `dims` has neither two nor four dimensions or does not fit the number of values.
    pub fn new(values: Buffer<f32>, dims: &[usize]) -> Result<Self> {
        let node = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        Self { dims: dims.to_vec(), values: Arc::new(values), gradient: Slot::default(), node }.checked()
    }

    fn checked(self) -> Result<Self> {
        if !matches!(self.dims.len(), 2 | 4) || self.dims.iter().product::<usize>() != self.values.len() {
            let (dims, len) = (&self.dims, self.values.len());
            return Err(Error::Msg(format!("feature map: {len} values are no [N, H, W, C] or [N, F] of {dims:?}")));
        }
        Ok(self)
    }

    /// A copy of a tensor [N, H, W, C] or [N, F]; gradients flow back to it.
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

    /// A copy as a tensor of the same shape; gradients flow back from it.
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.node.apply_op1(ToTensor(self.clone()))
    }

    /// [N, H, W, C] or [N, F].
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The values, the last dimension fastest.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether a gradient of it will be computed: some variable lies behind it.
    pub fn is_tracked(&self) -> bool {
        self.node.track_op()
    }

    /// The same values as [N, H · W · C]. Nothing is copied, and gradients flow through.
    #[must_use]
    pub fn flatten(&self) -> Self {
        let (batch, rest) = self.dims.split_at(1);
        Self { dims: vec![batch[0], rest.iter().product()], ..self.clone() }
    }

    /// Batch, height, width and channels.
    pub(crate) fn images(&self, op: &str) -> Result<[usize; 4]> {
        self.dims[..].try_into().map_err(|_| Error::Msg(format!("{op}: expected [N, H, W, C], found {:?}", self.dims)))
    }

    /// A buffer for its gradient, if somebody needs that.
    pub(crate) fn new_gradient(&self) -> Option<Buffer<f32>> {
        self.is_tracked().then(|| Buffer::new(self.values.len()))
    }

    /// Hands its gradient, or one user's part of it, to the op that made it.
    pub(crate) fn put_gradient(&self, gradient: Buffer<f32>) -> Result<()> {
        put(&self.gradient, self.values.len(), gradient)
    }
}

fn put(slot: &Slot, len: usize, gradient: Buffer<f32>) -> Result<()> {
    if gradient.len() != len {
        return Err(Error::Msg(format!("feature map: {} values are no gradient of {len}", gradient.len())));
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
    gradient.ok_or_else(|| Error::Msg(format!("{op}: no gradient has come back; is this a node of two graphs?")))
}

/// What candle is given for a node: one element that means nothing.
fn nothing() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), 1.into())
}

/// What candle is given as the gradient of a node, if it walks there at all.
fn node_gradient(node: &Tensor) -> Result<Option<Tensor>> {
    node.track_op().then(|| node.zeros_like()).transpose()
}

/// The backward half of an operation on feature maps: what it kept of the forward pass.
pub(crate) trait Operation: Send + Sync + 'static {
    /// Its name in errors.
    const NAME: &'static str;

    /// Given the gradient of the result, puts those of the input maps that are tracked where they belong
    /// ([`FeatureMap::put_gradient`]) and returns those of the parameters that are, in the parameters' order.
    fn backward(&self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]>;
}

/// The result of an operation: `values` of shape `dims`, made of `input`, perhaps of a second map, and of up to two
/// parameters. `operation` is kept only if one of them is tracked.
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
        // A custom op has three arguments at most, so the nodes of two maps are joined first.
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
        Ok((node_gradient(inputs)?, of_a))
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
        Ok((node_gradient(inputs)?, of_a, of_b))
    }
}

/// Makes one node of two.
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
        // Two users of one map: their gradients are added.
        let (once, again) = (map.to_tensor().unwrap(), map.flatten().to_tensor().unwrap());
        let loss = (once.sum_all().unwrap() + again.affine(2.0, 0.0).unwrap().sum_all().unwrap()).unwrap();
        for _ in 0..2 {
            // A graph can be walked again: every slot is empty afterwards.
            let gradients = loss.backward().unwrap();
            assert_eq!(gradients.get(&x).unwrap().to_vec2::<f32>().unwrap(), [[6.0, -12.0, 18.0]]);
        }
    }

    #[test]
    fn what_leads_to_no_variable_is_not_tracked() {
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
