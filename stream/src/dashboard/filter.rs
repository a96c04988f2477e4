//! Which documents a panel looks at: a range of time, a state, a brand. Also how long the buckets of a range are.

use lockstep_shared::text::{self, TimestampStyle};
use serde::Serialize;
use serde_json::{Value as Json, json};

const MICROS_OF_A_MILLI: i64 = 1_000;
/// Most points of a line: more are neither seen apart on a screen nor quick to draw.
const MOST_BUCKETS: i64 = 120;
/// Longest text of a filter, as the longest that an index searches by.
const LONGEST_TEXT_CHARS: usize = 8_191;

/// What documents are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// When it happened.
    Time,
    /// The state of the customer.
    State,
    /// The brand of the product.
    Brand,
}

impl Criterion {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::State => "state",
            Self::Brand => "brand",
        }
    }
}

/// What is looked at. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// From this moment on, in milliseconds of the epoch.
    pub from_ms: Option<i64>,
    /// Before this moment, in milliseconds of the epoch.
    pub to_ms: Option<i64>,
    /// Only customers of this state.
    pub state: Option<String>,
    /// Only products of this brand.
    pub brand: Option<String>,
}

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No moment.
    #[error("'{name}' is '{found}'; write milliseconds of the epoch, or a time such as 2021-01-01T00:00:00Z")]
    Moment {
        /// `from` or `to`.
        name: &'static str,
        /// What it is.
        found: String,
    },
    /// It ends before it begins.
    #[error("'from' ({from_ms}) is not before 'to' ({to_ms}); the range of time is [from, to)")]
    Empty {
        /// Its begin.
        from_ms: i64,
        /// Its end.
        to_ms: i64,
    },
    /// No name.
    #[error("'{name}' has {chars} characters; at most {LONGEST_TEXT_CHARS} can be searched for")]
    Long {
        /// `state` or `brand`.
        name: &'static str,
        /// Its length.
        chars: usize,
    },
}

impl Filter {
    /// From text, as a person or a page writes it; what is empty is not set.
    ///
    /// # Errors
    /// Where a moment cannot be read, the range is empty, or a text is too long.
    pub fn parse(given: impl Fn(&'static str) -> Option<String>) -> Result<Self, FilterError> {
        let given = |name| given(name).filter(|text| !text.is_empty());
        let at = |name| given(name).map(|text| moment(name, &text)).transpose();
        let text = |name| match given(name).map(|text| (text.chars().count(), text)) {
            Some((chars, _)) if chars > LONGEST_TEXT_CHARS => Err(FilterError::Long { name, chars }),
            found => Ok(found.map(|(_, text)| text)),
        };
        let filter = Self { from_ms: at("from")?, to_ms: at("to")?, state: text("state")?, brand: text("brand")? };
        match (filter.from_ms, filter.to_ms) {
            (Some(from_ms), Some(to_ms)) if from_ms >= to_ms => Err(FilterError::Empty { from_ms, to_ms }),
            _ => Ok(filter),
        }
    }

    /// The criteria that are set.
    #[must_use]
    pub fn criteria(&self) -> Vec<Criterion> {
        let set = [
            (self.from_ms.is_some() || self.to_ms.is_some(), Criterion::Time),
            (self.state.is_some(), Criterion::State),
            (self.brand.is_some(), Criterion::Brand),
        ];
        set.into_iter().filter_map(|(is_set, criterion)| is_set.then_some(criterion)).collect()
    }

    /// This filter, its open ends closed by the range in the answer to a bounds request; unchanged where that found nothing.
    #[must_use]
    pub fn within(&self, bounds: &Json) -> Self {
        let at = |name: &str| bounds["aggregations"][name]["value"].as_f64().map(|ms| ms as i64);
        Self {
            from_ms: self.from_ms.or(at("first")),
            // The range ends before its end, so one past the last document.
            to_ms: self.to_ms.or(at("last").map(|ms| ms + 1)),
            ..self.clone()
        }
    }

    /// The length of time buckets that fits the range; days where an end is open.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let (Some(from), Some(to)) = (self.from_ms, self.to_ms) else { return Interval::Day };
        let range_ms = to.saturating_sub(from);
        let fits = |interval: &Interval| range_ms / interval.shortest_ms() < MOST_BUCKETS;
        Interval::ALL.into_iter().find(fits).unwrap_or(Interval::Year)
    }

    /// The clauses of a `bool` query's `filter` that choose by those of `criteria` that are set.
    pub(super) fn clauses(&self, criteria: &[Criterion]) -> Vec<Json> {
        let chosen = self.criteria().into_iter().filter(|criterion| criteria.contains(criterion));
        let clause = |criterion| match criterion {
            Criterion::State => json!({"term": {"state": {"value": self.state}}}),
            Criterion::Brand => json!({"term": {"brand": {"value": self.brand}}}),
            Criterion::Time => {
                let mut bounds = serde_json::Map::new();
                let ends = [("gte", self.from_ms), ("lt", self.to_ms)];
                for (name, ms) in ends.into_iter().filter_map(|(name, ms)| Some((name, ms?))) {
                    bounds.insert(name.to_owned(), json!(iso(ms)));
                }
                json!({"range": {"ts": bounds}})
            }
        };
        chosen.map(clause).collect()
    }
}

/// The moment as the indexes hold it.
fn iso(ms: i64) -> Option<String> {
    text::format_timestamp(ms.checked_mul(MICROS_OF_A_MILLI)?, 3, TimestampStyle::Iso8601)
}

fn moment(name: &'static str, text: &str) -> Result<i64, FilterError> {
    // A browser's field for date and time leaves the seconds out.
    let written = || text::parse_timestamp(text).or_else(|| text::parse_timestamp(&format!("{text}:00")));
    let ms = text.parse().ok().or_else(|| written().map(|micros| micros.div_euclid(MICROS_OF_A_MILLI)));
    // Only what can be written down again is a moment.
    ms.filter(|ms| iso(*ms).is_some()).ok_or_else(|| FilterError::Moment { name, found: text.to_owned() })
}

/// The length of a time bucket. Buckets begin at whole multiples of it since midnight (UTC), weeks on Mondays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// Ten minutes.
    TenMinutes,
    /// An hour.
    Hour,
    /// Six hours.
    SixHours,
    /// A day.
    Day,
    /// A week from Monday on.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Interval {
    /// From the shortest to the longest.
    pub const ALL: [Self; 9] = [
        Self::Second,
        Self::Minute,
        Self::TenMinutes,
        Self::Hour,
        Self::SixHours,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
    ];

    /// How long the shortest of its buckets is.
    #[must_use]
    pub fn shortest_ms(self) -> i64 {
        const DAY_MS: i64 = 86_400_000;
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::TenMinutes => 600_000,
            Self::Hour => 3_600_000,
            Self::SixHours => 6 * 3_600_000,
            Self::Day => DAY_MS,
            Self::Week => 7 * DAY_MS,
            Self::Month => 28 * DAY_MS,
            Self::Year => 365 * DAY_MS,
        }
    }

    /// How a `date_histogram` is told.
    pub(super) fn option(self) -> (&'static str, &'static str) {
        match self {
            Self::Second => ("fixed_interval", "1s"),
            Self::Minute => ("fixed_interval", "1m"),
            Self::TenMinutes => ("fixed_interval", "10m"),
            Self::Hour => ("fixed_interval", "1h"),
            Self::SixHours => ("fixed_interval", "6h"),
            Self::Day => ("fixed_interval", "1d"),
            Self::Week => ("calendar_interval", "week"),
            Self::Month => ("calendar_interval", "month"),
            Self::Year => ("calendar_interval", "year"),
        }
    }

    /// The begin of the bucket after the one that begins at `ms`.
    #[must_use]
    pub fn next(self, ms: i64) -> i64 {
        let months = match self {
            Self::Month => 1,
            Self::Year => 12,
            _ => return ms + self.shortest_ms(),
        };
        let begin = text::date_time(ms * MICROS_OF_A_MILLI);
        let next = begin.and_then(|at| at.checked_add_months(chrono::Months::new(months)));
        next.map_or(i64::MAX, |at| at.and_utc().timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(given: &[(&str, &str)]) -> Result<Filter, FilterError> {
        Filter::parse(|name| given.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn moments_are_milliseconds_or_text_and_a_range_is_not_empty() {
        let read = filter(&[("from", "1609459200000"), ("to", "2021-01-02T00:00:00Z"), ("state", "")]).unwrap();
        assert_eq!(read.to_ms.unwrap() - read.from_ms.unwrap(), 86_400_000);
        assert_eq!(read.criteria(), [Criterion::Time]);
        let refused = |from, to| filter(&[("from", from), ("to", to)]).unwrap_err().to_string();
        assert!(refused("soon", "").contains("'from' is 'soon'; write milliseconds"));
        assert!(refused("9999999999999999", "").contains("'from' is '9999999999999999'"));
        assert_eq!(refused("7", "7"), "'from' (7) is not before 'to' (7); the range of time is [from, to)");
    }

    #[test]
    fn buckets_fit_the_range_and_follow_one_another() {
        const HOUR_MS: i64 = 3_600_000;
        let interval = |range_ms| Filter { from_ms: Some(0), to_ms: Some(range_ms), ..Filter::default() }.interval();
        let ranges = [HOUR_MS / 60, HOUR_MS, 14 * HOUR_MS, 100 * HOUR_MS, 20 * 24 * HOUR_MS, 90 * 24 * HOUR_MS];
        use Interval::{Day, Hour, Minute, Month, Second, SixHours, TenMinutes, Week, Year};
        assert_eq!(ranges.map(interval), [Second, Minute, TenMinutes, Hour, SixHours, Day]);
        let years = [2, 8, 100, 9_000].map(|years| interval(years * 365 * 24 * HOUR_MS));
        assert_eq!(years, [Week, Month, Year, Year]);
        let february = 1_612_137_600_000;
        assert_eq!(Month.next(february), 1_614_556_800_000, "28 days in 2021");
        assert_eq!(Year.next(1_609_459_200_000), 1_640_995_200_000);
        assert_eq!(TenMinutes.next(0), 600_000);
    }
}
