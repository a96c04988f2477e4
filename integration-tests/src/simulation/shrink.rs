//! Makes a failing schedule small: takes out events, and makes what is left plainer, as long as it still fails.

use super::schedule::{Event, Outcome, Schedule};
use super::witness::Failure;

/// Runs that shrinking may take.
const MOST_RUNS: usize = 20_000;

/// The smallest schedule found that still breaks a law, and how it fails.
#[must_use]
pub fn shrink(schedule: Schedule, failure: Failure, run: &dyn Fn(&Schedule) -> Option<Failure>) -> (Schedule, Failure) {
    let mut best = (schedule, failure);
    let mut runs = 0;
    loop {
        let before = best.0.clone();
        let mut try_one = |candidate: Schedule, best: &mut (Schedule, Failure)| {
            runs += 1;
            if runs > MOST_RUNS || candidate == best.0 {
                return false;
            }
            match run(&candidate) {
                Some(failure) => {
                    *best = (candidate, failure);
                    true
                }
                None => false,
            }
        };
        take_events_out(&mut best, &mut try_one);
        make_events_plain(&mut best, &mut try_one);
        make_shape_plain(&mut best, &mut try_one);
        if best.0 == before || runs > MOST_RUNS {
            return best;
        }
    }
}

type Best = (Schedule, Failure);
type Try<'a> = &'a mut dyn FnMut(Schedule, &mut Best) -> bool;

/// Takes out halves, quarters, and so on down to single events.
fn take_events_out(best: &mut Best, try_one: Try<'_>) {
    let mut size = best.0.events.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.0.events.len() {
            let mut candidate = best.0.clone();
            candidate.events.drain(at..(at + size).min(candidate.events.len()));
            if !try_one(candidate, best) {
                at += size;
            }
        }
        size /= 2;
    }
}

fn make_events_plain(best: &mut Best, try_one: Try<'_>) {
    for number in 0..best.0.events.len() {
        for plainer in plainer(&best.0.events[number]) {
            let mut candidate = best.0.clone();
            candidate.events[number] = plainer;
            try_one(candidate, best);
        }
    }
}

/// Plainer forms of an event, the plainest first.
fn plainer(event: &Event) -> Vec<Event> {
    match event {
        Event::Append { table, partition, values, kind } => {
            let with = |partition, values| Event::Append { table: *table, partition, values, kind: *kind };
            let mut plainer = vec![with(0, *values)];
            for column in 0..values.len() {
                for value in [0, 1] {
                    let mut values = *values;
                    values[column] = value;
                    plainer.push(with(*partition, values));
                }
            }
            plainer
        }
        Event::Deliver { channel, .. } => vec![Event::Deliver { channel: *channel, count: 100 }],
        Event::Cut { crash: Some(_) } => vec![Event::Cut { crash: None }],
        Event::Group { .. } => vec![Event::Group { steps: 100, body: 100 }, Event::Group { steps: 1, body: 100 }],
        Event::Send { delivery, .. } => {
            vec![
                Event::Send { delivery: 0, outcome: Outcome::Fine },
                Event::Send { delivery: *delivery, outcome: Outcome::Fine },
            ]
        }
        Event::Gather { .. } => vec![Event::Gather { steps: 100 }],
        Event::Commit { crash: Some(_) } => vec![Event::Commit { crash: None }],
        Event::Crash { .. } => vec![Event::Crash { torn: 0, lingering: false }],
        _ => vec![],
    }
}

fn make_shape_plain(best: &mut Best, try_one: Try<'_>) {
    for number in (0..best.0.shape.joins.len()).rev() {
        let mut candidate = best.0.clone();
        // A join that others lead to stays.
        let leads_on = |j: &super::shape::JoinShape| j.pairs.iter().any(|(left, _, _)| *left > number);
        if !candidate.shape.joins[number + 1..].iter().any(leads_on) {
            candidate.shape.joins.remove(number);
            candidate.shape.second = candidate.shape.second.map(|joins| joins.min(number));
            try_one(candidate, best);
        }
    }
    for change in [
        |s: &mut Schedule| s.shape.second = None,
        |s: &mut Schedule| s.shape.filtered = false,
        |s: &mut Schedule| s.shape.joins.iter_mut().for_each(|j| j.filtered = false),
        |s: &mut Schedule| s.shape.joins.iter_mut().for_each(|j| j.inner = false),
        |s: &mut Schedule| s.shape.joins.iter_mut().for_each(|j| j.pairs.truncate(1)),
        |s: &mut Schedule| s.shape.keys.fill(0),
        |s: &mut Schedule| s.step_records = 1,
        |s: &mut Schedule| s.step_records = 100,
    ] {
        let mut candidate = best.0.clone();
        change(&mut candidate);
        try_one(candidate, best);
    }
}
