//! Networks in model files: their shape as a setting, their weights as tensors.

use serde::{Deserialize, Serialize};

use crate::model::tensors::{ModelFileError, Tensors};
use crate::nn::activation::Activation;
use crate::nn::conv::{Conv1d, ConvShape, Upsample};
use crate::nn::dense::Dense;
use crate::nn::net::{Layer, Net, Stage};

/// The shape of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
enum Shape {
    Dense {
        inputs: usize,
        outputs: usize,
        activation: Activation,
    },
    Conv1d {
        shape: ConvShape,
        activation: Activation,
    },
    Upsample {
        shape: Upsample,
        activation: Activation,
    },
}

/// Numbers that a stage has at most on either side, and steps, channels, filters or a kernel: whoever asks for more memory has damaged the file.
const SIDE_MAX: usize = 1 << 20;

impl Shape {
    /// Whether it asks for no more memory than any model has.
    fn is_bounded(self) -> bool {
        let product = |numbers: &[usize]| {
            let product = numbers
                .iter()
                .try_fold(1_usize, |product, &number| product.checked_mul(number));
            product.is_some_and(|product| product <= SIDE_MAX)
        };
        match self {
            Self::Dense {
                inputs, outputs, ..
            } => product(&[inputs]) && product(&[outputs]),
            Self::Conv1d { shape, .. } => {
                let (steps, stride) = (shape.steps, shape.stride);
                let sides = [
                    [steps, shape.channels],
                    [steps, shape.filters],
                    [shape.kernel, shape.channels],
                ];
                stride > 0 && steps > 0 && sides.iter().all(|side| product(side))
            }
            Self::Upsample { shape, .. } => {
                product(&[shape.to, shape.channels]) && 0 < shape.from && shape.from <= shape.to
            }
        }
    }
}

/// Writes `net` under `prefix`.
pub fn put_net(prefix: &str, net: &Net, to: &mut Tensors) {
    let mut shapes = Vec::with_capacity(net.stages.len());
    for (at, stage) in net.stages.iter().enumerate() {
        let activation = stage.activation;
        let (weight, bias) = match &stage.layer {
            Layer::Dense(dense) => {
                let (inputs, outputs) = dense.weight.dim();
                shapes.push(Shape::Dense {
                    inputs,
                    outputs,
                    activation,
                });
                (&dense.weight, &dense.bias)
            }
            Layer::Conv1d(conv) => {
                shapes.push(Shape::Conv1d {
                    shape: conv.shape,
                    activation,
                });
                (&conv.weight, &conv.bias)
            }
            Layer::Upsample(shape) => {
                shapes.push(Shape::Upsample {
                    shape: *shape,
                    activation,
                });
                continue;
            }
        };
        to.put2(&format!("{prefix}{at}.weight"), weight.view());
        to.put1(&format!("{prefix}{at}.bias"), bias.view());
    }
    to.set(&format!("{prefix}shape"), &shapes);
}

/// Reads what [`put_net`] wrote, and checks that the shapes fit each other.
pub fn get_net(prefix: &str, from: &Tensors) -> Result<Net, ModelFileError> {
    let shapes: Vec<Shape> = from.get(&format!("{prefix}shape"))?;
    let mut stages: Vec<Stage> = Vec::with_capacity(shapes.len());
    for (at, shape) in shapes.into_iter().enumerate() {
        if !shape.is_bounded() {
            return Err(ModelFileError::Invalid(format!(
                "stage {at} of `{prefix}` is too large"
            )));
        }
        let weights = || -> Result<_, ModelFileError> {
            let weight = from.get2(&format!("{prefix}{at}.weight"))?;
            Ok((weight, from.get1(&format!("{prefix}{at}.bias"))?))
        };
        let (layer, activation, fits) = match shape {
            Shape::Dense {
                inputs,
                outputs,
                activation,
            } => {
                let (weight, bias) = weights()?;
                let fits = weight.dim() == (inputs, outputs) && bias.len() == outputs;
                (Layer::Dense(Dense { weight, bias }), activation, fits)
            }
            Shape::Conv1d { shape, activation } => {
                let (weight, bias) = weights()?;
                let patch = (shape.kernel * shape.channels, shape.filters);
                let fits = weight.dim() == patch && bias.len() == shape.filters && shape.stride > 0;
                (
                    Layer::Conv1d(Conv1d {
                        shape,
                        weight,
                        bias,
                    }),
                    activation,
                    fits,
                )
            }
            Shape::Upsample { shape, activation } => {
                (Layer::Upsample(shape), activation, shape.from <= shape.to)
            }
        };
        let follows = stages
            .last()
            .is_none_or(|last| last.layer.outputs() == layer.inputs());
        if !(fits && follows) {
            return Err(ModelFileError::Invalid(format!(
                "stage {at} of `{prefix}` does not fit"
            )));
        }
        stages.push(Stage { layer, activation });
    }
    if stages.is_empty() {
        return Err(ModelFileError::Invalid(format!("`{prefix}` has no stages")));
    }
    Ok(Net { stages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn a_net_survives_and_a_misfit_is_refused() {
        let rng = &mut Seed(1).rng();
        let shape = ConvShape {
            steps: 4,
            channels: 1,
            filters: 2,
            kernel: 3,
            stride: 2,
        };
        let stage = |layer| Stage {
            layer,
            activation: Activation::Gelu,
        };
        let net = Net {
            stages: vec![
                stage(Layer::Conv1d(Conv1d::init(shape, 1.0, rng))),
                stage(Layer::Upsample(Upsample {
                    from: 2,
                    to: 4,
                    channels: 2,
                })),
                stage(Layer::Dense(Dense::init(8, 3, 1.0, rng))),
            ],
        };
        let mut file = Tensors::default();
        put_net("x.", &net, &mut file);
        assert_eq!(get_net("x.", &file).unwrap(), net);
        let short = Dense::init(7, 3, 1.0, rng).weight;
        file.put2("x.2.weight", short.view());
        assert!(get_net("x.", &file).is_err());
    }
}
