//! Model files that were damaged, or made by someone who knows how to seal them: none is taken up that judges otherwise than it says, none panics,
//! none asks for memory that it does not have. Seeds are fixed; `make fuzz` has ten times as many.

#![expect(clippy::print_stdout, reason = "a long run shows its figures")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array2, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;
use crate::model::testing::{correlated, fit_data, of_kind};
use crate::model::{KINDS, Unwatched};
use crate::seed::Seed;
use crate::stats::calibration::Calibration;

const COLUMNS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A small model of each kind, with all that a file may have.
fn models() -> Vec<TrainedModel> {
    let small = |kind: &str| {
        of_kind(kind).with(|spec| {
            spec.fixed.trees = 4;
            spec.knn.reference_rows = 40;
            spec.network.epochs = 2;
            spec.network.hidden = vec![5];
            spec.network.code = 2;
            spec.vae.samples = 2;
        })
    };
    let mut data = fit_data(6);
    data.train = data.train.slice_axis(Axis(0), (..120).into()).to_owned();
    let scores: Vec<f64> = (0..400).map(|i| (f64::from(i) * 0.017).exp()).collect();
    let mut models: Vec<TrainedModel> = KINDS
        .names()
        .into_iter()
        .map(|kind| {
            let spec = small(kind);
            let model = KINDS.fit(&spec, &data, Seed(3), &mut Unwatched).unwrap();
            let simple = TrainedModel::simple(7, &COLUMNS, 1, Calibration::fit(&scores));
            TrainedModel {
                card: Card {
                    spec,
                    ..simple.card.clone()
                },
                model,
                ..simple
            }
        })
        .collect();
    let validation = correlated(200, 6, Seed(9));
    models[0].judges.sensors = Some(Sensors::fit(
        data.train.view(),
        validation.view(),
        (0.0, 10.0),
    ));
    let windows = Array2::from_shape_fn((3, 6), |(i, j)| (i + j) as f64);
    models[1].reservoir = Reservoir::of(&["k", "l", "m"].map(str::to_owned), windows.view());
    let last = models.len() - 1;
    models[last].types = [vec![0, 2, 3], vec![1, 4, 5]].map(of_type).into();
    models
}

/// Keys that send some of the columns.
fn of_type(columns: Vec<usize>) -> KeyType {
    let names: Vec<&str> = columns.iter().map(|&column| COLUMNS[column]).collect();
    let scores: Vec<f64> = (0..400)
        .map(|i| f64::from(i) * 0.01 * (columns[0] + 1) as f64)
        .collect();
    let model = TrainedModel::simple(7, &names, 1, Calibration::fit(&scores));
    KeyType { columns, model }
}

/// A place somewhere in a JSON value.
fn somewhere<'a>(value: &'a mut Value, rng: &mut ChaCha8Rng) -> &'a mut Value {
    let inner = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if inner == 0 || rng.gen_ratio(1, 8) {
        return value;
    }
    let which = rng.gen_range(0..inner);
    let found = match value {
        Value::Array(items) => &mut items[which],
        Value::Object(fields) => fields
            .iter_mut()
            .nth(which)
            .map(|(_, value)| value)
            .unwrap(),
        _ => unreachable!("it has something in it"),
    };
    somewhere(found, rng)
}

/// Makes something else of a JSON text.
pub(super) fn damage_json(text: &str, rng: &mut ChaCha8Rng) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    let at = somewhere(&mut value, rng);
    let numbers = [0.0, -1.0, 1.0, 0.5, 1e-300, -1e300, 3.0, 1e9];
    let wholes = [0_u64, 1, 2, 7, 255, 65_536, 1 << 32, 1 << 40, u64::MAX];
    *at = match (rng.gen_range(0..6), &*at) {
        (0, _) => Value::Null,
        (1, Value::Array(items)) if !items.is_empty() => {
            let mut items = items.clone();
            items.remove(rng.gen_range(0..items.len()));
            Value::Array(items)
        }
        (2, Value::Array(items)) if !items.is_empty() => {
            let mut items = items.clone();
            items.push(items[rng.gen_range(0..items.len())].clone());
            Value::Array(items)
        }
        (1 | 2, Value::Object(fields)) if !fields.is_empty() => {
            let mut fields = fields.clone();
            let name = fields.keys().nth(rng.gen_range(0..fields.len())).cloned();
            fields.remove(&name.unwrap());
            Value::Object(fields)
        }
        (3, _) => Value::from(numbers[rng.gen_range(0..numbers.len())]),
        (4, Value::Number(number)) => Value::from(number.as_f64().unwrap_or(0.0) * 1.5),
        _ => Value::from(wholes[rng.gen_range(0..wholes.len())]),
    };
    value.to_string()
}

fn damage_tensor<T: Copy>(
    (shape, values): &mut (Vec<usize>, Vec<T>),
    others: &[T],
    rng: &mut ChaCha8Rng,
) {
    match rng.gen_range(0..5) {
        0 => shape.reverse(),
        1 => {
            shape.clear();
            shape.push(values.len());
        }
        2 if shape.len() == 2 && shape[0] > 0 => {
            shape[0] -= 1;
            values.truncate(shape[0] * shape[1]);
        }
        _ if !values.is_empty() => {
            let at = rng.gen_range(0..values.len());
            values[at] = others[rng.gen_range(0..others.len())];
        }
        _ => {}
    }
}

fn pick<'a, T>(map: &'a mut BTreeMap<String, T>, rng: &mut ChaCha8Rng) -> Option<&'a mut T> {
    let len = map.len().max(1);
    map.values_mut().nth(rng.gen_range(0..len))
}

/// The file's parts, damaged in one place, under a seal that fits them.
fn resealed(bytes: &[u8], rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let metadata = &header.metadata().as_ref().unwrap()[METADATA];
    let mut metadata: Metadata = serde_json::from_str(metadata).unwrap();
    let mut tensors = Tensors {
        settings: metadata.settings,
        ..Tensors::default()
    };
    for (name, view) in SafeTensors::deserialize(bytes).unwrap().tensors() {
        tensors.add(name, &view).unwrap();
    }
    match rng.gen_range(0..8) {
        0 => {
            let card = damage_json(&serde_json::to_string(&metadata.card).unwrap(), rng);
            metadata.card = serde_json::from_str(&card).ok()?;
        }
        1..=3 => {
            let setting = pick(&mut tensors.settings, rng)?;
            *setting = damage_json(setting, rng);
        }
        4 => {
            let others = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300];
            damage_tensor(pick(&mut tensors.wide, rng)?, &others, rng);
        }
        5 => {
            let name = tensors
                .tensors
                .keys()
                .nth(rng.gen_range(0..tensors.tensors.len().max(1)))
                .cloned()?;
            tensors.tensors.remove(&name);
        }
        _ => {
            let others = [
                f32::NAN,
                f32::INFINITY,
                -1.0,
                0.0,
                1e30,
                1.0,
                2.5,
                16_777_216.0,
            ];
            damage_tensor(pick(&mut tensors.tensors, rng)?, &others, rng);
        }
    }
    metadata.sha256 = tensors.digest(&metadata.card).ok()?;
    metadata.settings = tensors.settings.clone();
    let metadata = [(METADATA.to_owned(), serde_json::to_string(&metadata).ok()?)];
    let parts = tensors.bytes();
    let views = parts
        .iter()
        .map(|(&name, (kind, shape, data))| {
            let view = TensorView::new(*kind, shape.to_vec(), data).ok()?;
            Some((name, view))
        })
        .collect::<Option<Vec<_>>>()?;
    safetensors::serialize(views, Some(metadata.into_iter().collect())).ok()
}

/// A file with some bytes changed, lost or come twice.
fn torn(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.gen_range(1..4) {
        let at = rng.gen_range(0..bytes.len());
        // The head is small, and what it says of sizes is what could do harm.
        let at = if rng.r#gen() { at } else { at % 400 };
        match rng.gen_range(0..4) {
            0 => bytes.truncate(at + 1),
            1 => bytes.insert(at, rng.r#gen()),
            _ => bytes[at] = rng.r#gen(),
        }
    }
    bytes
}

/// Damages files again and again: how many were taken up though they were damaged, all of which judge alike.
fn damaged(rounds: u64, from: u64) -> u64 {
    let models = models();
    let files: Vec<Vec<u8>> = models
        .iter()
        .map(|model| model.to_bytes().unwrap())
        .collect();
    let rows = correlated(20, 6, Seed(77)).mapv(f64::from);
    let seeds: Vec<Seed> = (0..20).map(Seed).collect();
    let (mut taken, mut panics) = (0, Vec::new());
    for round in from..from + rounds {
        let mut rng = Seed(round).child("damage").rng();
        let which = rng.gen_range(0..files.len());
        let sealed = rng.gen_ratio(3, 4);
        let file = if sealed {
            resealed(&files[which], &mut rng)
        } else {
            Some(torn(&files[which], &mut rng))
        };
        let Some(file) = file.filter(|file| *file != files[which]) else {
            continue;
        };
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let model = TrainedModel::from_bytes(&file).ok()?;
            if model.width() == 6 {
                // Whatever was taken up can be used.
                let judged = model.judge(rows.view(), &seeds);
                assert!(
                    judged.p_value.iter().all(|p| *p > 0.0 && *p <= 1.0),
                    "p-values"
                );
            }
            Some(model)
        }));
        let Ok(tried) = tried else {
            panics.push((round, KINDS.names()[which]));
            continue;
        };
        if let Some(model) = tried {
            assert!(sealed, "seed {round}: torn bytes were taken for a model");
            assert!(model.to_bytes().is_ok());
            taken += 1;
        }
    }
    assert_eq!(panics, [], "seeds and kinds");
    taken
}

#[test]
fn damaged_files_are_refused() {
    let taken = damaged(1_500, 0);
    assert!(taken < 200, "{taken}");
}

#[test]
#[ignore = "ten thousand: `make fuzz`"]
fn fuzz_damaged_files_are_refused() {
    println!(
        "10,000 damaged model files, {} that judge as before taken up",
        damaged(10_000, 1_000_000)
    );
}

#[test]
fn a_model_that_does_not_judge_its_golden_rows_as_it_did_is_refused() {
    type Change = fn(&mut TrainedModel);
    let changes: [(&str, Change); 3] = [
        ("the scale", |model| model.scaler.spread[2] *= 1.5),
        ("the bound on it", |model| model.scaler.clip = 0.5),
        ("explanations", |model| {
            let factors = [1.0, 8.0].into_iter().cycle();
            (model.normal_contribution.iter_mut().zip(factors)).for_each(|(it, by)| *it *= by);
        }),
    ];
    for (what, change) in changes {
        for mut model in models() {
            let golden = Golden::of(&model);
            assert_eq!(golden.try_on(&model), Ok(()), "{}", model.model.name());
            change(&mut model);
            let kind = model.model.name();
            let tried = golden.try_on(&model).err();
            let error = tried.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("golden"), "{what} of {kind}: {error}");
        }
    }
}

#[test]
fn a_type_of_keys_that_got_other_columns_is_refused() {
    let mut model = models().pop().unwrap();
    let golden = Golden::of(&model);
    assert_eq!(golden.try_on(&model), Ok(()));
    model.types[0].columns = vec![0, 2, 4];
    let error = golden.try_on(&model).unwrap_err().to_string();
    assert!(error.contains("golden"), "{error}");
}
