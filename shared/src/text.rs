//! Values as text: how a decimal, a date and a timestamp are read and written, in one place for every layer.
//!
//! Years outside 1 to 9999 are not read: no index and no Parquet reader agrees on them.

use std::ops::Range;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use crate::types::DataType;
use crate::value::Value;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds of one day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// What stands between date and time, and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampStyle {
    /// `2021-01-01T00:00:00.000Z`, as in documents.
    Iso8601,
    /// `2021-01-01 00:00:00.000`, as in SQL.
    Sql,
}

/// The years 1 to 9999 in microseconds since 1970.
const TIMESTAMPS: Range<i64> = -62_135_596_800 * MICROS_PER_SECOND..253_402_300_800 * MICROS_PER_SECOND;

/// True within the years 1 to 9999.
#[must_use]
#[inline]
pub fn is_timestamp(micros: i64) -> bool {
    TIMESTAMPS.contains(&micros)
}

/// Microseconds since 1970 as UTC date and time; `None` outside the years 1 to 9999.
#[must_use]
pub fn date_time(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).filter(|_| is_timestamp(micros))
}

/// Days since 1970 as a date; `None` outside the years 1 to 9999.
#[must_use]
pub fn date(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(days).filter(|d| (1..=9999).contains(&d.year()))
}

/// `micros` without what is finer than `precision` fractional digits of a second.
#[must_use]
pub fn truncate_timestamp(micros: i64, precision: u8) -> i64 {
    let unit = 10_i64.pow(u32::from(6 - precision.min(6)));
    micros.div_euclid(unit) * unit
}

/// Reads `YYYY-MM-DD`.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    let (y, m, d) = (text.get(0..4)?, text.get(5..7)?, text.get(8..10)?);
    if text.len() != 10 || text.as_bytes()[4] != b'-' || text.as_bytes()[7] != b'-' {
        return None;
    }
    let days = NaiveDate::from_ymd_opt(digits(y)?.try_into().ok()?, digits(m)?, digits(d)?)?;
    Some(days.to_epoch_days()).filter(|_| days.year() >= 1)
}

/// Reads `YYYY-MM-DD HH:MM:SS[.fraction]` with a space or a `T` between, and ISO-8601's `Z` or `±HH:MM` after it; digits finer
/// than a microsecond are dropped. Without a zone it is UTC.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let (days, rest) = (parse_date(text.get(..10)?)?, text.get(10..)?);
    let time = rest.strip_prefix([' ', 'T'])?;
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let micros = parse_time(&time[..zone_at])?;
    let utc = i64::from(days) * MICROS_PER_DAY + micros - parse_zone(&time[zone_at..])? * MICROS_PER_SECOND;
    is_timestamp(utc).then_some(utc)
}

fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(c, f)| (c, Some(f)));
    let bytes = clock.as_bytes();
    if bytes.len() != 8 || bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let time = NaiveTime::from_hms_opt(digits(clock.get(..2)?)?, digits(clock.get(3..5)?)?, digits(clock.get(6..)?)?)?;
    let micros = match fraction {
        None => 0,
        Some(f) if f.is_empty() || f.len() > 9 => return None,
        Some(f) => i64::from(digits(f)?) * 10_i64.pow(9 - f.len() as u32) / 1000,
    };
    Some(i64::from(time.num_seconds_from_midnight()) * MICROS_PER_SECOND + micros)
}

/// The offset east of UTC in seconds.
fn parse_zone(text: &str) -> Option<i64> {
    let sign = match text.as_bytes() {
        [] | [b'Z'] => return Some(0),
        [b'+', ..] => 1,
        _ => -1,
    };
    let hours_minutes = &text[1..];
    let (hours, minutes) = match hours_minutes.split_once(':') {
        Some(parts) => parts,
        None => (hours_minutes.get(..2)?, hours_minutes.get(2..)?),
    };
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Writes a timestamp with `precision` fractional digits; `None` outside the years 1 to 9999.
#[must_use]
pub fn format_timestamp(micros: i64, precision: u8, style: TimestampStyle) -> Option<String> {
    let t = date_time(micros)?;
    let (between, after) = if style == TimestampStyle::Iso8601 { ('T', "Z") } else { (' ', "") };
    let (y, mo, d, h, mi, s) = (t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
    let mut text = format!("{y:04}-{mo:02}-{d:02}{between}{h:02}:{mi:02}:{s:02}");
    if precision > 0 {
        let fraction = format!("{:06}", micros.rem_euclid(MICROS_PER_SECOND));
        text.push('.');
        text.push_str(&fraction[..usize::from(precision.min(6))]);
    }
    text.push_str(after);
    Some(text)
}

/// Writes a date as `YYYY-MM-DD`; `None` outside the years 1 to 9999.
#[must_use]
pub fn format_date(days: i32) -> Option<String> {
    date(days).map(|d| format!("{:04}-{:02}-{:02}", d.year(), d.month(), d.day()))
}

/// Reads a decimal number, with an exponent or without, as the unscaled number of DECIMAL(precision, scale). More fractional
/// digits than the scale are rounded half up, away from zero, as in Flink; `None` where the digits do not fit.
#[must_use]
pub fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    let magnitude = scaled(&all, point + i64::from(scale))?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (magnitude < limit).then_some(if negative { -magnitude } else { magnitude })
}

/// The first `length` digits as a number, zeros appended where there are fewer, rounded by the digit that follows.
fn scaled(digits: &[u8], length: i64) -> Option<i128> {
    let mut number: i128 = 0;
    let significant =
        digits.iter().position(|d| *d != b'0').map_or(length, |first| i64::try_from(first).unwrap_or(i64::MAX));
    if length - significant > 39 {
        return None;
    }
    for at in significant.max(0)..length {
        let digit = usize::try_from(at).ok().and_then(|at| digits.get(at)).map_or(0, |d| d - b'0');
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    let next = usize::try_from(length).ok().and_then(|at| digits.get(at)).is_some_and(|d| *d >= b'5');
    number.checked_add(next.into())
}

/// Writes a decimal with all digits of its scale: `12.50`.
#[must_use]
pub fn format_decimal(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let width = usize::from(scale) + 1;
    let digits = format!("{:0width$}", unscaled.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A value as text for people and for document ids: strings as they are, timestamps as ISO-8601, NULL as `NULL`.
#[must_use]
pub fn display(value: &Value, data_type: DataType) -> String {
    match (value, data_type) {
        (Value::Null, _) => "NULL".into(),
        (Value::Boolean(v), _) => v.to_string(),
        (Value::Integer(v), _) => v.to_string(),
        (Value::Float(v), _) => v.to_string(),
        (Value::Double(v), _) => v.to_string(),
        (Value::Decimal(v), DataType::Decimal { scale, .. }) => format_decimal(*v, scale),
        (Value::Decimal(v), _) => v.to_string(),
        (Value::String(v), _) => v.to_string(),
        (Value::Date(v), _) => format_date(*v).unwrap_or_else(|| v.to_string()),
        (Value::Timestamp(v), DataType::Timestamp { precision } | DataType::TimestampLtz { precision }) => {
            format_timestamp(*v, precision, TimestampStyle::Iso8601).unwrap_or_else(|| v.to_string())
        }
        (Value::Timestamp(v), _) => v.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_in_every_form_and_written_in_utc() {
        let micros = 1_609_459_200_123_456;
        for text in [
            "2021-01-01 00:00:00.123456",
            "2021-01-01T00:00:00.123456789Z",
            "2021-01-01T02:00:00.123456+02:00",
            "2020-12-31T22:30:00.123456-0130",
        ] {
            assert_eq!(parse_timestamp(text), Some(micros), "{text}");
        }
        assert_eq!(format_timestamp(micros, 3, TimestampStyle::Iso8601).as_deref(), Some("2021-01-01T00:00:00.123Z"));
        assert_eq!(format_timestamp(-1, 6, TimestampStyle::Sql).as_deref(), Some("1969-12-31 23:59:59.999999"));
        assert_eq!(truncate_timestamp(-1, 3), -1000);
    }

    #[test]
    fn timestamps_are_those_of_the_years_1_to_9999() {
        let micros = |year: i32| {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(NaiveTime::MIN);
            first.and_utc().timestamp_micros()
        };
        assert_eq!(TIMESTAMPS, micros(1)..micros(10_000));
    }

    #[test]
    fn what_is_no_timestamp_is_not_read() {
        for text in [
            "",
            "2021-01-01",
            "2021-13-01 00:00:00",
            "2021-01-01 24:00:00",
            "2021-01-01 00:00:00.",
            "2021-01-01x00:00:00",
            "２０21-01-01 00:00:00",
            "0000-01-01 00:00:00",
            "2021-01-01 00:00:00+25:00",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_decimal_is_rounded_half_up_and_refused_where_it_does_not_fit() {
        for (text, unscaled) in [
            ("12.5", Some(1250)),
            ("-0.005", Some(-1)),
            ("0.004", Some(0)),
            ("1e2", Some(10000)),
            ("1.25E-1", Some(13)),
            ("999.994", Some(99_999)),
            ("999.995", None),
            ("1000", None),
            ("abc", None),
            ("", None),
            ("0e99", Some(0)),
            (".5", Some(50)),
        ] {
            assert_eq!(parse_decimal(text, 5, 2), unscaled, "{text}");
        }
        assert_eq!(format_decimal(-5, 2), "-0.05");
        assert_eq!(format_decimal(1250, 0), "1250");
    }
}
