//! How much went through each second of the last minutes. Pure: whoever samples says what time it is.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept, one a second: what fits into a small picture.
const SAMPLES: usize = 121;
/// A rate is the mean over this many seconds: steady enough to read, quick enough to follow.
const RATE_SECONDS: usize = 10;

/// Totals by name at one moment.
pub type Totals = BTreeMap<String, u64>;

/// The last totals.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    samples: VecDeque<(u64, Totals)>,
}

impl Traffic {
    /// Notes the totals at a moment, in milliseconds of any steady clock. A sample a second is meant.
    pub fn sample(&mut self, at_ms: u64, totals: Totals) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at_ms, totals));
    }

    /// How much of a name went through a second lately.
    #[must_use]
    pub fn rate(&self, name: &str) -> f64 {
        let (Some(now), Some(before)) =
            (self.samples.back(), self.samples.get(self.samples.len().saturating_sub(RATE_SECONDS + 1)))
        else {
            return 0.0;
        };
        per_second(before, now, name)
    }

    /// What all names together had in each second, oldest first.
    #[must_use]
    pub fn seconds(&self, names: &[&str]) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs.map(|(before, now)| names.iter().map(|name| per_second(before, now, name)).sum()).collect()
    }
}

fn per_second(before: &(u64, Totals), now: &(u64, Totals), name: &str) -> f64 {
    let of = |totals: &Totals| totals.get(name).copied().unwrap_or(0);
    let ms = now.0.saturating_sub(before.0);
    if ms == 0 { 0.0 } else { of(&now.1).saturating_sub(of(&before.1)) as f64 * 1_000.0 / ms as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(views: u64) -> Totals {
        Totals::from([("views".to_owned(), views)])
    }

    #[test]
    fn a_rate_is_the_mean_of_the_last_seconds_and_old_ones_are_forgotten() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.rate("views"), 0.0);
        (0..200).for_each(|second| traffic.sample(second * 1_000, totals(second * 5)));
        traffic.sample(200_000, totals(1_000 + 10));
        assert_eq!(traffic.rate("views"), 6.0);
        assert_eq!(traffic.rate("sales"), 0.0);
        let seconds = traffic.seconds(&["views", "sales"]);
        assert_eq!((seconds.len(), seconds[0], seconds[119]), (120, 5.0, 15.0));
    }
}
