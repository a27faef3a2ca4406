//! Charts: lines in an SVG that is stretched to its box, axes in HTML beside it.

use super::html::{escape, put};

/// Columns that a long series is thinned to; each keeps its smallest and largest value.
const COLUMNS: usize = 700;

/// The width of the narrowest box, about a pixel: what is shorter must still be seen.
const WIDTH_MIN: f64 = 1.2;

/// The largest surprise that is drawn; p-values are never 0, but may be 10⁻³⁰⁰.
const SURPRISE_MAX: f64 = 20.0;

/// The p-value of that.
pub(super) const P_MIN: f64 = 1e-20;

/// −log₁₀ p, bounded.
pub(super) fn surprise(p: f64) -> f64 {
    if p.is_nan() {
        0.0
    } else {
        (-p.max(1e-300).log10()).clamp(0.0, SURPRISE_MAX)
    }
}

/// A number as people read it: three significant digits.
pub(in crate::backtest) fn number(value: f64) -> String {
    let size = value.abs();
    if size <= 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.1e}")
    } else {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

/// The vertical axis: values to heights, and the values that are marked.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    kind: Kind,
    /// Bounds after the kind's transformation.
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Linear,
    Log,
    /// asinh(value / unit): logarithmic on both sides of 0, for scores that can be negative.
    Asinh(f64),
}

impl Axis {
    /// From `low` to `high`.
    pub fn linear(low: f64, high: f64) -> Self {
        Self {
            kind: Kind::Linear,
            low,
            high: if high > low { high } else { low + 1.0 },
        }
    }

    /// Spans `values`: six decades at most where all are positive, both signs otherwise.
    pub fn logarithmic(values: &[f64]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            return Self::linear(0.0, 1.0);
        };
        // The lowest hundredth is not what anyone looks for; zeros among it, as a cold start gives them, do not make it signed.
        let low = sorted[sorted.len() / 100].max(most * 1e-6);
        let kind = if least >= 0.0 && most > 0.0 {
            Kind::Log
        } else {
            Kind::Asinh(
                (sorted[sorted.len() / 2].abs())
                    .max(most.abs() * 1e-3)
                    .max(1e-12),
            )
        };
        let mut axis = Self {
            kind,
            low: 0.0,
            high: 1.0,
        };
        axis.low = axis.transform(if matches!(axis.kind, Kind::Log) {
            low
        } else {
            least
        });
        axis.high = axis.transform(most).max(axis.low + 1e-9);
        let margin = 0.04 * (axis.high - axis.low);
        axis.high += margin;
        axis.low -= margin;
        axis
    }

    fn transform(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(1e-300).log10(),
            Kind::Asinh(unit) => (value / unit).asinh(),
        }
    }

    fn inverse(&self, place: f64) -> f64 {
        match self.kind {
            Kind::Linear => place,
            Kind::Log => 10f64.powf(place),
            Kind::Asinh(unit) => place.sinh() * unit,
        }
    }

    /// 0 at the bottom, 1 at the top; beyond the bounds at the bound.
    fn height(&self, value: f64) -> f64 {
        ((self.transform(value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Marked values with their heights.
    fn ticks(&self) -> Vec<(f64, f64)> {
        let range = self.high - self.low;
        let (step, first) = match self.kind {
            Kind::Asinh(_) => (range / 4.0, self.low),
            _ => {
                let step = round_step(range / 5.0, matches!(self.kind, Kind::Log));
                (step, (self.low / step).ceil() * step)
            }
        };
        (0..12)
            .map(|i| first + f64::from(i) * step)
            .take_while(|&place| place <= self.high + 1e-9)
            .map(|place| {
                let value = if place.abs() < step * 1e-6 {
                    0.0
                } else {
                    place
                };
                (self.inverse(value), (place - self.low) / range)
            })
            .collect()
    }
}

/// The next of 1, 2, 5 · 10ᵏ; for decades whole ones, unless there are too few.
fn round_step(step: f64, decades: bool) -> f64 {
    if decades && step > 0.25 {
        return step.ceil();
    }
    let unit = 10f64.powf(step.log10().floor());
    let factor = step / unit;
    unit * if factor <= 1.0 {
        1.0
    } else if factor <= 2.0 {
        2.0
    } else if factor <= 5.0 {
        5.0
    } else {
        10.0
    }
}

/// A chart being drawn. The SVG is 1000 × 1000 units, stretched to the box.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What the left and right edges stand for.
    across: (f64, f64),
    axis: Axis,
    height_px: u32,
    body: String,
}

impl Chart {
    /// A chart over `n` rows.
    pub fn new(n: usize, axis: Axis, height_px: u32) -> Self {
        Self::over((0.0, n.max(1) as f64), axis, height_px)
    }

    /// A chart over any range.
    pub fn over(across: (f64, f64), axis: Axis, height_px: u32) -> Self {
        let mut chart = Self {
            across,
            axis,
            height_px,
            body: String::new(),
        };
        for (_, height) in chart.axis.ticks() {
            let y = 1000.0 * (1.0 - height);
            put(
                &mut chart.body,
                format_args!(
                    "<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
        }
        chart
    }

    fn x(&self, place: f64) -> f64 {
        let (from, to) = self.across;
        1000.0 * ((place - from) / (to - from).max(1e-12)).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        1000.0 * (1.0 - self.axis.height(value))
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (i, &(x, y)) in points.iter().filter(|(_, y)| y.is_finite()).enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            put(
                &mut path,
                format_args!("{command}{:.1} {:.1}", self.x(x), self.y(y)),
            );
        }
        put(
            &mut self.body,
            format_args!("<path class=\"{class}\" d=\"{path}\"/>"),
        );
    }

    /// Dots: lines of no length with round ends, which do not become ellipses when stretched.
    pub fn dots(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for &(x, y) in points {
            put(
                &mut path,
                format_args!("M{:.1} {:.1}h.01", self.x(x), self.y(y)),
            );
        }
        put(
            &mut self.body,
            format_args!("<path class=\"{class}\" d=\"{path}\"/>"),
        );
    }

    /// A series, one value a row; long ones keep the extremes of each column.
    pub fn series(&mut self, values: &[f64], class: &str) {
        let points: Vec<(f64, f64)> = if values.len() <= 2 * COLUMNS {
            values
                .iter()
                .enumerate()
                .map(|(i, &v)| (i as f64, v))
                .collect()
        } else {
            (0..COLUMNS)
                .flat_map(|column| extremes(values, column))
                .collect()
        };
        self.line(&points, class);
    }

    /// A horizontal line across.
    pub fn horizontal(&mut self, value: f64, class: &str) {
        self.line(&[(self.across.0, value), (self.across.1, value)], class);
    }

    /// A horizontal line over some rows.
    pub fn level(&mut self, value: f64, from: usize, to: usize, class: &str) {
        self.line(&[(from as f64, value), (to as f64, value)], class);
    }

    /// A vertical line with a text that shows on hovering (already HTML).
    pub fn vertical(&mut self, place: f64, class: &str, text: &str) {
        let x = self.x(place);
        put(
            &mut self.body,
            format_args!(
                "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"1000\"><title>{text}</title></line>"
            ),
        );
    }

    /// A box over the rows `from..to`, between two heights (0 bottom, 1 top).
    pub fn band(
        &mut self,
        (from, to): (usize, usize),
        class: &str,
        heights: (f64, f64),
        text: &str,
    ) {
        let (x, right) = (self.x(from as f64), self.x(to as f64));
        let (y, width) = (1000.0 * (1.0 - heights.1), (right - x).max(WIDTH_MIN));
        let height = 1000.0 * (heights.1 - heights.0);
        put(
            &mut self.body,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{text}</title></rect>"
            ),
        );
    }

    /// Boxes over all stretches of `true`; those less than a pixel apart are one, for laid over each other they would be dark.
    pub fn bands(&mut self, rows: &[bool], class: &str, low: f64, high: f64) {
        let mut boxes: Vec<(usize, usize)> = Vec::new();
        for (from, to) in crate::stats::metrics::segments(rows) {
            let left = self.x(from as f64);
            match boxes.last_mut() {
                Some((_, last)) if left < self.x(*last as f64 + 1.0) + WIDTH_MIN => *last = to,
                _ => boxes.push((from, to)),
            }
        }
        for (from, to) in boxes {
            let text = format!("rows {from} to {to}");
            self.band((from, to + 1), class, (low, high), &text);
        }
    }

    /// Writes the chart over rows; `name` says what it shows, `times` has a text for each row, or none.
    pub fn write(
        &self,
        out: &mut String,
        (name, times): (&str, &[String]),
        label: impl Fn(f64) -> String,
    ) {
        self.write_with(out, (name, &ticks(self.across.1 as usize, times)), label);
    }

    /// Writes the chart with these texts below, evenly spread.
    pub fn write_with(
        &self,
        out: &mut String,
        (name, ticks): (&str, &[String]),
        label: impl Fn(f64) -> String,
    ) {
        put(
            out,
            format_args!(
                "<div class=\"chart\"><div class=\"ys\" style=\"height:{}px\">",
                self.height_px
            ),
        );
        for (value, height) in self.axis.ticks() {
            put(
                out,
                format_args!(
                    "<span style=\"top:{:.1}%\">{}</span>",
                    100.0 * (1.0 - height),
                    label(value)
                ),
            );
        }
        put(
            out,
            format_args!(
                "</div><div class=\"plot\" style=\"height:{}px\"><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}</svg></div><div class=\"xs\">",
                self.height_px,
                escape(name),
                self.body
            ),
        );
        for tick in ticks {
            put(out, format_args!("<span>{tick}</span>"));
        }
        out.push_str("</div></div>");
    }
}

/// Marks below an axis of `n` rows.
pub(super) fn ticks(n: usize, times: &[String]) -> Vec<String> {
    let rows = (0..=3).map(|i| (i * n / 3).min(n.saturating_sub(1)));
    if times.is_empty() {
        rows.map(|row| row.to_string()).collect()
    } else {
        moments(rows.filter_map(|row| times.get(row)).map(String::as_str))
    }
}

/// RFC 3339 times as marks below an axis: the time of day, and under it the date where it is another one than before.
fn moments<'a>(times: impl Iterator<Item = &'a str>) -> Vec<String> {
    let split: Vec<(&str, &str)> = times
        .map(|time| time.split_once('T').unwrap_or(("", time)))
        .collect();
    // Marks within a minute of each other need the seconds.
    let close = split
        .windows(2)
        .any(|pair| pair[0].0 == pair[1].0 && pair[0].1.get(..5) == pair[1].1.get(..5));
    let length = if close { 8 } else { 5 };
    let mut before = "";
    split
        .into_iter()
        .map(|(date, time)| {
            let time = escape(time.get(..length).unwrap_or(time));
            let date_shown = if date == before { "" } else { date };
            before = date;
            format!("{time}<br>{}", escape(date_shown))
        })
        .collect()
}

/// The smallest and largest value of one column of a long series, in order of their rows.
fn extremes(values: &[f64], column: usize) -> Vec<(f64, f64)> {
    let (from, to) = (
        column * values.len() / COLUMNS,
        (column + 1) * values.len() / COLUMNS,
    );
    let place = |i: usize| (i as f64, values[i]);
    let finite = || (from..to).filter(|&row| values[row].is_finite());
    let least = finite().min_by(|&a, &b| values[a].total_cmp(&values[b]));
    let most = finite().max_by(|&a, &b| values[a].total_cmp(&values[b]));
    match (least, most) {
        (Some(a), Some(b)) if a != b => vec![place(a.min(b)), place(a.max(b))],
        (Some(a), _) => vec![place(a)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (1234.5, "1234"),
            (0.012_34, "0.0123"),
            (2.5e-7, "2.5e-7"),
            (-4.567, "-4.57"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn heights_and_ticks_agree() {
        for axis in [
            Axis::linear(0.0, 7.0),
            Axis::logarithmic(&[0.0, 0.01, 1.0, 250.0]),
            Axis::logarithmic(&[-40.0, -1.0, 0.5, 300.0]),
        ] {
            let ticks = axis.ticks();
            assert!((2..=12).contains(&ticks.len()), "{ticks:?}");
            for (value, height) in ticks {
                assert!(
                    (axis.height(value) - height).abs() < 1e-6,
                    "{axis:?}: {value} at {height}"
                );
            }
        }
    }

    #[test]
    fn bands_without_room_between_them_are_one() {
        let boxes = |rows: &[bool]| {
            let mut chart = Chart::new(rows.len(), Axis::linear(0.0, 1.0), 100);
            chart.bands(rows, "label", 0.0, 1.0);
            chart.body.matches("<rect").count()
        };
        // Every other row: of 10,000 less than a pixel apart, of 100 not.
        let alternating = |n: usize| (0..n).map(|i| i % 2 == 0).collect::<Vec<bool>>();
        assert_eq!(boxes(&alternating(10_000)), 1);
        assert_eq!(boxes(&alternating(100)), 50);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut values = vec![0.5; 10_000];
        values[1234] = 9.0;
        values[1235] = -9.0;
        let kept: Vec<f64> = (0..COLUMNS)
            .flat_map(|c| extremes(&values, c))
            .map(|p| p.1)
            .collect();
        assert!(kept.contains(&9.0) && kept.contains(&-9.0));
        assert!(kept.len() <= 2 * COLUMNS);
    }
}
