//! The scaler of a training, and which features the hour of the day tells.

use ndarray::ArrayView2;

use super::job::TrainJob;
use super::split::{Window, keys_of};
use super::window::Windows;
use crate::model::FitError;
use crate::model::context::{self, Context, Records};
use crate::model::scale::{Given, Scaler};
use crate::record::calendar::Hour;

/// The scaler of windows with these raw values.
pub(super) fn scaler_of(
    job: &TrainJob,
    windows: &Windows<'_>,
    (of, raw): (&[Window], ArrayView2<'_, f64>),
) -> Result<Scaler, FitError> {
    let given = Given {
        columns: job.context_columns(),
        keys: &keys_of(of),
    };
    let given = (windows.changes(of), given);
    let how = (job.spec.scale, job.spec.clip);
    Scaler::fit_windows(raw, given, job.columns.len(), how)
}

/// Which columns the hour tells: those that are judged by it, or without a calendar would be. `newest` has the newest records of the windows. What is judged by
/// its changes is told by where it stands no more.
pub(super) fn hourly(
    job: &TrainJob,
    (windows, newest): (&[Window], ArrayView2<'_, f64>),
    scaler: &Scaler,
) -> Vec<usize> {
    let given = job.context_columns();
    if given.calendar.is_some() {
        let context = scaler.context.iter();
        return context.flat_map(Context::timed).collect();
    }
    let keys = keys_of(windows);
    let records = Records {
        values: newest,
        key: &|row| keys[row],
        shared: (&scaler.centre, &scaler.spread),
        scale: &|_| (0.0, 1.0),
    };
    let changes = &scaler.changes;
    let judged = |column: usize| {
        !given.has(column)
            && !changes.counters.contains(&column)
            && !changes.trends.contains(&column)
    };
    context::that_follow(
        &records,
        |row| Some(Hour::utc(windows[row].newest())),
        judged,
    )
}
