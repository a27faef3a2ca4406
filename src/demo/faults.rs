//! The demo's labelled faults: what goes wrong, at which pump and sensor, and when.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::plant::{Reading, sensor};
use crate::seed::Seed;

/// How a pump goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// The sensor reads this much too high, at once.
    Offset(f64),
    /// The sensor's error grows to this over the fault's length.
    Drift(f64),
    /// The sensor repeats its last value.
    Stuck,
    /// The sensor's noise has this standard deviation.
    Noise(f64),
    /// The sensor follows the load of some time ago: in range, but no longer with its partner.
    Decoupled,
    /// The pump sends nothing.
    Silence,
}

/// One fault of the story.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// At which pump, counted from 0.
    pub pump: usize,
    /// The sensors that may be named for it: the broken one, and for a decoupled pair its partner. Empty for silence.
    pub sensors: &'static [&'static str],
    /// When it begins, as a share of the story.
    pub from: f64,
    /// When it ends, as a share of the story.
    pub to: f64,
    /// A sentence for the terminal.
    pub says: &'static str,
    /// Whether it is no fault, though it looks like one: it is done on purpose.
    pub routine: bool,
}

impl Fault {
    /// What the terminal says when it begins, or ends; the end of a routine is not told.
    pub fn turn(&self, begins: bool) -> Option<String> {
        if begins {
            return Some(self.says.to_owned());
        }
        let name = self.says.split(':').next().unwrap_or_default();
        (!self.routine).then(|| format!("(the {name} of pump-{} is mended)", self.pump + 1))
    }
}

/// The story's six faults. They begin one after the other, each at another pump, after the model has been trained.
pub fn story() -> Vec<Fault> {
    let fault = |kind, pump, sensors, from, to, says| Fault {
        kind,
        pump,
        sensors,
        from,
        to,
        says,
        routine: false,
    };
    vec![
        fault(
            Kind::Silence,
            2,
            &[],
            0.03,
            0.97,
            "silence: pump-3 stops sending, which is told of after a minute",
        ),
        fault(
            Kind::Offset(0.6),
            1,
            &["discharge_bar"],
            0.07,
            0.17,
            "offset: the discharge pressure of pump-2 reads 0.6 bar too high",
        ),
        fault(
            Kind::Drift(120.0),
            3,
            &["speed_rpm"],
            0.14,
            0.84,
            "drift: the tachometer of pump-4 drifts away, by 120 rpm in the end",
        ),
        fault(
            Kind::Stuck,
            0,
            &["flow_m3h"],
            0.24,
            0.42,
            "stuck: the flow meter of pump-1 repeats one value",
        ),
        fault(
            Kind::Noise(0.8),
            4,
            &["vibration_x_mms"],
            0.36,
            0.46,
            "noise: the vibration sensor of pump-5 goes wild",
        ),
        fault(
            Kind::Decoupled,
            5,
            &["motor_current_a", "motor_power_kw"],
            0.56,
            0.74,
            "decoupled: the motor current of pump-6 no longer follows its power",
        ),
    ]
}

/// What looks like a fault and is none: a seal is flushed, twice.
pub fn routines() -> Vec<Fault> {
    let flush = |by, from, to, says| Fault {
        kind: Kind::Offset(by),
        pump: 1,
        sensors: &["seal_pressure_bar"],
        from,
        to,
        says,
        routine: true,
    };
    vec![
        flush(
            0.6,
            0.50,
            0.54,
            "flush: the seal of pump-2 is flushed, as it must be now and then",
        ),
        flush(
            0.3,
            0.78,
            0.82,
            "flush: the seal of pump-2 is flushed again",
        ),
    ]
}

/// Steps that a decoupled sensor lags behind: half a load cycle, so that it falls while its partner rises.
const LAG: usize = 600;

/// What a faulty sensor remembers. One for each fault, fed with every reading of its pump so that it is ready when the fault begins.
#[derive(Debug)]
pub struct Memory {
    random: ChaCha8Rng,
    held: Option<f64>,
    past: std::collections::VecDeque<f64>,
}

impl Memory {
    /// Remembers nothing yet.
    pub fn new(seed: Seed) -> Self {
        Self {
            random: seed.child("faults").rng(),
            held: None,
            past: std::collections::VecDeque::with_capacity(LAG + 1),
        }
    }

    /// Changes `reading` as `fault` does at `place` of the story (a share of it; below 0: history). `None`: nothing is sent.
    pub fn distort(&mut self, fault: &Fault, place: f64, mut reading: Reading) -> Option<Reading> {
        let Some(index) = fault.sensors.first().map(|name| sensor(name)) else {
            return (!active(fault, place)).then_some(reading);
        };
        let honest = reading[index];
        self.past.push_back(honest);
        if self.past.len() > LAG {
            self.past.pop_front();
        }
        if !active(fault, place) {
            self.held = None;
            return Some(reading);
        }
        let progress = (place - fault.from) / (fault.to - fault.from);
        reading[index] = match fault.kind {
            Kind::Offset(by) => honest + by,
            Kind::Drift(to) => honest + to * progress,
            Kind::Stuck => *self.held.get_or_insert(honest),
            Kind::Noise(deviation) => {
                honest + deviation * self.random.sample::<f64, _>(StandardNormal)
            }
            Kind::Decoupled => self.past.front().copied().unwrap_or(honest),
            Kind::Silence => honest,
        };
        Some(reading)
    }
}

/// Whether `fault` is under way at `place` of the story.
pub fn active(fault: &Fault, place: f64) -> bool {
    (fault.from..fault.to).contains(&place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plant::Pump;

    #[test]
    fn every_kind_of_fault_is_in_the_story_at_another_pump() {
        let faults = story();
        assert_eq!(faults.len(), 6);
        let pumps: std::collections::BTreeSet<_> = faults.iter().map(|fault| fault.pump).collect();
        assert_eq!(pumps.len(), 6);
        assert!(
            faults
                .iter()
                .all(|fault| 0.0 < fault.from && fault.from < fault.to && fault.to < 1.0)
        );
    }

    #[test]
    fn faults_touch_their_sensor_only_and_only_while_they_last() {
        for fault in story() {
            let mut pump = Pump::new(fault.pump, Seed(3));
            let mut memory = Memory::new(Seed(3));
            let mut touched = 0;
            for step in 0..2000 {
                let place = f64::from(step) / 2000.0;
                let honest = pump.read(f64::from(step) * 2.0, 2.0);
                let Some(reading) = memory.distort(&fault, place, honest) else {
                    assert_eq!(fault.kind, Kind::Silence);
                    assert!(active(&fault, place));
                    touched += 1;
                    continue;
                };
                for (index, (a, b)) in honest.iter().zip(&reading).enumerate() {
                    if a.to_bits() != b.to_bits() {
                        assert!(active(&fault, place));
                        assert_eq!(index, sensor(fault.sensors[0]));
                        touched += 1;
                    }
                }
            }
            assert!(touched > 100, "{fault:?} changed {touched} readings");
        }
    }
}
