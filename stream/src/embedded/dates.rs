//! Instants as Elasticsearch reads them in queries and cuts them into intervals: milliseconds since 1970, in UTC.

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, NaiveDateTime};
use lockstep_shared::text::{self, TimestampStyle};
use serde_json::Value as Json;

const MICROS_OF_A_MILLI: i64 = 1_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// What a date becomes where only the day, the month or the year is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Its first millisecond.
    Down,
    /// Its last one.
    Up,
}

/// An instant: epoch milliseconds, ISO-8601 or SQL text, a day, or date arithmetic (`now-1d/d`, `2021-01-01||+1M`).
pub(super) fn instant(value: &Json, rounding: Rounding, now_ms: i64) -> Option<i64> {
    match value {
        Json::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Json::String(text) => match text.strip_prefix("now") {
            Some(arithmetic) => arithmetics(now_ms, arithmetic, rounding),
            None => match text.split_once("||") {
                Some((anchor, arithmetic)) => arithmetics(plain(anchor, Rounding::Down)?, arithmetic, rounding),
                None => plain(text, rounding),
            },
        },
        _ => None,
    }
}

fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// An instant without arithmetic.
pub(super) fn plain(text: &str, rounding: Rounding) -> Option<i64> {
    let (day, unit) = match text.len() {
        4 => (format!("{text}-01-01"), Unit::Year),
        7 => (format!("{text}-01"), Unit::Month),
        _ => (text.to_owned(), Unit::Day),
    };
    if let Some(days) = text::parse_date(&day) {
        let begin = i64::from(days) * DAY_MS;
        return if rounding == Rounding::Up { Some(unit.add(begin, 1)? - 1) } else { Some(begin) };
    }
    if let Some(micros) = text::parse_timestamp(text) {
        return Some(micros.div_euclid(MICROS_OF_A_MILLI));
    }
    text.parse().ok()
}

/// `-1d`, `+2M/M` and so on, applied from left to right.
fn arithmetics(from_ms: i64, text: &str, rounding: Rounding) -> Option<i64> {
    let (mut at_ms, mut rest) = (from_ms, text);
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: i64 = if digits == 0 { 1 } else { rest[..digits].parse().ok()? };
        let unit = rest[digits..].chars().next()?;
        rest = &rest[digits + unit.len_utf8()..];
        let unit = Unit::of_letter(unit)?;
        at_ms = match sign {
            '+' => unit.add(at_ms, count)?,
            '-' => unit.add(at_ms, count.checked_neg()?)?,
            '/' if digits == 0 && rounding == Rounding::Up => unit.add(unit.floor(at_ms)?, 1)? - 1,
            '/' if digits == 0 => unit.floor(at_ms)?,
            _ => return None,
        };
    }
    Some(at_ms)
}

/// `2021-01-01T00:00:00.000Z`; the number itself outside the years 1 to 9999.
pub(super) fn iso(ms: i64) -> String {
    let micros = ms.checked_mul(MICROS_OF_A_MILLI);
    micros
        .and_then(|micros| text::format_timestamp(micros, 3, TimestampStyle::Iso8601))
        .unwrap_or_else(|| ms.to_string())
}

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    /// The unit of date arithmetic that a letter stands for.
    fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            's' => Self::Second,
            'm' => Self::Minute,
            'h' | 'H' => Self::Hour,
            'd' => Self::Day,
            'w' => Self::Week,
            'M' => Self::Month,
            'y' => Self::Year,
            _ => return None,
        })
    }

    /// The unit of a `calendar_interval`: `month`, `1M`, `M`.
    pub(super) fn of_interval(text: &str) -> Option<Self> {
        Some(match text {
            "second" | "1s" => Self::Second,
            "minute" | "1m" => Self::Minute,
            "hour" | "1h" => Self::Hour,
            "day" | "1d" => Self::Day,
            "week" | "1w" => Self::Week,
            "month" | "1M" => Self::Month,
            "quarter" | "1q" => Self::Quarter,
            "year" | "1y" => Self::Year,
            _ => return None,
        })
    }

    fn length_ms(self) -> Option<i64> {
        Some(match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => DAY_MS,
            Self::Week => 7 * DAY_MS,
            Self::Month | Self::Quarter | Self::Year => return None,
        })
    }

    /// The first instant of the unit that an instant lies in. Weeks begin on Monday; 1970 began on a Thursday.
    pub(super) fn floor(self, ms: i64) -> Option<i64> {
        if let Some(length) = self.length_ms() {
            let shift = if self == Self::Week { 3 * DAY_MS } else { 0 };
            return ms.checked_add(shift).map(|shifted| shifted.div_euclid(length) * length - shift);
        }
        let date = date_time(ms)?.date();
        let month = match self {
            Self::Year => 1,
            Self::Quarter => date.month0() / 3 * 3 + 1,
            _ => date.month(),
        };
        NaiveDate::from_ymd_opt(date.year(), month, 1)?.and_hms_opt(0, 0, 0).map(millis)
    }

    /// So many units later, by the calendar.
    pub(super) fn add(self, ms: i64, count: i64) -> Option<i64> {
        let months = match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
            _ => return ms.checked_add(self.length_ms()?.checked_mul(count)?),
        };
        let at = date_time(ms)?;
        let months_away = Months::new(u32::try_from(count.unsigned_abs().checked_mul(months)?).ok()?);
        let moved = if count < 0 { at.checked_sub_months(months_away) } else { at.checked_add_months(months_away) };
        moved.map(millis)
    }
}

fn date_time(ms: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_millis(ms).map(|at| at.naive_utc())
}

fn millis(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_millis()
}

/// How an axis of time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interval {
    /// Into pieces of one length, from 1970 on.
    Fixed { length_ms: i64 },
    /// Into units of the calendar.
    Calendar(Unit),
}

impl Interval {
    /// The first instant of the piece that an instant lies in.
    pub(super) fn floor(self, ms: i64) -> Option<i64> {
        match self {
            Self::Fixed { length_ms } => Some(ms.div_euclid(length_ms) * length_ms),
            Self::Calendar(unit) => unit.floor(ms),
        }
    }

    /// The first instant of the next piece.
    pub(super) fn next(self, ms: i64) -> Option<i64> {
        match self {
            Self::Fixed { length_ms } => ms.checked_add(length_ms),
            Self::Calendar(unit) => unit.add(ms, 1),
        }
    }
}

/// A length of time: `500ms`, `30s`, `5m`, `1h`, `7d`.
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count: i64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => Duration::milliseconds(1),
        "s" => Duration::seconds(1),
        "m" => Duration::minutes(1),
        "h" => Duration::hours(1),
        "d" => Duration::days(1),
        _ => return None,
    };
    count.checked_mul(unit.num_milliseconds())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> i64 {
        plain(text, Rounding::Down).unwrap()
    }

    #[test]
    fn an_instant_is_read_as_elasticsearch_reads_it() {
        let now = at("2024-02-29T12:34:56Z");
        let read = |value: Json, rounding| iso(instant(&value, rounding, now).unwrap());
        assert_eq!(read(json!("now-1d/d"), Rounding::Down), "2024-02-28T00:00:00.000Z");
        assert_eq!(read(json!("now/d"), Rounding::Up), "2024-02-29T23:59:59.999Z");
        assert_eq!(read(json!("2024-01-31||+1M"), Rounding::Down), "2024-02-29T00:00:00.000Z");
        assert_eq!(read(json!("2024-01-31"), Rounding::Up), "2024-01-31T23:59:59.999Z");
        assert_eq!(read(json!("2024-02"), Rounding::Up), "2024-02-29T23:59:59.999Z");
        assert_eq!(read(json!("2024"), Rounding::Down), "2024-01-01T00:00:00.000Z");
        assert_eq!(read(json!(1_609_459_200_000_i64), Rounding::Down), "2021-01-01T00:00:00.000Z");
        for nonsense in ["now+", "now*2d", "yesterday", "2024-01-31||/2d", "now+99999999999999999999d", "now+1é"] {
            assert_eq!(instant(&json!(nonsense), Rounding::Down, now), None, "{nonsense}");
        }
    }

    #[test]
    fn an_axis_is_cut_by_the_calendar() {
        let day = at("2024-11-07T10:00:00Z");
        let floor = |unit: Unit| iso(unit.floor(day).unwrap());
        assert_eq!(floor(Unit::Week), "2024-11-04T00:00:00.000Z");
        assert_eq!(floor(Unit::Month), "2024-11-01T00:00:00.000Z");
        assert_eq!(floor(Unit::Quarter), "2024-10-01T00:00:00.000Z");
        assert_eq!(floor(Unit::Year), "2024-01-01T00:00:00.000Z");
        assert_eq!(iso(Interval::Calendar(Unit::Month).next(at("2024-12-01")).unwrap()), "2025-01-01T00:00:00.000Z");
        assert_eq!(duration_ms("90m"), Some(5_400_000));
        assert_eq!(duration_ms("1M"), None);
    }
}
