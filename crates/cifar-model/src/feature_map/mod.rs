//! Activations outside of candle's storage, with candle's autograd as the scheduler.
//!
//! # Motivation
//! candle allocates memory for every activation and adds every gradient to a new tensor of zeros:
//! four passes over memory for each. With fast kernels this is a considerable part of a training
//! step. Here both are in a [`Buffer`], whose memory is used again, and a gradient is
//! written once.
//!
//! # Design
//! A [`FeatureMap`] consists of three parts:
//!
//! - its **values**, a buffer that all its clones share: `f32`, or bf16 in the blocked layout of
//!   [`cifar_kernels::bf16`];
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
//! the same order in every run. Each operation of [`ops`] releases what it stored when it is visited,
//! so a graph has one backward pass.
//!
//! [`FeatureMap::from_tensor`] and [`FeatureMap::to_tensor`] are differentiable: candle's own
//! operations can be used before, between and after those of [`ops`].

mod graph;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Tensor};
use cifar_kernels::Buffer;
use cifar_kernels::bf16::{Bf16, BlockedShape};

use graph::{FromTensor, ToTensor};
pub(crate) use graph::{Operation, record};

use crate::Precision;
use crate::number::{Number, Values, blocked_shape};
use crate::ops::{self, with_values};

/// Activations of a batch, `[N, H, W, C]` or `[N, F]`, with a node in candle's graph. Clones share
/// everything.
///
/// The values are `f32`, or bf16 after [`ops::to_bf16`]. Layers compute products
/// of this map, and of maps computed from it, in its precision ([`FeatureMap::with_precision`]).
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
/// assert_eq!(halved.values()?, [0.5, 1.0, 0.0, 2.0]);
/// let gradients = halved.to_tensor()?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&weight).unwrap().flatten_all()?.to_vec1::<f32>()?, [7.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FeatureMap {
    dims: Vec<usize>,
    /// Number of values, also where they are not stored.
    len: usize,
    values: Arc<Values>,
    precision: Precision,
    gradient: Slot,
    node: Tensor,
}

/// Holds a gradient until the op that made the map takes it.
type Slot = Arc<Mutex<Option<Values>>>;

impl FeatureMap {
    /// Creates a map that needs no gradient, such as a batch of images.
    ///
    /// # Errors
    /// If `dims` does not have two or four dimensions, or their product is not the number of
    /// values.
    pub fn new(values: Buffer<f32>, dims: &[usize]) -> Result<Self> {
        Self::of(values, dims)
    }

    /// Creates a map of either type that needs no gradient.
    pub(crate) fn of<N: Number>(values: Buffer<N>, dims: &[usize]) -> Result<Self> {
        if !matches!(dims.len(), 2 | 4) || N::len(dims)? != values.len() {
            return Err(Error::Msg(format!(
                "feature map: {} values do not fit {dims:?}; allowed is [N, H, W, C] or [N, F]",
                values.len()
            )));
        }
        Ok(Self {
            dims: dims.to_vec(),
            len: values.len(),
            values: Arc::new(N::wrap(values)),
            precision: Precision::F32,
            gradient: Slot::default(),
            node: Tensor::zeros(1, DType::F32, &Device::Cpu)?,
        })
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

    /// Returns a copy as an `f32` tensor of the same shape. Gradients flow back from it.
    ///
    /// # Errors
    /// If candle or a kernel fails.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let map = ops::to_f32(self)?;
        let node = map.node.clone();
        node.apply_op1(ToTensor(map))
    }

    /// Returns the dimensions, `[N, H, W, C]` or `[N, F]`.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the values, with the last dimension fastest.
    ///
    /// # Errors
    /// If they are in bf16; [`ops::to_f32`] converts them.
    pub fn values(&self) -> Result<&[f32]> {
        match &*self.values {
            Values::F32(values) => Ok(values),
            Values::Bf16(_) => Err(Error::Msg("feature map: the values are in bf16; convert them by to_f32".into())),
        }
    }

    /// Returns whether the values are in bf16.
    pub fn is_bf16(&self) -> bool {
        matches!(&*self.values, Values::Bf16(_))
    }

    /// Returns the values in the blocked layout of [`cifar_kernels::bf16`].
    ///
    /// # Errors
    /// If they are in `f32`; [`ops::to_bf16`] converts them.
    pub(crate) fn blocked(&self) -> Result<&[Bf16]> {
        match &*self.values {
            Values::Bf16(values) => Ok(values),
            Values::F32(_) => Err(Error::Msg("feature map: the values are in f32; convert them by to_bf16".into())),
        }
    }

    /// Returns the dimensions for the kernels of [`cifar_kernels::bf16`].
    pub(crate) fn blocked_shape(&self) -> Result<BlockedShape> {
        blocked_shape(&self.dims)
    }

    /// Returns the same map with another precision: layers compute products of it, and of maps
    /// computed from it, in `precision`.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision: precision.resolved(), ..self }
    }

    /// Returns the precision of products: [`Precision::F32`] or [`Precision::Bf16`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns the map without its values, for operations whose backward pass does not read them.
    pub(crate) fn without_values(&self) -> Self {
        let values = match &*self.values {
            Values::F32(_) => Values::F32(Buffer::new(0)),
            Values::Bf16(_) => Values::Bf16(Buffer::new(0)),
        };
        Self { values: Arc::new(values), ..self.clone() }
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

    /// Returns the same values as `[N, H · W · C]` in `f32`, without a copy if they are in `f32`
    /// already. Gradients flow through.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn flatten(&self) -> Result<Self> {
        let (batch, rest) = self.dims.split_at(1);
        Ok(Self { dims: vec![batch[0], rest.iter().product()], ..ops::to_f32(self)? })
    }

    /// Returns the number of images, height, width and channels.
    pub(crate) fn images(&self, op: &str) -> Result<[usize; 4]> {
        self.dims[..].try_into().map_err(|_| Error::Msg(format!("{op}: expected [N, H, W, C], found {:?}", self.dims)))
    }

    /// Returns a buffer for the gradient if it is needed.
    pub(crate) fn new_gradient<N: Number>(&self) -> Option<Buffer<N>> {
        self.is_tracked().then(|| Buffer::new(self.len))
    }

    /// Passes the gradient, or the part of one user, to the op that made the map.
    pub(crate) fn put_gradient<N: Number>(&self, gradient: Buffer<N>) -> Result<()> {
        if gradient.len() != self.len {
            return Err(Error::Msg(format!(
                "feature map: {} values in a gradient, expected {}",
                gradient.len(),
                self.len
            )));
        }
        let mut slot = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(match slot.take() {
            None => N::wrap(gradient),
            Some(sum) => N::wrap(N::sum(N::unwrap(sum)?, &gradient)),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use cifar_kernels::Activation;

    use super::*;

    fn var(values: &[f32]) -> Var {
        Var::from_tensor(&Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn tensors_go_in_and_out_with_their_gradients() {
        let x = var(&[1.0, -2.0, 3.0]);
        let squared = (x.as_tensor() * x.as_tensor()).unwrap();
        let map = FeatureMap::from_tensor(&squared).unwrap();
        assert_eq!((map.dims(), map.values().unwrap()), (&[1, 3][..], &[1.0, 4.0, 9.0][..]));
        // The map has two users, whose gradients are added.
        let (once, again) = (map.to_tensor().unwrap(), map.flatten().unwrap().to_tensor().unwrap());
        let loss = (once.sum_all().unwrap() + again.affine(2.0, 0.0).unwrap().sum_all().unwrap()).unwrap();
        let gradients = loss.backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec2::<f32>().unwrap(), [[6.0, -12.0, 18.0]]);
    }

    #[test]
    fn the_backward_pass_releases_stored_values() {
        let x = var(&[1.0, -2.0, 3.0]);
        let map = FeatureMap::from_tensor(&x).unwrap();
        let stored = Arc::downgrade(&map.values);
        let loss = ops::activation(&map, Activation::Gelu).unwrap().to_tensor().unwrap().sum_all().unwrap();
        drop(map);
        assert!(stored.upgrade().is_some());
        assert!(loss.backward().is_ok());
        assert!(stored.upgrade().is_none());
        let again = loss.backward().unwrap_err().to_string();
        assert!(again.contains("activation: the backward pass of this graph has already run"), "{again}");
    }

    #[test]
    fn a_map_without_variables_is_not_tracked() {
        let map = FeatureMap::from_tensor(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        assert!(!map.is_tracked() && map.new_gradient::<f32>().is_none());
        assert!(!map.to_tensor().unwrap().track_op());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(FeatureMap::new(Buffer::new(6), &[2, 3]).is_ok());
        assert!(FeatureMap::new(Buffer::new(6), &[2, 4]).is_err());
        assert!(FeatureMap::new(Buffer::new(6), &[1, 2, 3]).is_err());
        assert!(FeatureMap::new(Buffer::new(6), &[2, 3]).unwrap().put_gradient(Buffer::<f32>::new(5)).is_err());
    }
}
