//! The second half of staging: everything that depends on scores, in the order of the records. Episodes open and close, messages are
//! written, records are counted. A record below its partition's `emit_from` changes state here like any other, and emits nothing.

mod absence;
mod alerts;
mod episodes;
mod held;
mod silence;
mod storm;

use std::borrow::Cow;

use ndarray::{Array2, ArrayView1};

use super::output::{self, Cause};
use super::prepare::{Event, Prepared, Step, Work};
use super::state::KeyState;
use super::windows::Group;
use super::{Column, Outbox, Tally, Watched, Watching};
use crate::alert::{AlertEvent, InputRef, ScoredBy};
use crate::detect::Params;
use crate::detect::clock::Moment;
use crate::detect::cold::{ColdStart, SUSPICIOUS};
use crate::detect::drift::Turn;
use crate::detect::episode::{Change, Episode, Reading};
use crate::detect::evidence::Place;
use crate::detect::seasonal::{SAY, SeasonReading};
use crate::model::trained::Judged;
use crate::record::dead_letter::Refusal;
use crate::record::{DecodedBatch, RecordBatch};
use crate::stats::combine;
use crate::stats::evidence::surprise;
use crate::stats::memory::Memory;
use crate::stream::EpisodeId;
use crate::time::Timestamp;

/// The surprise that a single feature's score is half of 1 at: one record in a thousand.
const HALFWAY: f64 = 7.0;

/// The second half of staging: what it reads, and the messages and counts that it emits.
#[derive(Debug)]
pub(super) struct EventEmitter<'a> {
    pub params: &'a Params,
    pub columns: &'a [Column],
    pub batch: &'a RecordBatch,
    pub decoded: &'a DecodedBatch,
    pub outbox: Outbox,
    pub tally: Tally,
    pub alerted: Vec<Timestamp>,
    pub watched: Vec<Watched>,
    /// Records that were judged so far.
    pub judged: usize,
    pub watching: Watching,
}

/// Calm records of a batch that are shown to people who watch, from all over the batch ...
const WATCHED_MAX: usize = 32;
/// ... and those of which is shown what was expected: that is worked out for each by itself, and must cost next to nothing.
const EXPLAINED_MAX: usize = 8;

/// A record with its score, while it is evaluated.
#[derive(Clone, Copy, Debug)]
struct ScoredRecord<'a> {
    step: &'a Step,
    slot: usize,
    /// Its newest row.
    row: &'a [f64],
    window: &'a [f64],
    reading: Reading,
    /// The score as it goes out: the reading's, but of a single feature its strangeness where something begins and less than 1 elsewhere, and of a model
    /// that forecasts with what is remembered of surprises.
    emitted_score: f64,
    /// How much of a surprise the record is to a model that forecasts.
    surprise: Option<f64>,
    clock: Moment,
    cold: bool,
    /// Whether it is of a single feature that the season of its key judges, beside the model or alone.
    single: bool,
    /// What the season of the key says, if that is what is told of the record.
    season: Option<SeasonReading>,
    /// The model's code of the window, if it goes out.
    code: Option<ArrayView1<'a, f32>>,
}

impl ScoredRecord<'_> {
    /// Judges a single feature by the season of its key; beside the model's p-value where there is one. Says whether nobody can judge yet.
    fn by_season(&mut self, state: &mut KeyState, (young_until, by_model): (u64, bool)) -> bool {
        let season = state.season.get_or_insert_default();
        // What was found anomalous must not become normal.
        let learn = state.episodes.own.open.is_none();
        let young = season.judge.seen < young_until;
        let found = season.take(self.row[0], self.reading.time, learn);
        let of_season = if young { 1.0 } else { found.p };
        let of_model = self.reading.p;
        if by_model {
            self.reading.p = combine::cauchy(of_model, of_season, SAY);
        } else {
            self.reading.p = of_season;
        }
        self.season = (!by_model || of_season.min(SUSPICIOUS) <= of_model).then_some(found);
        self.emitted_score = found.onset;
        self.single = true;
        self.cold = false;
        young && !by_model
    }

    /// Tells scores of a single feature: how surprising the record is, whoever found it so; what goes out ranks where something begins before all that
    /// goes on.
    fn tell_surprise(&mut self) {
        let surprise = surprise(self.reading.p);
        self.reading.score = surprise;
        self.emitted_score = self.emitted_score.max(surprise / (surprise + HALFWAY));
    }

    /// Lets what is remembered of the key's surprises have its say in the score that goes out, as much as what is strange now: both are 1 where they are
    /// strange as one record of a hundred. P-values are of what is strange now alone; what lasts, evidence gathers.
    fn remember(&mut self, memory: &mut Memory) {
        if let Some(surprise) = self.surprise {
            let held = memory.add(surprise).sqrt();
            self.emitted_score = f64::midpoint(self.emitted_score, held);
        }
    }
}

impl Cause<'_> {
    /// The same, naming the season where it was the season that judged, and not the model at hand.
    fn judged_as(self, scored: &ScoredRecord<'_>) -> Self {
        match scored.season {
            Some(_) => Self {
                scored_by: ScoredBy::Seasonal,
                ..self
            },
            None => self,
        }
    }
}

impl EventEmitter<'_> {
    /// Judges everything that was prepared, in order.
    pub fn emit_all(&mut self, prepared: &mut Prepared<'_>) {
        let judged: Vec<Judged> = prepared
            .groups
            .iter()
            .map(|group| group.judge(self.decoded))
            .collect();
        let codes: Vec<Option<Array2<f32>>> =
            prepared.groups.iter().map(|g| self.codes(g)).collect();
        let Prepared {
            works,
            groups,
            steps,
            ..
        } = prepared;
        for step in steps.iter() {
            let work = &mut works[step.work];
            let emit = self.batch.records()[step.record].offset >= work.base.emit_from;
            match step.event {
                Event::Dead => self.dead(step, emit),
                Event::Late => self.late(step, emit),
                Event::Judge {
                    slot,
                    row,
                    warming,
                    clock,
                } => {
                    let group = work.group;
                    let said = (&groups[group], &judged[group], codes[group].as_ref());
                    let mut scored = self.scored(step, (slot, row, clock), said);
                    if warming {
                        scored.reading.p = 1.0;
                    }
                    self.judged(work, scored, warming, emit);
                }
                Event::Silent { slot, info, clock } => {
                    let allowed = self.admit(work, step, clock, emit);
                    self.silent(work, step, (slot, info, allowed), emit);
                }
                Event::Spoke { slot, info } => self.spoke(work, step, (slot, info), emit),
                Event::Forget { slot } => self.forget(work, step, slot, emit),
            }
        }
    }

    /// The record in `row` of its group as it was judged, for the key in `slot`.
    fn scored<'s>(
        &self,
        step: &'s Step,
        (slot, row, clock): (usize, usize, Moment),
        (group, judged, codes): (&'s Group, &Judged, Option<&'s Array2<f32>>),
    ) -> ScoredRecord<'s>
    where
        Self: 's,
    {
        let time = match &self.decoded.outcomes[step.record] {
            Ok(found) => found.time,
            Err(_) => unreachable!("only records that could be read are judged"),
        };
        let (score, p) = match group.model {
            Some(_) => (judged.score[row], judged.p_value[row]),
            None => (0.0, 1.0),
        };
        let decoded: &'s DecodedBatch = self.decoded;
        let window = group.window(row, decoded);
        ScoredRecord {
            step,
            slot,
            row: &window[window.len() - self.columns.len()..],
            window,
            reading: Reading {
                p,
                by_model: None,
                score,
                offset: self.batch.records()[step.record].offset,
                time,
            },
            emitted_score: score,
            surprise: judged.surprise.get(row).copied(),
            clock,
            cold: group.model.is_none(),
            single: false,
            season: None,
            code: codes.map(|codes| codes.row(row)),
        }
    }

    /// The model's codes of a group's windows, if they go out.
    fn codes(&self, group: &Group) -> Option<Array2<f32>> {
        let wanted = self.params.emit_scores && self.params.emit_code;
        wanted.then(|| group.codes(self.decoded))?
    }

    fn dead(&mut self, step: &Step, emit: bool) {
        let Err(error) = &self.decoded.outcomes[step.record] else {
            unreachable!("only records that could not be read are dead");
        };
        if !emit {
            self.tally.replayed += 1;
            return;
        }
        self.tally.consumed += 1;
        *self.tally.dead_lettered.entry(error.reason()).or_default() += 1;
        let reason = Refusal::Unreadable(error.clone());
        let letter = output::refused(self.params, self.batch, step.record, reason);
        self.outbox.dead_letters.push(letter);
    }

    fn late(&mut self, step: &Step, emit: bool) {
        if !emit {
            self.tally.replayed += 1;
            return;
        }
        self.tally.consumed += 1;
        self.tally.late += 1;
        let reason = Refusal::Late(self.params.late_after.unwrap_or_default());
        let letter = output::refused(self.params, self.batch, step.record, reason);
        self.outbox.late.push(letter);
    }

    fn judged(
        &mut self,
        work: &mut Work<'_>,
        mut scored: ScoredRecord<'_>,
        mut warming: bool,
        emit: bool,
    ) {
        self.end_storm(work, &scored, emit);
        self.absences(work, &scored, emit);
        warming = self.read(work, &mut scored, warming);
        if !warming && !scored.cold {
            self.drift(work, &scored, emit);
        }
        let change = if warming {
            Change::None
        } else {
            let state = &mut work.slots[scored.slot].state;
            let before = state.episodes.own.open;
            let change = state.episodes.own.judge(&work.rule, scored.reading);
            match (before, state.episodes.own.open) {
                (Some(_), Some(outer)) if !scored.cold => self.within(work, &scored, &outer, emit),
                (Some(outer), None) => {
                    if let Some(inner) = state.episodes.end_within() {
                        self.changed(work, &scored, (Change::Closed(inner), Some(&outer)), emit);
                    }
                }
                _ => {}
            }
            change
        };
        let open = work.slots[scored.slot].state.episodes.own.open.is_some();
        self.changed(work, &scored, (change, None), emit);
        if scored.cold {
            let row = judged(self.columns, scored.row);
            let calm = !open && scored.reading.p > SUSPICIOUS;
            work.slots[scored.slot].state.cold.take(&row, calm);
        }
        if !emit {
            self.tally.replayed += 1;
            return;
        }
        self.tally.consumed += 1;
        if warming {
            self.tally.warming_up += 1;
        } else {
            self.tally.count_scored(scored.reading.p);
        }
        let all = matches!(self.watching, Watching::All | Watching::Each);
        if all || self.is_one_of(WATCHED_MAX) || open {
            self.watch(work, &scored, (open, warming));
        }
        self.judged += 1;
        if self.params.emit_scores {
            let cause = self
                .cause(work, scored.step, scored.slot)
                .judged_as(&scored);
            let code = scored.code.as_ref().and_then(ArrayView1::as_slice);
            let emitted = Reading {
                score: scored.emitted_score,
                ..scored.reading
            };
            let score = output::score(self.params, cause, &emitted, (open, warming), code);
            self.outbox.scores.push(score);
        }
    }

    /// Judges a record of an open episode by that episode's own records: a fault may come on top.
    fn within(
        &mut self,
        work: &mut Work<'_>,
        scored: &ScoredRecord<'_>,
        outer: &Episode,
        emit: bool,
    ) {
        let state = &mut work.slots[scored.slot].state;
        let change = state.episodes.judge_within(&work.own_rule, scored.reading);
        self.changed(work, scored, (change, Some(outer)), emit);
    }

    /// Emits what became of an episode: of the key's own, or of one within `outer`.
    fn changed(
        &mut self,
        work: &mut Work<'_>,
        scored: &ScoredRecord<'_>,
        (change, outer): (Change, Option<&Episode>),
        emit: bool,
    ) {
        match change {
            Change::Opened(episode) => self.opened(work, scored, (episode, outer), emit),
            Change::Updated(episode) if !episode.suppressed => {
                self.alert(work, scored, (AlertEvent::Update, &episode, outer), emit);
            }
            Change::Closed(episode) => {
                self.note_closed(work, scored.slot, &episode);
                if emit {
                    self.tally.closed += 1;
                }
                if !episode.suppressed {
                    self.alert(work, scored, (AlertEvent::Close, &episode, outer), emit);
                }
            }
            Change::Updated(_) | Change::None if outer.is_none() => {
                self.speak_up(work, scored, emit);
            }
            Change::Updated(_) | Change::None => {}
        }
    }

    /// Finds score and p-value by what judges the record: the season of its key, the cold start, or the model and what is usual for the key. Says
    /// whether that is still warming up.
    fn read(&self, work: &mut Work<'_>, scored: &mut ScoredRecord<'_>, mut warming: bool) -> bool {
        let model = super::state::version(work.model.as_ref());
        let state = &mut work.slots[scored.slot].state;
        let cold_start_records = self.params.cold_start_records as u64;
        let by_model = !scored.cold && !warming;
        if !scored.cold && state.model != model {
            state.episodes.own.evidence.change_model();
            state.drift.change_model();
        }
        if self.params.by_season(scored.row.len()) {
            warming = scored.by_season(state, (cold_start_records, by_model));
        } else if scored.cold {
            let found = state.cold.judge(&judged(self.columns, scored.row));
            warming = state.cold.seen < cold_start_records;
            scored.reading.score = found.score;
            scored.reading.p = if warming { 1.0 } else { found.p };
            scored.emitted_score = found.score;
        } else {
            if state.cold.seen > 0 {
                state.cold = ColdStart::default();
            }
            if warming {
                // What came before a silence is not remembered.
                state.surprise = Memory::default();
            } else {
                scored.remember(&mut state.surprise);
            }
        }
        if by_model {
            scored.reading.by_model = Some(scored.reading.p);
            scored.reading.p = state.episodes.own.evidence.by_key(scored.reading.p);
        }
        if scored.single {
            scored.tell_surprise();
        }
        state.model = model;
        warming
    }

    /// Looks whether the key drifts, by what judged the record alone: what has become usual for the key is what is looked for.
    fn drift(&mut self, work: &mut Work<'_>, scored: &ScoredRecord<'_>, emit: bool) {
        let state = &mut work.slots[scored.slot].state;
        let place = Place {
            record: state.episodes.own.records,
            offset: scored.reading.offset,
            time: scored.reading.time,
        };
        let p = scored.reading.by_model.unwrap_or(scored.reading.p);
        if let Some(turn) = state.drift.take(&work.rule.law, p, place) {
            let cause = self.cause(work, scored.step, scored.slot).judged_as(scored);
            self.turned(cause, turn, emit);
        }
    }

    fn turned(&mut self, cause: Cause<'_>, turn: Turn, emit: bool) {
        if !emit {
            return;
        }
        if turn.began {
            self.tally.drift_began += 1;
        } else {
            self.tally.drift_ended += 1;
        }
        self.outbox
            .drift
            .push(output::drift(self.params, cause, turn));
    }

    /// Whether the record at hand is one of at most `most` that lie evenly in the batch; those of fewer are among those of more.
    fn is_one_of(&self, most: usize) -> bool {
        let finest = self.batch.len().div_ceil(WATCHED_MAX).max(1);
        let apart = self.batch.len().div_ceil(most).next_multiple_of(finest);
        self.judged.is_multiple_of(apart.max(1))
    }

    /// What was expected of a record.
    fn expected(&self, work: &Work<'_>, scored: &ScoredRecord<'_>) -> Vec<f64> {
        match (&scored.season, &work.model) {
            (None, Some(model)) => {
                let slot = &work.slots[scored.slot];
                let faulty = slot.state.episodes.own.lasted();
                model.expected_of(&slot.key.0, scored.window, faulty)
            }
            _ => self.explained(work, scored).expected,
        }
    }

    fn watch(
        &mut self,
        work: &Work<'_>,
        scored: &ScoredRecord<'_>,
        (alert, warming_up): (bool, bool),
    ) {
        if let Ok(found) = &self.decoded.outcomes[scored.step.record] {
            let explains = self.watching == Watching::Explained
                && !warming_up
                && self.is_one_of(EXPLAINED_MAX);
            // A window tells later what a model expected, but not what a season did.
            let seasonal = self.watching == Watching::All && scored.season.is_some();
            let (row, expected) = if self.watching == Watching::Each && warming_up {
                // What is expected of a window that still fills says nothing.
                (scored.row.to_vec(), vec![f64::NAN; scored.row.len()])
            } else if explains || seasonal || self.watching == Watching::Each {
                (scored.row.to_vec(), self.expected(work, scored))
            } else {
                Default::default()
            };
            let (evidence, evidence_threshold) = standing(work, scored);
            self.watched.push(Watched {
                row,
                expected,
                evidence,
                evidence_threshold,
                key: found.key.clone(),
                time: found.time,
                p_value: scored.reading.p,
                alert,
                by_model: scored.reading.by_model,
                warming_up,
                record: scored.step.record,
                input: InputRef {
                    at: work.base.at.clone(),
                    offset: scored.reading.offset,
                },
                score: scored.emitted_score,
                scored_by: match scored.season {
                    Some(_) => ScoredBy::Seasonal,
                    None => work.scored_by(),
                },
                window: if self.watching == Watching::All {
                    scored.window.to_vec()
                } else {
                    Vec::new()
                },
            });
        }
    }

    /// The id of an episode of a partition.
    fn id(&self, work: &Work<'_>, episode: &Episode) -> EpisodeId {
        EpisodeId::new(&self.params.detector, &work.base.at, episode.onset)
    }

    fn cause<'w>(&self, work: &'w Work<'_>, step: &Step, slot: usize) -> Cause<'w> {
        let raw = &self.batch.records()[step.record];
        let time = match &self.decoded.outcomes[step.record] {
            Ok(found) => found.time,
            Err(_) => raw.timestamp,
        };
        Cause {
            at: &work.base.at,
            key: work.slots[slot].key.clone(),
            offset: raw.offset,
            time,
            scored_by: work.scored_by(),
            params: work.params,
        }
    }
}

/// The strength of the evidence of a record's key as it stands, and what opens an episode.
fn standing(work: &Work<'_>, scored: &ScoredRecord<'_>) -> (f64, f64) {
    let rule = match scored.season {
        Some(_) => &work.own_rule,
        None => &work.rule,
    };
    let own = &work.slots[scored.slot].state.episodes.own;
    own.standing(rule, scored.reading.time)
}

/// A row without what is context: the cold start knows no conditions, and what is not observed says nothing.
fn judged<'r>(columns: &[Column], row: &'r [f64]) -> Cow<'r, [f64]> {
    if columns.iter().all(|column| !column.context) {
        return Cow::Borrowed(row);
    }
    let each = columns.iter().zip(row);
    each.map(|(column, &value)| if column.context { f64::NAN } else { value })
        .collect()
}
