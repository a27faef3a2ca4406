//! What is written comes back, and what was damaged does not.

use super::*;
use crate::detect::absence::{Absence, Absences};
use crate::detect::seasonal::{Season, Seasons, TERMS, Tally};
use proptest::prelude::*;

fn season() -> Season {
    Season {
        seen: 7,
        origin: 20.5,
        largest: 21.0,
        weights: vec![0.1; TERMS],
        ignorance: vec![0.2; TERMS * TERMS],
        drift: -0.3,
        since: Timestamp(77),
        tallies: [
            Tally {
                cells: vec![(-9, 2), (4, 5)],
                total: 7,
                until: 250,
            },
            Tally::default(),
        ],
        strange: Tally {
            cells: vec![(3, 7)],
            total: 7,
            until: 249,
        },
        waiting: vec![[1.5, 0.5, 7.0]],
        held: 2.5,
    }
}

fn episode() -> Episode {
    Episode {
        onset: Offset(3),
        onset_time: Timestamp(-4),
        peak_score: 0.1 + 0.2,
        peak_p: 1e-300,
        strength: 12.5,
        peak_strength: 13.5,
        threshold: 9.25,
        level: 3.5,
        calm: 0.75,
        scale: 30,
        severity: Severity::High,
        records: 9,
        last: Place {
            record: 8,
            offset: Offset(11),
            time: Timestamp(6),
        },
        recurred: 2,
        suppressed: true,
    }
}

fn clock() -> KeyClock {
    KeyClock {
        time: Timestamp(7),
        heard: Timestamp(-7),
        since: (Timestamp(5), Timestamp(-6)),
        records: 7,
        rate: Rate::Steady,
        ahead: i64::MIN,
        sequence: Sequence {
            last: Some(Timestamp(8)),
            pace: Pace {
                longest: 9,
                steps: 8,
            },
        },
        skew: -10,
        streak: 3,
        told: true,
        ..KeyClock::new(Offset(2))
    }
}

fn evidence() -> Evidence {
    let mut evidence = Evidence {
        levels: [1.0, 2.0, 3.0, 4.0],
        usual_sum: 12.25,
        usual_records: 11.0,
        ..Evidence::default()
    };
    evidence.since[2] = Place {
        record: 1,
        offset: Offset(2),
        time: Timestamp(3),
    };
    evidence
}

fn within() -> Within {
    Within {
        records: 301,
        mean: 6.0,
        variance: 0.25,
        quantile: 7.0,
        excess: 0.5,
        episodes: EpisodeState {
            records: 1,
            open: Some(episode()),
            ..EpisodeState::default()
        },
    }
}

fn absence() -> Absence {
    Absence {
        run: 1,
        longest: 2,
        seen: 3,
        first: (Offset(4), Timestamp(5)),
        open: true,
        suppressed: true,
    }
}

fn sample() -> KeyState {
    let episode = episode();
    KeyState {
        newest: Timestamp(7),
        last_offset: Offset(12),
        rhythm: Rhythm {
            last: Timestamp(6),
            longest_gap: Duration::from_millis(5),
            records: 4,
            era: 2,
        },
        clock: clock(),
        silence: Some(Silence {
            after: Offset(11),
            since: Timestamp(5),
        }),
        silence_suppressed: true,
        absences: Absences {
            columns: vec![absence()],
        },
        rows: VecDeque::from([1.0, f64::NAN, -0.0, f64::MIN_POSITIVE]),
        last_values: vec![f64::NAN, 2.0],
        episodes: KeyEpisodes {
            own: EpisodeState {
                records: 40,
                first: Timestamp(1),
                evidence: evidence(),
                open: Some(episode),
                closed: Some((Timestamp(99), 1)),
            },
            within: Some(Box::new(within())),
        },
        drift: Drift {
            sum: 0.25,
            records: 17,
            first: episode.last,
            usual: 1.25,
            own_sum: 3.5,
            own_blocks: 3,
            streak: 2,
            evidence: 7.5,
            since: evidence().since[2],
            level: 2.25,
            drifting: true,
        },
        surprise: Memory {
            mean: 1.75,
            records: 3,
        },
        model: ModelVersion(4),
        cold: ColdStart {
            seen: 5,
            taken: 7,
            strange: 2,
            excursions: vec![0.5; 18],
            rows: VecDeque::from([0.3]),
            centre: vec![0.1],
            spread: vec![0.0],
        },
        season: Some(Box::new(Seasons {
            judge: season(),
            ranking: Some(season()),
        })),
    }
}

#[test]
fn a_key_comes_back_bit_for_bit() {
    let fresh = KeyState::begin(KeyClock::new(Offset(0)), Timestamp(3), 0);
    for state in [sample(), fresh] {
        let bytes = write_key(&state);
        let back = read_key(&bytes).unwrap();
        assert_eq!(write_key(&back), bytes);
        assert_eq!(back.episodes, state.episodes);
        assert_eq!(back.drift, state.drift);
        assert_eq!(back.surprise, state.surprise);
        assert_eq!(back.season, state.season);
        assert_eq!((back.clock, back.rhythm), (state.clock, state.rhythm));
        assert!(back.rows.get(1).is_none_or(|value| value.is_nan()));
    }
}

#[test]
fn a_truncated_or_longer_or_newer_key_is_refused() {
    let bytes = write_key(&sample());
    // What comes before the seasons is a whole key without any.
    let old = write_key(&KeyState {
        season: None,
        ..sample()
    });
    for len in (0..bytes.len()).filter(|len| *len != old.len()) {
        assert!(read_key(&bytes[..len]).is_none(), "{len}");
    }
    assert!(read_key(&old).is_some_and(|state| state.season.is_none()));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read_key(&longer).is_none());
    let mut newer = bytes;
    newer[0] = KEY_FORMAT + 1;
    assert!(read_key(&newer).is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = KEY_FORMAT;
        }
        if let Some(state) = read_key(&bytes) {
            prop_assert_eq!(write_key(&state), bytes);
        }
    }
}
