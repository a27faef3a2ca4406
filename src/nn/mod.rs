//! Layers and gradients, ours, on ndarray in f32: small modules without hidden state.
//!
//! A layer holds weights and nothing else. What the backward pass needs is in a [`net::Tape`] that the caller owns, so that an
//! epoch allocates nothing; a gradient has the type of what it is the gradient of ([`net::Net`]), so that the optimiser, clipping,
//! averaging and the finite-difference checks are written once, over [`Params`]. Pure arithmetic: all randomness comes from a
//! [`crate::seed::Seed`], and no result depends on the batch in which a row travels.

pub mod activation;
pub mod batches;
#[cfg(test)]
pub mod check;
pub mod conv;
pub mod dense;
pub mod loss;
pub mod math;
pub mod net;
pub mod noise;
pub mod optim;
pub mod spectral;

/// Everything with parameters: how the optimiser sees it.
pub trait Params {
    /// All parameters, tensor by tensor, always in the same order. The flag says whether weight decay applies (weights, not biases).
    fn tensors(&self) -> Vec<(&[f32], bool)>;

    /// The same tensors, to change.
    fn tensors_mut(&mut self) -> Vec<&mut [f32]>;

    /// Sets every parameter to 0: for gradients, before they are added up.
    fn clear(&mut self) {
        for tensor in self.tensors_mut() {
            tensor.fill(0.0);
        }
    }

    /// Whether every parameter is a number.
    fn is_finite(&self) -> bool {
        self.tensors()
            .iter()
            .all(|(tensor, _)| tensor.iter().all(|value| value.is_finite()))
    }
}

impl Params for ndarray::Array1<f32> {
    fn tensors(&self) -> Vec<(&[f32], bool)> {
        vec![(self.as_slice().unwrap_or_default(), false)]
    }

    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.as_slice_mut().unwrap_or_default()]
    }
}

/// Two modules that are trained as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair<A, B>(pub A, pub B);

impl<A: Params, B: Params> Params for Pair<A, B> {
    fn tensors(&self) -> Vec<(&[f32], bool)> {
        let mut all = self.0.tensors();
        all.extend(self.1.tensors());
        all
    }

    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        let mut all = self.0.tensors_mut();
        all.extend(self.1.tensors_mut());
        all
    }
}
