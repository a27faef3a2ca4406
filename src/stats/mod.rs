//! Small numeric functions that several layers share: order statistics, and the calibration of scores.

pub mod bisect;
pub mod calibration;
pub mod combine;
pub mod evidence;
pub mod memory;
pub mod metrics;
pub mod order;
#[cfg(test)]
mod proof;
mod small_sample;
pub mod tail;
