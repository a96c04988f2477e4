//! The tests that tell a finding from chance. Pure; the distributions are statrs'.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

/// A test of "nothing but chance".
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Test {
    /// Which one.
    pub method: &'static str,
    /// Its statistic.
    pub statistic: f64,
    /// Its degrees of freedom.
    pub degrees: u64,
    /// How often chance alone gives at least as much.
    pub p: f64,
}

/// A straight line through a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// The mean of the series.
    pub mean: f64,
    /// How much it grows from one bucket to the next, by least squares.
    pub slope: f64,
    /// The low end of the slope's 95 % interval, by Student's t.
    pub low: f64,
    /// Its high end.
    pub high: f64,
    /// How often a series without any trend gives at least as steep a slope.
    pub p: f64,
    /// Buckets.
    pub buckets: u64,
}

/// Whether counts are spread as evenly as chance would spread them: Pearson's chi-squared against equal shares.
///
/// `None` where there is too little for it, by the rule of Koehler and Larntz (1980) for equal shares: at least 3 classes,
/// 10 counted, a quarter counted in each class on average, and counted² at least 10 times the classes.
#[must_use]
pub fn even(counts: &[u64]) -> Option<Test> {
    let (classes, counted) = (counts.len() as f64, counts.iter().sum::<u64>() as f64);
    if classes < 3.0 || counted < 10.0 || counted / classes < 0.25 || counted * counted / classes < 10.0 {
        return None;
    }
    chi_squared(&counts.iter().map(|n| (*n as f64, counted / classes)).collect::<Vec<_>>())
}

/// Whether counts follow given weights: Pearson's chi-squared. Classes of which fewer than 5 are expected are taken
/// together, as Cochran's rule asks; `None` where fewer than two remain.
#[must_use]
pub fn proportional(counts: &[u64], weights: &[u64]) -> Option<Test> {
    let (counted, weight) = (counts.iter().sum::<u64>() as f64, weights.iter().sum::<u64>() as f64);
    let mut classes = Vec::new();
    let mut small = (0.0, 0.0);
    for (count, own) in counts.iter().zip(weights) {
        let (count, expected) = (*count as f64, counted * *own as f64 / weight);
        if expected >= 5.0 {
            classes.push((count, expected));
        } else {
            small = (small.0 + count, small.1 + expected);
        }
    }
    if small.1 >= 5.0 {
        classes.push(small);
    } else if let Some(last) = classes.last_mut() {
        *last = (last.0 + small.0, last.1 + small.1);
    }
    chi_squared(&classes)
}

/// Over (observed, expected).
fn chi_squared(classes: &[(f64, f64)]) -> Option<Test> {
    let degrees = classes.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    let statistic = classes.iter().map(|(observed, expected)| (observed - expected).powi(2) / expected).sum();
    let p = ChiSquared::new(degrees as f64).ok()?.sf(statistic);
    Some(Test { method: "Pearson's chi-squared", statistic, degrees: degrees as u64, p })
}

/// The trend of a series of buckets of one length; `None` of fewer than three.
#[must_use]
pub fn trend(series: &[f64]) -> Option<Trend> {
    let n = series.len() as f64;
    let degrees = series.len().checked_sub(2).filter(|degrees| *degrees > 0)? as f64;
    let (x_mean, mean) = ((n - 1.0) / 2.0, series.iter().sum::<f64>() / n);
    let placed = || series.iter().enumerate().map(|(x, y)| (x as f64 - x_mean, y - mean));
    let spread: f64 = placed().map(|(x, _)| x * x).sum();
    let slope = placed().map(|(x, y)| x * y).sum::<f64>() / spread;
    let rest: f64 = placed().map(|(x, y)| (y - slope * x).powi(2)).sum();
    let error = (rest / degrees / spread).sqrt();
    let student = StudentsT::new(0.0, 1.0, degrees).ok()?;
    let reach = student.inverse_cdf(0.975) * error;
    // A series that is all alike has a slope of zero, and no spread to measure it by.
    let p = if slope == 0.0 { 1.0 } else { 2.0 * student.sf((slope / error).abs()) };
    Some(Trend { mean, slope, low: slope - reach, high: slope + reach, p, buckets: series.len() as u64 })
}

/// Whether one order goes with another: Spearman's rank correlation, its p by Student's t. `None` of fewer than ten pairs,
/// and where one side is all alike. The statistic is the correlation itself.
#[must_use]
pub fn correlation(pairs: &[(f64, f64)]) -> Option<Test> {
    if pairs.len() < 10 {
        return None;
    }
    let side = |of: fn(&(f64, f64)) -> f64| ranks(&pairs.iter().map(of).collect::<Vec<_>>());
    let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let rho = product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt();
    if !rho.is_finite() {
        return None;
    }
    let degrees = pairs.len() as f64 - 2.0;
    let t = rho * (degrees / (1.0 - rho * rho).max(f64::EPSILON)).sqrt();
    let p = 2.0 * StudentsT::new(0.0, 1.0, degrees).ok()?.sf(t.abs());
    Some(Test { method: "Spearman's rank correlation", statistic: rho, degrees: degrees as u64, p })
}

/// Whether groups are alike: Kruskal and Wallis' test with its correction for ties. Groups of fewer than five are left out;
/// `None` where fewer than two remain, or all values are alike.
#[must_use]
pub fn alike(groups: &[Vec<f64>]) -> Option<Test> {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| group.len() >= 5).collect();
    let degrees = groups.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    let all: Vec<f64> = groups.iter().flat_map(|group| group.iter().copied()).collect();
    let (ranks, n) = (ranks(&all), all.len() as f64);
    let mean = (n + 1.0) / 2.0;
    let mut from = 0;
    let mut between = 0.0;
    for group in groups {
        let size = group.len() as f64;
        let own = ranks[from..from + group.len()].iter().sum::<f64>() / size;
        between += size * (own - mean).powi(2);
        from += group.len();
    }
    let within: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    let statistic = (n - 1.0) * between / within;
    let p = ChiSquared::new(degrees as f64).ok()?.sf(statistic);
    p.is_finite().then_some(Test { method: "Kruskal and Wallis", statistic, degrees: degrees as u64, p })
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let below = order.partition_point(|place| values[*place].total_cmp(&values[tied[0]]).is_lt()) as f64;
        for place in tied {
            ranks[*place] = below + (tied.len() as f64 + 1.0) / 2.0;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
    }

    /// A die thrown 60 times, as in textbooks: 13.4 at 5 degrees of freedom, p = 0.0199.
    #[test]
    fn chi_squared_of_a_die() {
        let test = even(&[5, 8, 9, 8, 10, 20]).unwrap();
        near(test.statistic, 13.4);
        near(test.p, 0.0199);
        assert_eq!(test.degrees, 5);
        assert_eq!(even(&[3, 3, 3]), None, "nine are too few");
        assert_eq!(even(&[1; 10_000][..5_000]).map(|t| t.p), Some(1.0));
    }

    #[test]
    fn small_classes_are_taken_together() {
        let test = proportional(&[30, 14, 3, 3], &[60, 30, 5, 5]).unwrap();
        assert_eq!(test.degrees, 2, "two classes of 2.5 expected make one of 5");
        near(test.statistic, 1.0 / 15.0 + 1.0 / 5.0);
        assert_eq!(proportional(&[2, 1], &[1, 1]), None);
    }

    /// By hand: error = sqrt(0.08), and t of 3 degrees is 3.18245 at 97.5 %; 0.6 / error = 2.1213.
    #[test]
    fn a_trend_and_its_interval() {
        let found = trend(&[2.0, 4.0, 5.0, 4.0, 5.0]).unwrap();
        near(found.mean, 4.0);
        near(found.slope, 0.6);
        near(found.low, -0.3001);
        near(found.high, 1.5001);
        near(found.p, 0.1240);
        assert!(trend(&[1.0, 2.0, 3.0, 4.1]).unwrap().p < 0.001);
        let flat = trend(&[36.0; 13]).unwrap();
        assert_eq!((flat.slope, flat.low, flat.high, flat.p), (0.0, 0.0, 0.0, 1.0));
        assert_eq!(trend(&[1.0, 2.0]), None);
    }

    #[test]
    fn ranks_share_ties_and_correlation_is_one_of_any_growing_pair() {
        assert_eq!(ranks(&[10.0, 30.0, 10.0, 20.0]), [1.5, 4.0, 1.5, 3.0]);
        let growing: Vec<(f64, f64)> = (0..12).map(|n| (f64::from(n), f64::from(n * n))).collect();
        let test = correlation(&growing).unwrap();
        near(test.statistic, 1.0);
        assert!(test.p < 1e-6);
        assert_eq!(correlation(&[(1.0, 2.0); 12]), None, "all alike");
    }

    /// scipy.stats.kruskal([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]): H = 0.2727, p = 0.6015.
    #[test]
    fn groups_that_are_alike() {
        let test = alike(&[vec![1.0, 3.0, 5.0, 7.0, 9.0], vec![2.0, 4.0, 6.0, 8.0, 10.0], vec![99.0]]).unwrap();
        near(test.statistic, 0.2727);
        near(test.p, 0.6015);
        let apart = alike(&[vec![1.0, 2.0, 3.0, 4.0, 5.0], vec![6.0, 7.0, 8.0, 9.0, 10.0]]).unwrap();
        assert!(apart.p < 0.01, "{apart:?}");
    }
}
