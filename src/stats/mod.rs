//! Small numeric functions that several layers share: order statistics, and the calibration of scores.

pub mod calibration;
pub mod metrics;
pub mod order;
