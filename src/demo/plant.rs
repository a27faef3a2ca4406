//! A simulated pumping station: several pumps with a dozen correlated sensors each, under load cycles, with lag and noise.
//!
//! The equations are textbook ones (affinity laws, a quadratic pump curve, first-order thermal lag), so that the sensors hang together as
//! those of a real pump do: flow follows speed, power follows flow times head, temperatures follow power with a delay. Pure: a seed and
//! a time step in, readings out.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::seed::Seed;

/// The sensors of a pump, in the order of a [`Reading`].
pub const SENSORS: [&str; 12] = [
    "valve_pct",
    "speed_rpm",
    "flow_m3h",
    "suction_bar",
    "discharge_bar",
    "seal_pressure_bar",
    "motor_current_a",
    "motor_power_kw",
    "motor_temp_c",
    "bearing_temp_c",
    "vibration_x_mms",
    "vibration_y_mms",
];

/// One number for each of [`SENSORS`], in the unit that its name ends in.
pub type Reading = [f64; SENSORS.len()];

/// The place of a sensor in a [`Reading`].
///
/// # Panics
/// If there is no such sensor: the names are constants of this module.
pub fn sensor(name: &str) -> usize {
    SENSORS
        .iter()
        .position(|sensor| *sensor == name)
        .unwrap_or_else(|| unreachable!("`{name}` is not a sensor of the plant"))
}

/// Nominal speed, rpm.
const SPEED: f64 = 1480.0;
/// Nominal flow, m³/h.
const FLOW: f64 = 240.0;
/// Seconds of the slow load cycle: a batch process downstream.
const CYCLE: f64 = 2400.0;

/// Temperature of the hall, °C. It has no day and night: the demo's history is a quarter of a day of the plant, and a day would be a drift.
const AMBIENT: f64 = 22.0;

/// One pump with its thermal and hydraulic state.
#[derive(Debug)]
pub struct Pump {
    /// Its name: the record key.
    pub name: String,
    random: ChaCha8Rng,
    phase: f64,
    efficiency: f64,
    /// Slow random part of the load.
    wander: f64,
    /// Slow random part of the tank level, bar.
    tank: f64,
    motor_temp: f64,
    bearing_temp: f64,
}

impl Pump {
    /// Pump number `index` of the station.
    pub fn new(index: usize, seed: Seed) -> Self {
        let mut random = seed.child("pump").nth(index as u64).rng();
        let phase = random.gen_range(0.0..std::f64::consts::TAU);
        let efficiency = random.gen_range(0.71..0.77);
        let name = format!("pump-{}", index + 1);
        Self {
            name,
            random,
            phase,
            efficiency,
            wander: 0.0,
            tank: 0.0,
            motor_temp: 60.0,
            bearing_temp: 48.0,
        }
    }

    /// The readings at `time` (seconds), `step` seconds after the last ones.
    pub fn read(&mut self, time: f64, step: f64) -> Reading {
        let load = self.load(time, step);
        let speed = SPEED * (0.72 + 0.28 * load);
        let pace = speed / SPEED;
        let flow = FLOW * load * pace;
        let share = flow / FLOW;
        let suction = 1.6 - 0.25 * share * share + self.tank;
        let discharge = suction + 7.5 * pace * pace - 2.2 * share * share;
        let efficiency = self.efficiency - 0.15 * (share - 0.75).powi(2);
        let power = (discharge - suction) * 1e5 * flow / 3600.0 / efficiency / 1000.0 + 3.0;
        let current = power * 1000.0 / (3f64.sqrt() * 400.0 * 0.86);
        self.motor_temp += step / 600.0 * (AMBIENT + 14.0 + 0.55 * power - self.motor_temp);
        self.bearing_temp +=
            step / 400.0 * (AMBIENT + 10.0 + 22.0 * pace * pace - self.bearing_temp);
        let vibration = 0.9 + 1.3 * pace * pace + 0.6 * (share - 0.7).powi(2);
        [
            100.0 * load.powf(0.8) + self.noise(0.4),
            speed + self.noise(2.0),
            flow + self.noise(1.2),
            suction + self.noise(0.01),
            discharge + self.noise(0.03),
            0.4 + 0.55 * discharge + self.noise(0.02),
            current + self.noise(0.35),
            power + self.noise(0.25),
            self.motor_temp + self.noise(0.15),
            self.bearing_temp + self.noise(0.15),
            vibration + self.noise(0.06),
            0.3 + 0.8 * vibration + self.noise(0.05),
        ]
    }

    /// The load at `time`, as a share of nominal: a slow cycle, a quick one, and a random walk that is pulled back to zero.
    fn load(&mut self, time: f64, step: f64) -> f64 {
        self.wander +=
            -step / 300.0 * self.wander + self.noise(0.025 * (2.0 * step / 300.0).sqrt());
        self.tank += -step / 900.0 * self.tank + self.noise(0.03 * (2.0 * step / 900.0).sqrt());
        let slow = (std::f64::consts::TAU * time / CYCLE + self.phase).sin();
        let quick = (std::f64::consts::TAU * time / 700.0 + 2.0 * self.phase).sin();
        (0.7 + 0.17 * slow + 0.04 * quick + self.wander).clamp(0.35, 1.0)
    }

    fn noise(&mut self, deviation: f64) -> f64 {
        deviation * self.random.sample::<f64, _>(StandardNormal)
    }
}

/// A reading as the JSON record that the plant's gateway would send: flat, with the event time in milliseconds.
pub fn record(pump: &str, time_ms: i64, reading: &Reading) -> String {
    use std::fmt::Write;
    let mut json = format!("{{\"machine\":\"{pump}\",\"time\":{time_ms}");
    for (name, value) in SENSORS.iter().zip(reading) {
        // Writing to a String cannot fail.
        write!(json, ",\"{name}\":{value:.4}").unwrap_or_default();
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: usize) -> Vec<Reading> {
        let mut pump = Pump::new(0, Seed(1));
        (0..steps).map(|i| pump.read(i as f64 * 2.0, 2.0)).collect()
    }

    fn correlation(readings: &[Reading], a: usize, b: usize) -> f64 {
        let n = readings.len() as f64;
        let mean = |i: usize| readings.iter().map(|r| r[i]).sum::<f64>() / n;
        let (ma, mb) = (mean(a), mean(b));
        let cov = |i: usize, mi: f64, j: usize, mj: f64| {
            readings
                .iter()
                .map(|r| (r[i] - mi) * (r[j] - mj))
                .sum::<f64>()
        };
        cov(a, ma, b, mb) / (cov(a, ma, a, ma) * cov(b, mb, b, mb)).sqrt()
    }

    #[test]
    fn readings_are_those_of_a_pump() {
        let readings = run(4000);
        let range = |name: &str| {
            let values = readings[500..].iter().map(|r| r[sensor(name)]);
            values.fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let within = |name: &str, low: f64, high: f64| {
            let (min, max) = range(name);
            assert!(low < min && max < high, "{name}: {min} to {max}");
        };
        within("speed_rpm", 1150.0, 1500.0);
        within("flow_m3h", 60.0, 250.0);
        within("discharge_bar", 4.0, 9.0);
        within("motor_power_kw", 10.0, 80.0);
        within("motor_temp_c", 35.0, 90.0);
    }

    #[test]
    fn what_comes_later_was_seen_in_the_history() {
        // Nine minutes of history, and half an hour after them.
        let (history, all) = (10_800, 10_800 + 36_000);
        let readings = run(all);
        let (before, after) = readings.split_at(history);
        for (at, name) in SENSORS.iter().enumerate() {
            let low = before.iter().map(|r| r[at]).fold(f64::MAX, f64::min);
            let high = before.iter().map(|r| r[at]).fold(f64::MIN, f64::max);
            let new = |reading: &&Reading| !(low..=high).contains(&reading[at]);
            let share = after.iter().filter(new).count() as f64 / after.len() as f64;
            assert!(share < 0.05, "{name}: {share} of what comes later is new");
        }
    }

    #[test]
    fn sensors_hang_together() {
        let readings = run(4000);
        assert!(correlation(&readings, sensor("flow_m3h"), sensor("speed_rpm")) > 0.95);
        assert!(
            correlation(
                &readings,
                sensor("motor_current_a"),
                sensor("motor_power_kw")
            ) > 0.95
        );
        assert!(correlation(&readings, sensor("flow_m3h"), sensor("suction_bar")) < -0.3);
    }

    #[test]
    fn the_same_seed_gives_the_same_plant() {
        assert_eq!(run(50), run(50));
    }

    #[test]
    fn records_are_flat_json() {
        let json = record("pump-1", 7, &run(1)[0]);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["machine"], "pump-1");
        assert_eq!(
            value.as_object().expect("an object").len(),
            SENSORS.len() + 2
        );
    }
}
