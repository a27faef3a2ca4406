//! Activation functions with their first and second derivatives, each a loop that vectorises.

use ndarray::{ArrayView2, ArrayViewMut2, Zip};
use serde::{Deserialize, Serialize};

use super::math::{sigmoid, tanh};

/// What follows a layer, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    Identity,
    /// max(0, x).
    Relu,
    /// x above 0, [`LEAK`] · x below (Maas, Hannun and Ng, 2013).
    LeakyRelu,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x · Φ(x) in its tanh form (Hendrycks and Gimpel, arXiv:1606.08415).
    Gelu,
}

/// Slope of the leaky ReLU below 0.
pub const LEAK: f32 = 0.1;

/// √(2 / π), of the tanh form of GELU.
const GELU_SCALE: f32 = 0.797_884_6;
/// The cubic coefficient of the tanh form of GELU.
const GELU_CUBIC: f32 = 0.044_715;

impl Activation {
    /// out = f(z).
    pub fn apply(self, z: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Identity => map(z, out, |x| x),
            Self::Relu => map(z, out, |x| if x > 0.0 { x } else { 0.0 }),
            Self::LeakyRelu => map(z, out, |x| if x > 0.0 { x } else { LEAK * x }),
            Self::Tanh => map(z, out, tanh),
            Self::Sigmoid => map(z, out, sigmoid),
            Self::Gelu => map(z, out, |x| 0.5 * x * (1.0 + tanh(gelu_inner(x)))),
        }
    }

    /// z = f(z).
    pub fn apply_in_place(self, mut z: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Identity => {}
            Self::Relu => z.mapv_inplace(|x| if x > 0.0 { x } else { 0.0 }),
            Self::LeakyRelu => z.mapv_inplace(|x| if x > 0.0 { x } else { LEAK * x }),
            Self::Tanh => z.mapv_inplace(tanh),
            Self::Sigmoid => z.mapv_inplace(sigmoid),
            Self::Gelu => z.mapv_inplace(|x| 0.5 * x * (1.0 + tanh(gelu_inner(x)))),
        }
    }

    /// grad *= f'(z), where `post` = f(z).
    pub fn chain(
        self,
        z: ArrayView2<'_, f32>,
        post: ArrayView2<'_, f32>,
        grad: ArrayViewMut2<'_, f32>,
    ) {
        match self {
            Self::Identity => {}
            Self::Relu => times(z, grad, |x| if x > 0.0 { 1.0 } else { 0.0 }),
            Self::LeakyRelu => times(z, grad, |x| if x > 0.0 { 1.0 } else { LEAK }),
            Self::Tanh => times(post, grad, |y| 1.0 - y * y),
            Self::Sigmoid => times(post, grad, |y| y * (1.0 - y)),
            Self::Gelu => times(z, grad, gelu_slope),
        }
    }

    /// grad *= f''(z), where `post` = f(z): for penalties on derivatives.
    pub fn chain_second(
        self,
        z: ArrayView2<'_, f32>,
        post: ArrayView2<'_, f32>,
        mut grad: ArrayViewMut2<'_, f32>,
    ) {
        match self {
            Self::Identity | Self::Relu | Self::LeakyRelu => grad.fill(0.0),
            Self::Tanh => times(post, grad, |y| -2.0 * y * (1.0 - y * y)),
            Self::Sigmoid => times(post, grad, |y| y * (1.0 - y) * (1.0 - 2.0 * y)),
            Self::Gelu => times(z, grad, gelu_bend),
        }
    }

    /// Factor on the standard deviation of initial weights, so that signals keep their size: √2 for the ReLU family (He et al.,
    /// ICCV 2015), 1 otherwise (Glorot and Bengio, AISTATS 2010).
    #[must_use]
    pub fn gain(self) -> f32 {
        match self {
            Self::Relu | Self::LeakyRelu | Self::Gelu => std::f32::consts::SQRT_2,
            Self::Identity | Self::Tanh | Self::Sigmoid => 1.0,
        }
    }
}

#[inline]
fn map(z: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>, f: impl Fn(f32) -> f32) {
    Zip::from(out).and(z).for_each(|out, &z| *out = f(z));
}

#[inline]
fn times(at: ArrayView2<'_, f32>, grad: ArrayViewMut2<'_, f32>, slope: impl Fn(f32) -> f32) {
    Zip::from(grad)
        .and(at)
        .for_each(|grad, &at| *grad *= slope(at));
}

#[inline]
fn gelu_inner(x: f32) -> f32 {
    GELU_SCALE * (x + GELU_CUBIC * x * x * x)
}

/// With t = tanh(u(x)): ½ (1 + t) + ½ x (1 − t²) u'.
#[inline]
fn gelu_slope(x: f32) -> f32 {
    let t = tanh(gelu_inner(x));
    let du = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
}

/// (1 − t²) u' + ½ x (1 − t²) (u'' − 2 t u'²).
#[inline]
fn gelu_bend(x: f32) -> f32 {
    let t = tanh(gelu_inner(x));
    let du = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
    let ddu = GELU_SCALE * 6.0 * GELU_CUBIC * x;
    (1.0 - t * t) * (du + 0.5 * x * (ddu - 2.0 * t * du * du))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    const ALL: [Activation; 6] = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
    ];

    fn value(of: Activation, x: f32) -> f64 {
        let mut out = Array2::zeros((1, 1));
        of.apply(array![[x]].view(), out.view_mut());
        f64::from(out[[0, 0]])
    }

    fn slope(of: Activation, x: f32) -> f64 {
        let mut grad = array![[1.0_f32]];
        let post = array![[value(of, x) as f32]];
        of.chain(array![[x]].view(), post.view(), grad.view_mut());
        f64::from(grad[[0, 0]])
    }

    fn bend(of: Activation, x: f32) -> f64 {
        let mut grad = array![[1.0_f32]];
        let post = array![[value(of, x) as f32]];
        of.chain_second(array![[x]].view(), post.view(), grad.view_mut());
        f64::from(grad[[0, 0]])
    }

    #[test]
    fn hand_worked_values() {
        assert!((value(Activation::Relu, -2.0)).abs() < 1e-7);
        assert!((value(Activation::LeakyRelu, -2.0) + 0.2).abs() < 1e-7);
        assert!((value(Activation::Sigmoid, 0.0) - 0.5).abs() < 1e-7);
        assert!((value(Activation::Tanh, 1.0) - 0.761_594).abs() < 1e-6);
        assert!((value(Activation::Gelu, 1.0) - 0.841_192).abs() < 1e-5);
    }

    #[test]
    fn slopes_and_bends_are_the_differences() {
        let h = 0.02_f32;
        for of in ALL {
            for x in [-2.1_f32, -0.7, -0.2, 0.3, 1.1, 2.4] {
                let rise = |f: &dyn Fn(Activation, f32) -> f64| {
                    (8.0 * (f(of, x + h) - f(of, x - h))
                        - (f(of, x + 2.0 * h) - f(of, x - 2.0 * h)))
                        / (12.0 * f64::from(h))
                };
                assert!((slope(of, x) - rise(&value)).abs() < 1e-4, "{of:?}'({x})");
                assert!((bend(of, x) - rise(&slope)).abs() < 1e-4, "{of:?}''({x})");
            }
        }
    }

    #[test]
    fn in_place_is_the_same() {
        for of in ALL {
            let z = array![[-1.5_f32, 0.5], [0.1, 2.5]];
            let mut out = Array2::zeros((2, 2));
            of.apply(z.view(), out.view_mut());
            let mut same = z;
            of.apply_in_place(same.view_mut());
            assert_eq!(out, same);
        }
    }
}
