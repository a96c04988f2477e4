//! Numbers and times as people read them. Pure.

use lockstep_shared::text::{self, TimestampStyle};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What stands where there is nothing to say.
pub const NOTHING: &str = "–";

/// `1,234,567`.
pub fn count(number: impl TryInto<i64>) -> String {
    let number: i64 = number.try_into().unwrap_or(i64::MAX);
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('−');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 document`, `2,000 documents`.
pub fn counted(number: impl TryInto<i64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    let end = if number == 1 { "" } else { "s" };
    format!("{} {one}{end}", count(number))
}

/// Cents as `$1,234.50`.
pub fn money(cents: i64) -> String {
    let sign = if cents < 0 { "−" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}${}.{:02}", count(cents / 100), cents % 100)
}

/// Three digits and a letter, for axes: `950`, `1.2k`, `3.4M`.
pub fn short(number: f64) -> String {
    let (scaled, letter) = match number.abs() {
        n if n >= 999.5e6 => (number / 1e9, "B"),
        n if n >= 999_500.0 => (number / 1e6, "M"),
        n if n >= 1_000.0 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    format!("{}{letter}", plain(scaled))
}

/// At most three digits that count, no zeros at the end.
fn plain(number: f64) -> String {
    let decimals = match number.abs() {
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `0.2/s`, `35/s`, `1,200/s`.
pub fn per_second(rate: f64) -> String {
    if rate >= 99.95 { format!("{}/s", count(rate.round() as i64)) } else { format!("{}/s", plain(rate)) }
}

/// A real number with at most two decimals.
pub fn real(number: f64) -> String {
    if number.abs() >= 1_000.0 { count(number.round() as i64) } else { plain(number) }
}

/// `12 bytes`, `3.4 KiB`, `1.2 GiB`.
pub fn bytes(number: impl TryInto<i64>) -> String {
    let number: i64 = number.try_into().unwrap_or(i64::MAX);
    let mut scaled = number as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if scaled < 1_024.0 {
            return format!("{} {unit}", plain(scaled));
        }
        scaled /= 1_024.0;
    }
    format!("{} TiB", plain(scaled))
}

/// `0 s`, `350 ms`, `4.2 s`, `3 min`, `5 h`, `2 days`.
pub fn duration(ms: impl TryInto<i64>) -> String {
    match ms.try_into().unwrap_or(i64::MAX) {
        0 => "0 s".to_owned(),
        ms @ ..SECOND_MS => format!("{ms} ms"),
        ms @ ..MINUTE_MS => format!("{} s", plain(ms as f64 / SECOND_MS as f64)),
        ms @ ..HOUR_MS => format!("{} min", ms / MINUTE_MS),
        ms @ ..DAY_MS => format!("{} h", ms / HOUR_MS),
        ms => counted(ms / DAY_MS, "day"),
    }
}

/// `just now`, `12 s ago`.
pub fn ago(then_ms: i64, now_ms: i64) -> String {
    match (now_ms - then_ms).max(0) {
        ..SECOND_MS => "just now".to_owned(),
        ms => format!("{} ago", duration(ms / SECOND_MS * SECOND_MS)),
    }
}

/// `2021-01-01 12:00:05` in UTC.
pub fn moment(ms: i64) -> String {
    let text = ms.checked_mul(1_000).and_then(|us| text::format_timestamp(us, 0, TimestampStyle::Iso8601));
    text.map_or_else(|| ms.to_string(), |text| text.trim_end_matches('Z').replace('T', " "))
}

/// `2021-01-01 12:00` in UTC.
pub fn minute(ms: i64) -> String {
    moment(ms).chars().take(16).collect()
}

/// `2021-01-01` in UTC.
pub fn day(ms: i64) -> String {
    moment(ms).chars().take(10).collect()
}

/// `12:00:05` in UTC.
pub fn clock(ms: i64) -> String {
    moment(ms).chars().skip(11).collect()
}

/// `2021-01-01T12:00`, as a form's field has it; in UTC.
pub fn field(ms: i64) -> String {
    minute(ms).replace(' ', "T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567, -12_345].map(count), ["0", "999", "1,000", "1,234,567", "−12,345"]);
        assert_eq!([5, 123_456, -99].map(money), ["$0.05", "$1,234.56", "−$0.99"]);
        assert_eq!([0.0, 0.5, 950.0, 1_234.0, 3_400_000.0, 1e9].map(short), ["0", "0.5", "950", "1.23k", "3.4M", "1B"]);
        assert_eq!([0.0, 0.25, 35.04, 1_234.5].map(per_second), ["0/s", "0.25/s", "35/s", "1,235/s"]);
        assert_eq!([12, 3_500, 1_i64 << 31].map(bytes), ["12 bytes", "3.42 KiB", "2 GiB"]);
        assert_eq!([0, 350, 4_200, 200_000, 90_000_000].map(duration), ["0 s", "350 ms", "4.2 s", "3 min", "1 day"]);
        assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".to_owned(), "0 rows".to_owned()));
    }

    #[test]
    fn times_are_utc() {
        let ms = 1_609_459_205_000;
        assert_eq!((moment(ms), field(ms)), ("2021-01-01 00:00:05".to_owned(), "2021-01-01T00:00".to_owned()));
        assert_eq!(
            (day(ms), clock(ms), ago(ms - 5_400, ms)),
            ("2021-01-01".into(), "00:00:05".into(), "5 s ago".into())
        );
    }
}
