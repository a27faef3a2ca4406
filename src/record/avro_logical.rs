//! What Avro's logical types make of bytes: a `decimal` is a whole number, the greatest byte first, of so many digits behind the point.

use std::fmt::Write as _;

/// Digits behind the point at most, or before it where the scale is below zero: a double has no more.
const SCALE_MAX: i64 = 300;
/// Powers of ten up to here are exact in a double, and so are whole numbers up to 2^53: one division rounds as it should.
const EXACT_SCALE: i32 = 22;
const EXACT_MAX: u128 = 1 << 53;

/// How many digits are behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale(i32);

impl Scale {
    /// What a schema says; 0 where it says nothing.
    pub fn new(said: Option<&serde_json::Value>) -> Option<Self> {
        let scale = said.map_or(Some(0), serde_json::Value::as_i64)?;
        let fits = (-SCALE_MAX..=SCALE_MAX).contains(&scale);
        fits.then(|| i32::try_from(scale).ok().map(Self)).flatten()
    }

    /// The number. `text` says how it is written, if that is asked for.
    pub fn read(self, bytes: &[u8], text: Option<&mut String>) -> f64 {
        let mut of_value = String::new();
        let value = match whole(bytes) {
            Some(whole) if self.is_exact(whole) => {
                whole as f64 / 10_f64.powi(self.0.clamp(0, EXACT_SCALE))
            }
            Some(whole) => {
                // Writing to a string cannot fail, and std reads and rounds as it should.
                let _written = write!(of_value, "{whole}e{}", -self.0);
                of_value.parse().unwrap_or(f64::NAN)
            }
            None => rounded(bytes) * format!("1e{}", -self.0).parse::<f64>().unwrap_or(f64::NAN),
        };
        if let Some(text) = text {
            self.write(whole(bytes), value, text);
        }
        value
    }

    fn is_exact(self, whole: i128) -> bool {
        (0..=EXACT_SCALE).contains(&self.0) && whole.unsigned_abs() <= EXACT_MAX
    }

    /// With all digits, as a decimal is written: `3.120`.
    fn write(self, whole: Option<i128>, value: f64, text: &mut String) {
        let (Some(whole), Ok(scale)) = (whole, usize::try_from(self.0)) else {
            let _written = write!(text, "{value}");
            return;
        };
        let sign = if whole < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", whole.unsigned_abs(), width = scale + 1);
        let (before, behind) = digits.split_at(digits.len() - scale);
        let point = if behind.is_empty() { "" } else { "." };
        let _written = write!(text, "{sign}{before}{point}{behind}");
    }
}

/// The bytes without those that only repeat the sign.
fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [first, next, ..] = bytes
        && ((*first == 0 && *next < 0x80) || (*first == 0xff && 0x80 <= *next))
    {
        bytes = &bytes[1..];
    }
    bytes
}

/// The whole number, in two's complement, if it has no more than 128 bits. Of no bytes it is 0.
fn whole(bytes: &[u8]) -> Option<i128> {
    let bytes = trimmed(bytes);
    let negative = bytes.first().is_some_and(|&first| 0x80 <= first);
    let mut full = [if negative { 0xff } else { 0 }; 16];
    let from = full.len().checked_sub(bytes.len())?;
    full[from..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(full))
}

/// A longer one, to a double's digits.
fn rounded(bytes: &[u8]) -> f64 {
    let mut bytes = trimmed(bytes).iter();
    let first = bytes.next().map_or(0.0, |&first| f64::from(first as i8));
    bytes.fold(first, |value, &byte| value * 256.0 + f64::from(byte))
}

/// As RFC 9562 writes it.
pub(super) fn write_uuid(text: &mut String, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        let hyphen = if matches!(at, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        };
        let _written = write!(text, "{hyphen}{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(scale: i64, bytes: &[u8]) -> (f64, String) {
        let mut text = String::new();
        let scale = Scale::new(Some(&scale.into())).expect("a scale");
        (scale.read(bytes, Some(&mut text)), text)
    }

    #[test]
    fn numbers_worked_by_hand_are_read() {
        for (scale, bytes, value, text) in [
            (3, &[0x0c, 0x36][..], 3.126, "3.126"),
            (3, b"36", 13.11, "13.110"),
            (2, &[0xff], -0.01, "-0.01"),
            (2, &[0xff, 0xff, 0xff, 0x38], -2.0, "-2.00"),
            (0, &[42], 42.0, "42"),
            (-2, &[42], 4_200.0, "4200"),
            (5, &[], 0.0, "0.00000"),
            (0, &[0; 20], 0.0, "0"),
            // 2^127 and more: as Oracle's numbers come, with a scale of 127.
            (0, &[1; 17], 1.3385, ""),
        ] {
            let (found, written) = of(scale, bytes);
            if text.is_empty() {
                assert!((found / 2.0_f64.powi(128) - 1.003_921_568_627).abs() < 1e-9);
            } else {
                assert_eq!((found, written.as_str()), (value, text));
            }
        }
        assert_eq!(Scale::new(Some(&"3".into())), None);
        assert_eq!(Scale::new(Some(&301.into())), None);
    }

    proptest! {
        #[test]
        fn a_decimal_is_the_number_that_its_text_is(whole in any::<i128>(), small in any::<i32>(), scale in 0_i64..40, fill in 0_usize..4) {
            for whole in [whole, small.into()] {
                let sign = if whole < 0 { 0xff } else { 0 };
                let bytes = [&vec![sign; fill][..], &whole.to_be_bytes()].concat();
                let (value, text) = of(scale, &bytes);
                prop_assert_eq!(value.to_bits(), (text.parse::<f64>().unwrap() + 0.0).to_bits(), "{}", text);
            }
        }

        #[test]
        fn a_long_one_is_as_good(whole in any::<i128>(), zeros in 1_usize..8, scale in 0_i64..=127) {
            prop_assume!(whole != 0);
            let bytes = [&whole.to_be_bytes()[..], &vec![0; zeros]].concat();
            let wanted = format!("{whole}e-{scale}").parse::<f64>().unwrap() * 256_f64.powi(zeros as i32);
            let (value, _) = of(scale, &bytes);
            prop_assert!((value / wanted - 1.0).abs() < 1e-14, "{value} {wanted}");
        }
    }
}
