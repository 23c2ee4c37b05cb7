//! Go's readings of numbers, truth values and durations, and its quoting: what etcd's flags go through.

use std::time::Duration;

/// Why a value does not fit its kind, as Go's `flag` package words it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NumberError {
    /// Not a number of that kind.
    Syntax,
    /// A number, but outside of its kind's range.
    Range,
}

impl NumberError {
    /// The words of Go's `flag` package.
    pub fn text(self) -> &'static str {
        match self {
            NumberError::Syntax => "parse error",
            NumberError::Range => "value out of range",
        }
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(s: &str) -> Option<bool> {
    match s {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint(s, 0, bits)`: decimal, 0x, 0o, 0b and a leading 0 for octal, `_` between digits.
pub fn parse_uint(s: &str, bits: u32) -> Result<u64, NumberError> {
    let max = if bits >= 64 { u64::MAX } else { (1u64 << bits) - 1 };
    let value = parse_magnitude(s)?;
    u64::try_from(value).ok().filter(|v| *v <= max).ok_or(NumberError::Range)
}

/// Go's `strconv.ParseInt(s, 0, 64)`.
pub fn parse_int(s: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match s.as_bytes().first() {
        Some(b'-') => (true, &s[1..]),
        Some(b'+') => (false, &s[1..]),
        _ => (false, s),
    };
    let magnitude = i128::try_from(parse_magnitude(digits)?).map_err(|_| NumberError::Range)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| NumberError::Range)
}

/// Digits with Go's base prefixes. Saturates far above any 64-bit range, so that the callers see what is out of theirs.
fn parse_magnitude(s: &str) -> Result<u128, NumberError> {
    let lower = s.to_ascii_lowercase();
    let (base, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, &lower[..], false),
    };
    let mut value: u128 = 0;
    let mut digit_before = prefixed;
    let mut digits_seen = 0;
    for c in digits.chars() {
        if c == '_' {
            if !digit_before {
                return Err(NumberError::Syntax);
            }
            digit_before = false;
            continue;
        }
        let digit = c.to_digit(base).ok_or(NumberError::Syntax)?;
        value = value.saturating_mul(u128::from(base)).saturating_add(u128::from(digit));
        value = value.min(u128::MAX >> 1);
        digit_before = true;
        digits_seen += 1;
    }
    if digits_seen == 0 || !digit_before {
        return Err(NumberError::Syntax);
    }
    Ok(value)
}

/// Go's `time.ParseDuration`: nanoseconds, negative ones too.
///
/// # Errors
/// Go's own sentence, which etcd shows as it is.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_bytes = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_bytes);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let unit_bytes = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_bytes);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", go_quote(text)));
        }
        let Some(unit_nanos) = unit_nanos(unit) else {
            return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
        };
        total = add_term(total, whole, fraction, unit_nanos).ok_or_else(invalid)?;
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// A duration as Go's `Duration.String` writes it: `1h0m0s`, `1.5s`, `250µs`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let with_fraction = |nanos: u128, unit: u128, name: &str| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{}{dot}{fraction}{name}", nanos / unit)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => with_fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => with_fraction(nanos, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => with_fraction(nanos, 1_000_000_000, "s"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = with_fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            if minutes < 60 { format!("{minutes}m{seconds}") } else { format!("{}h{}m{seconds}", minutes / 60, minutes % 60) }
        }
    }
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `total + whole.fraction × unit`, truncated to nanoseconds as Go does; `None` when it leaves an i64.
fn add_term(total: i128, whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = total.checked_add(whole.checked_mul(unit)?)?;
    let mut scale = unit;
    let mut numerator: i128 = 0;
    let mut denominator: i128 = 1;
    // Nanoseconds of an hour have 13 digits: further decimals cannot matter.
    for c in fraction.chars().take(18) {
        numerator = numerator * 10 + i128::from(c.to_digit(10)?);
        denominator *= 10;
    }
    scale = scale.checked_mul(numerator)? / denominator;
    sum = sum.checked_add(scale)?;
    (sum <= i128::from(i64::MAX) + 1).then_some(sum)
}

/// A string as Go's `%q` writes it.
pub fn go_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5 * second),
            ("1h30m", 5400 * second),
            ("1.5h", 5400 * second),
            (".5s", second / 2),
            ("1.s", second),
            ("-5m", -300 * second),
            ("+300ms", 300_000_000),
            ("1us", 1000),
            ("1µs", 1000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("-5", "time: missing unit in duration \"-5\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            (".s", "time: invalid duration \".s\""),
            ("-", "time: invalid duration \"-\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (100_000_000, "100ms"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
            assert_eq!(parse_duration(text).map(i64::cast_unsigned), Ok(nanos));
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [("0", 0), ("10", 10), ("0x1F", 31), ("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000)] {
            assert_eq!(parse_uint(text, 64), Ok(value), "{text}");
        }
        for text in ["", "-1", "+1", "1e9", "_1", "1_", "1__0", "0x", "08", "x", " 1"] {
            assert_eq!(parse_uint(text, 64), Err(NumberError::Syntax), "{text}");
        }
        assert_eq!(parse_uint("18446744073709551615", 64), Ok(u64::MAX));
        assert_eq!(parse_uint("18446744073709551616", 64), Err(NumberError::Range));
        assert_eq!(parse_uint("4294967296", 32), Err(NumberError::Range));
        assert_eq!(parse_uint(&"9".repeat(400), 64), Err(NumberError::Range));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_int("+7"), Ok(7));
        assert_eq!(parse_int("--7"), Err(NumberError::Syntax));
    }

    #[test]
    fn truth_values_are_read_as_go_reads_them() {
        for (text, value) in [("1", Some(true)), ("True", Some(true)), ("f", Some(false)), ("yes", None), ("", None)] {
            assert_eq!(parse_bool(text), value);
        }
    }

    #[test]
    fn quoting_escapes_what_go_escapes() {
        assert_eq!(go_quote("a\"b\\c\n\x01é"), "\"a\\\"b\\\\c\\n\\x01é\"");
    }
}
