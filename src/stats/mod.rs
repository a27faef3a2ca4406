//! Small numeric functions that several layers share: order statistics, and the calibration of scores.

pub mod calibration;
pub mod evidence;
mod few;
pub mod metrics;
pub mod order;
#[cfg(test)]
mod proof;
mod tail;
