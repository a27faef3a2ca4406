//! JSON numbers, read in place: the grammar of RFC 8259 exactly, the value rounded as IEEE 754 asks.
//!
//! Up to 2^53 and within 10^±22 a decimal is one multiplication or division of two exact doubles (W. D. Clinger, "How to read floating
//! point numbers accurately", PLDI 1990); beyond, the standard library's parser, which rounds correctly too. Digits are taken eight at a time.

/// The powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// 10^n for n digits taken at once.
const TENS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Integers up to here are exact in a double.
const EXACT_MAX: u64 = 1 << 53;

/// Digits that always fit in 64 bits.
const DIGITS_MAX: usize = 19;

/// Reads the number that begins at `at`: its value and the place after it; `None` if there is none by JSON's grammar.
///
/// Too large a number is an infinity. The longest number is taken: of `012` only `0`, so whoever calls looks at what follows.
#[inline]
pub(super) fn scan(text: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let from = at + usize::from(negative);
    let (mut mantissa, mut end) = match text.get(from)? {
        b'0' => (0, from + 1),
        b'1'..=b'9' => digits(text, from, 0),
        _ => return None,
    };
    let mut count = end - from;
    let mut exponent = 0_i64;
    if text.get(end) == Some(&b'.') {
        let after = end + 1;
        (mantissa, end) = digits(text, after, mantissa);
        let fraction = end - after;
        if fraction == 0 {
            return None;
        }
        count += fraction;
        exponent = -(fraction as i64);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let (written, after) = exponent_part(text, end + 1)?;
        exponent = exponent.saturating_add(written);
        end = after;
    }
    if count <= DIGITS_MAX && mantissa <= EXACT_MAX && (-22..=22).contains(&exponent) {
        let power = POWERS[exponent.unsigned_abs() as usize];
        let value = if exponent < 0 {
            mantissa as f64 / power
        } else {
            mantissa as f64 * power
        };
        return Some((if negative { -value } else { value }, end));
    }
    let value = std::str::from_utf8(&text[at..end]).ok()?.parse().ok()?;
    Some((value, end))
}

/// A number that a text is, all of it but blanks around it: by JSON's grammar, or by the wider one of CSV files (`+5`, `.5`, `NaN`, `inf`).
pub(crate) fn written(text: &str) -> Option<f64> {
    let text = text.trim();
    match scan(text.as_bytes(), 0) {
        Some((value, end)) if end == text.len() => Some(value),
        _ => text.parse().ok(),
    }
}

/// How a short number was written: so many digits before the point, and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    whole: u8,
    fraction: u8,
}

impl Shape {
    /// The shape of the number without an exponent that lies between two places, if all of it without its sign are at most eight bytes.
    pub fn of(text: &[u8], (from, end): (usize, usize)) -> Option<Self> {
        let text = text.get(from..end)?;
        let text = text.strip_prefix(b"-").unwrap_or(text);
        if text.len() > 8 {
            return None;
        }
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &text[..0]),
        };
        (!whole.is_empty() && digits(whole) && digits(fraction)).then_some(Self {
            whole: whole.len() as u8,
            fraction: fraction.len() as u8,
        })
    }

    /// Reads a number that is written like this, to the same bits as [`scan`]. Where it ends does not depend on what is read, so the processor can go
    /// on to the next before this one is known. `None` for what is written otherwise, and for what no comma or bracket follows.
    #[inline]
    pub fn scan(self, text: &[u8], at: usize) -> Option<(f64, usize)> {
        let (whole, fraction) = (u32::from(self.whole), u32::from(self.fraction));
        let negative = text.get(at) == Some(&b'-');
        let from = at + usize::from(negative);
        let written = u64::from_le_bytes(*text.get(from..)?.first_chunk::<8>()?);
        let values = written ^ 0x3030_3030_3030_3030;
        let (digits, length) = if fraction > 0 {
            let point = 8 * whole;
            if (written >> point) & 0xff != u64::from(b'.') {
                return None;
            }
            let before = values & ((1 << point) - 1);
            let after = (values >> point) >> 8;
            (before | (after << point), whole + 1 + fraction)
        } else {
            (values, whole)
        };
        // In front of the first digit are zeros, and what lies behind the last is gone.
        let digits = digits << (8 * (8 - whole - fraction));
        let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
        let leading_zero = whole > 1 && values as u8 == 0;
        let end = from + length as usize;
        if others != 0 || leading_zero || !matches!(text.get(end), Some(b',' | b'}' | b']')) {
            return None;
        }
        let value = eight(digits) as f64 / POWERS[fraction as usize];
        Some((if negative { -value } else { value }, end))
    }
}

/// The digits from `at` on, appended to `mantissa`, and the place after them. Wraps beyond [`DIGITS_MAX`] digits.
#[inline]
fn digits(text: &[u8], mut at: usize, mut mantissa: u64) -> (u64, usize) {
    while let Some(chunk) = text.get(at..at + 8).and_then(<[u8]>::first_chunk::<8>) {
        // A digit is a byte that differs from b'0' by at most 9. A carry can only spoil bytes after the first that is not a digit.
        let values = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        let n = others.trailing_zeros() as usize / 8;
        if n == 0 {
            return (mantissa, at);
        }
        mantissa = mantissa
            .wrapping_mul(TENS[n])
            .wrapping_add(eight(values << (64 - 8 * n)));
        at += n;
        if n < 8 {
            return (mantissa, at);
        }
    }
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        mantissa = mantissa
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    (mantissa, at)
}

/// Eight digit values, the first in the lowest byte, as one number: pairs, then fours, then all.
#[inline]
fn eight(values: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00FF_0000_00FF;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let high = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// The exponent after `e`, saturating, and the place after it.
fn exponent_part(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let (negative, from) = match text.get(at)? {
        b'-' => (true, at + 1),
        b'+' => (false, at + 1),
        _ => (false, at),
    };
    let mut end = from;
    let mut value = 0_i64;
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        value = value
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'));
        end += 1;
    }
    (end > from).then_some((if negative { -value } else { value }, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What serde_json makes of `text`, with out of range as an infinity.
    fn oracle(text: &str) -> Option<f64> {
        match serde_json::from_str::<f64>(text) {
            Ok(value) => Some(value),
            // serde_json says "out of range" before it has seen the end of the text: the grammar is asked for by itself.
            Err(error)
                if error.to_string().starts_with("number out of range")
                    && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() =>
            {
                Some(if text.starts_with('-') {
                    f64::NEG_INFINITY
                } else {
                    f64::INFINITY
                })
            }
            Err(_) => None,
        }
    }

    fn whole(text: &str) -> Option<f64> {
        scan(text.as_bytes(), 0)
            .filter(|(_, end)| *end == text.len())
            .map(|(value, _)| value)
    }

    fn check(text: &str) {
        assert_eq!(
            whole(text).map(f64::to_bits),
            oracle(text).map(f64::to_bits),
            "{text}"
        );
    }

    /// Numbers and what is none, at the edges of the grammar and of f64.
    const EDGES: &[&str] = &[
        "0",
        "-0",
        "0.0",
        "-0.0",
        "00",
        "01",
        "-01",
        "+1",
        "1.",
        ".5",
        "-.5",
        "1.e3",
        "1e",
        "1e+",
        "1e-",
        "1E5",
        "1e+5",
        "1e-5",
        "-",
        "",
        "inf",
        "NaN",
        "Infinity",
        "-inf",
        "0x10",
        "1_000",
        "1.5.2",
        "1e5e5",
        "9007199254740992",
        "9007199254740993",
        "9007199254740993.0",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "0.1",
        "0.30000000000000004",
        "1e22",
        "1e23",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e309",
        "1e999",
        "-1e999",
        "1e-999",
        "5e-324",
        "2e-324",
        "2.2250738585072011e-308",
        "0e999",
        "0e99999999999999999999",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "0.000000000000000000000000000001",
        "12345678",
        "123456789",
        "1234567.8",
        "1.2345678",
        "1.23456789012345678",
        "0.00000000000000000001e20",
        "99999999999999999999e-20",
        "١",
    ];

    #[test]
    fn grammar_and_edges_are_those_of_serde_json() {
        for text in EDGES {
            check(text);
        }
        assert_eq!(whole("-12.5e1"), Some(-125.0));
        assert_eq!(whole("-0").map(f64::is_sign_negative), Some(true));
    }

    #[test]
    fn a_number_ends_where_its_grammar_does() {
        assert_eq!(scan(b"012", 0), Some((0.0, 1)));
        assert_eq!(scan(b"x12.5,", 1), Some((12.5, 5)));
        assert_eq!(scan(b"12345678901,", 0), Some((12_345_678_901.0, 11)));
        assert_eq!(scan(b"1.5e,", 0), None);
    }

    #[test]
    fn what_is_written_alike_is_read_alike() {
        let shape = |text: &str| Shape::of(text.as_bytes(), (0, text.len()));
        let like = shape("5.123456").unwrap();
        assert_eq!(like.scan(b"9.000001,\"f\"", 0), Some((9.000_001, 8)));
        assert_eq!(like.scan(b"x-0.120000}", 1), Some((-0.12, 10)));
        assert_eq!(like.scan(b"9.0000019,", 0), None);
        for other in [
            "12.34567,",
            "1.23456,\"",
            "1,234567,",
            "1.23456e5",
            "1.2345-7",
        ] {
            assert_eq!(like.scan(other.as_bytes(), 0), None, "{other}");
        }
        // Too near the end to be read at once.
        assert_eq!(like.scan(b"1.23456", 0), None);
        assert_eq!(shape("21").unwrap().scan(b"01,      ", 0), None);
        assert_eq!(shape("2").unwrap().scan(b"0,       ", 0), Some((0.0, 1)));
        for not in ["1e5", "123456789", "1.2345678", "", "-", ".5"] {
            assert_eq!(shape(not), None, "{not}");
        }
    }

    proptest! {
        #[test]
        fn by_its_own_shape_every_short_number_is_read_to_the_same_bits(
            text in "-?(0|[1-9][0-9]{0,7})(\\.[0-9]{1,6})?",
            behind in "[,}\\]]{8,9}",
        ) {
            if let Some(shape) = Shape::of(text.as_bytes(), (0, text.len())) {
                let all = format!("{text}{behind}");
                let (found, expected) = (shape.scan(all.as_bytes(), 0), scan(all.as_bytes(), 0));
                prop_assert_eq!(found.map(|f| (f.0.to_bits(), f.1)), expected.map(|f| (f.0.to_bits(), f.1)));
            }
        }

        #[test]
        fn by_another_shape_a_number_is_refused_or_read_to_the_same_bits(
            like in "(0|[1-9][0-9]{0,7})(\\.[0-9]{1,6})?",
            text in "[-0-9.eE]{1,9}[,}]{9}",
        ) {
            let shape = Shape::of(like.as_bytes(), (0, like.len()));
            if let Some((value, end)) = shape.and_then(|shape| shape.scan(text.as_bytes(), 0)) {
                let expected = scan(text.as_bytes(), 0).map(|found| (found.0.to_bits(), found.1));
                prop_assert_eq!(Some((value.to_bits(), end)), expected, "{}", text);
            }
        }

        #[test]
        fn every_number_text_agrees(text in "-?[0-9]{1,21}(\\.[0-9]{0,25})?([eE][+-]?[0-9]{0,4})?") {
            check(&text);
        }

        #[test]
        fn printed_doubles_come_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(whole(&text).map(f64::to_bits), Some(bits), "{}", text);
            }
        }

        #[test]
        fn near_numbers_agree(text in "[-+0-9.eE]{1,12}") {
            check(&text);
        }
    }
}
