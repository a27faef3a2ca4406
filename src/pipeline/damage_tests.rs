//! State entries that were damaged: none is taken for state, none panics, none keeps the partition from being taken over.

#![expect(clippy::print_stdout, reason = "a long run shows its figures")]

use rand::Rng;

use super::tests::{CALM, WILD, assignment, at, batch, model, params, pipeline};
use super::*;
use crate::seed::Seed;

/// What the state topic has after a while: keys with windows, a silent one, an open episode and a closed one.
fn entries() -> Vec<StateEntry> {
    let params = Params {
        snapshot_records: 1,
        window: 3,
        ..params()
    };
    let mut pipeline = pipeline(params, Missing::Mask);
    pipeline.promote(model(1, 3)).unwrap();
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let mut entries = BTreeMap::new();
    for round in 0..12_i64 {
        let at = round * 3;
        let wild = if round % 4 == 2 { WILD } else { CALM };
        let rows = [
            (at, "a", at, CALM),
            (at + 1, "b", at + 1, wild),
            (at + 2, "c", at + 2, CALM),
        ];
        let (batch, decoded) = batch(&rows);
        let staged = pipeline.stage(&batch, &decoded);
        for entry in &staged.outbox.state {
            entries.insert(entry.key.clone(), entry.clone());
        }
        pipeline.apply(staged);
    }
    let left = |entry: &StateEntry| entry.value.is_some();
    entries.into_values().filter(left).collect()
}

fn damage(value: &mut Vec<u8>, rng: &mut rand_chacha::ChaCha8Rng) {
    for _ in 0..rng.gen_range(1..4) {
        let at = rng.gen_range(0..value.len().max(1)).min(value.len());
        match rng.gen_range(0..5) {
            0 => value.truncate(at),
            1 => value.insert(at, rng.r#gen()),
            2 => value.extend([rng.r#gen::<u8>(); 8]),
            _ if at < value.len() => value[at] = rng.r#gen(),
            _ => {}
        }
    }
}

fn damaged(rounds: u64, from: u64) {
    let whole = entries();
    for round in from..from + rounds {
        let mut rng = Seed(round).child("state").rng();
        let mut state = whole.clone();
        let which = rng.gen_range(0..state.len());
        damage(state[which].value.as_mut().unwrap(), &mut rng);
        let content =
            |state: &[StateEntry]| seal::open_json(state[which].value.as_deref().unwrap());
        if state == whole || (content(&state).is_some() && content(&state) == content(&whole)) {
            // White space between two fields, say.
            continue;
        }
        let params = Params {
            window: 3,
            ..params()
        };
        let mut successor = pipeline(params, Missing::Mask);
        successor.promote(model(1, 3)).unwrap();
        let assignment = assignment(36, state.clone());
        let judging = successor.current().cloned();
        assert!(
            as_of(&state).is_ok() && model_version(&state).is_ok(),
            "seed {round}"
        );
        let assigned = successor
            .assign(&assignment, judging)
            .unwrap_or_else(|error| panic!("seed {round}: {error}"));
        let why = assigned.discarded;
        assert_eq!(
            why,
            Some(Discarded::Damaged),
            "seed {round}: {:?}",
            String::from_utf8_lossy(&state[which].key)
        );
        assert_eq!(successor.keys(), 0, "seed {round}");
        // The next batch cleans up behind it.
        let rows = [(36, "a", 40, CALM), (37, "b", 41, WILD)];
        let (batch, decoded) = batch(&rows);
        let staged = successor.stage(&batch, &decoded);
        let gone = |entry: &&StateEntry| {
            entry.value.is_none() && entry.key.windows(5).any(|part| part == b"/key/")
        };
        assert_eq!(
            staged.outbox.state.iter().filter(gone).count(),
            3,
            "seed {round}"
        );
        assert_eq!(staged.tally.consumed, 2);
        successor.apply(staged);
        assert!(successor.positions()[&at()] == Offset(38), "seed {round}");
    }
}

#[test]
fn damaged_state_is_discarded_and_never_the_end() {
    let state = entries();
    let mut successor = pipeline(
        Params {
            window: 3,
            ..params()
        },
        Missing::Mask,
    );
    successor.promote(model(1, 3)).unwrap();
    let judging = successor.current().cloned();
    let assigned = successor.assign(&assignment(36, state), judging).unwrap();
    assert_eq!(assigned.discarded, None, "undamaged, it is taken over");
    damaged(1_000, 0);
}

#[test]
#[ignore = "ten thousand: `make fuzz`"]
fn fuzz_damaged_state_is_discarded_and_never_the_end() {
    damaged(10_000, 1_000_000);
    println!("10,000 damaged states, none taken up");
}

#[test]
fn a_head_names_its_model_by_its_content() {
    let state = entries();
    let other = Arc::new(TrainedModel {
        normal_contribution: vec![2.0; 6],
        ..Arc::try_unwrap(model(1, 3)).unwrap()
    });
    assert_eq!(names(&state, &model(1, 3)), Ok(true));
    assert_eq!(
        names(&state, &other),
        Ok(false),
        "another of the same number"
    );
    assert_eq!(names(&state, &model(2, 3)), Ok(false));
}
