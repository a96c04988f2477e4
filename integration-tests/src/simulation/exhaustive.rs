//! Small scope, all of it: every order in which a few records of four partitions can arrive, and for each order a crash at
//! every boundary: before and after every event, inside every step, between the tables of every commit, and between a
//! write and its answer.

use super::schedule::{Crash, Event, FailedCommit, Kind, Outcome, Schedule};
use super::shape::{JoinShape, Shape, TABLES};

/// Two tables of two partitions each.
const CHANNELS: usize = 4;
/// Partitions of a table here.
const PARTITIONS: usize = 2;
/// After so many arrivals the sink writes.
const ARRIVALS_A_GROUP: usize = 2;
/// After so many arrivals the archive commits.
const ARRIVALS_A_COMMIT: usize = 3;

/// The pipelines that are tried: append and keyed tables joined one by one, by LEFT and by INNER, over one join and two.
#[must_use]
pub fn shapes() -> Vec<Shape> {
    let join = |table, inner, pairs| JoinShape { table, inner, pairs, filtered: false };
    let shape = |keys: [usize; TABLES], joins| Shape { keys: keys.to_vec(), joins, filtered: false, second: None };
    vec![
        shape([0, 1, 0, 0], vec![join(1, false, vec![(0, 1, 0)])]),
        shape([1, 0, 0, 0], vec![join(1, false, vec![(0, 1, 1)])]),
        shape([1, 1, 0, 0], vec![join(1, true, vec![(0, 1, 0)]), join(1, false, vec![(1, 1, 0)])]),
    ]
}

/// Every order of so many records, spread evenly over the partitions: by position the partition that is next.
#[must_use]
pub fn orders(records: usize) -> Vec<Vec<usize>> {
    let mut left: [usize; CHANNELS] =
        std::array::from_fn(|channel| records / CHANNELS + usize::from(channel < records % CHANNELS));
    let mut orders = Vec::new();
    extend(&mut Vec::with_capacity(records), &mut left, &mut orders);
    orders
}

fn extend(order: &mut Vec<usize>, left: &mut [usize; CHANNELS], orders: &mut Vec<Vec<usize>>) {
    if left.iter().all(|left| *left == 0) {
        orders.push(order.clone());
    }
    for channel in 0..CHANNELS {
        if left[channel] > 0 {
            left[channel] -= 1;
            order.push(channel);
            extend(order, left, orders);
            order.pop();
            left[channel] += 1;
        }
    }
}

/// The schedule of an order without any crash.
#[must_use]
pub fn calm(shape: &Shape, order: &[usize]) -> Schedule {
    let mut events = Vec::new();
    let mut sent = [0_i64; CHANNELS];
    for (number, channel) in order.iter().enumerate() {
        let (table, partition) = (channel / PARTITIONS, channel % PARTITIONS);
        events.push(append(table, partition, sent[*channel]));
        sent[*channel] += 1;
        events.push(Event::Deliver { channel: *channel, count: 1 });
        events.push(Event::Cut { crash: None });
        if number % ARRIVALS_A_GROUP == ARRIVALS_A_GROUP - 1 {
            events.push(Event::Group { steps: 8, body: 8 });
            events.push(Event::Send { delivery: 0, outcome: Outcome::Fine });
        }
        if number % ARRIVALS_A_COMMIT == ARRIVALS_A_COMMIT - 1 {
            events.push(Event::Gather { steps: 8 });
            events.push(Event::Commit { crash: None });
        }
    }
    Schedule { shape: shape.clone(), step_records: 8, events }
}

/// The record of this number in its partition: rows that meet, move, are replaced from the other partition, and go.
fn append(table: usize, partition: usize, number: i64) -> Event {
    let other = i64::from(partition > 0);
    let values = [(number + other) % 2, 1 + (number + table as i64) % 2, number % 3];
    let kind = if number == 1 && partition == 1 { Kind::Tombstone } else { Kind::Row };
    Event::Append { table, partition, values, kind }
}

/// A place in a schedule where the process dies.
#[derive(Clone, Debug)]
pub struct Boundary {
    at: usize,
    taken_out: usize,
    put_in: Vec<Event>,
}

impl Boundary {
    /// The schedule with the crash.
    #[must_use]
    pub fn crash(&self, mut calm: Schedule) -> Schedule {
        calm.events.splice(self.at..self.at + self.taken_out, self.put_in.iter().cloned());
        calm
    }
}

/// Every boundary of a schedule. Schedules of as many records have the same.
#[must_use]
pub fn boundaries(calm: &Schedule) -> Vec<Boundary> {
    let mut all = Vec::new();
    let mut add = |at, taken_out, put_in| all.push(Boundary { at, taken_out, put_in });
    let crash = |lingering| Event::Crash { torn: 0, lingering };
    for (at, event) in calm.events.iter().enumerate() {
        add(at, 0, vec![crash(false)]);
        match event {
            Event::Cut { .. } => {
                for (after, written) in [(0, false), (1, false), (2, false), (2, true)] {
                    add(at, 1, vec![Event::Cut { crash: Some(Crash { after, written, archived: written }) }]);
                }
            }
            Event::Send { delivery, .. } => {
                add(at, 0, vec![crash(true)]);
                let unanswered = Event::Send { delivery: *delivery, outcome: Outcome::AnswerLost };
                add(at, 1, vec![unanswered, crash(false)]);
            }
            Event::Commit { .. } => {
                for (after, visible) in [(0, true), (1, false), (1, true)] {
                    add(at, 1, vec![Event::Commit { crash: Some(FailedCommit { after, visible }) }]);
                }
            }
            _ => {}
        }
    }
    all
}

/// Every order of so many records, each with a crash at every boundary: how many there are, and each by its number.
pub fn all(shape: &Shape, records: usize) -> (u64, impl Fn(u64) -> Option<Schedule> + Sync) {
    let orders = orders(records);
    let boundaries = boundaries(&calm(shape, &orders[0]));
    let (shape, count) = (shape.clone(), boundaries.len());
    let total = (orders.len() * count) as u64;
    let schedule = move |number: u64| {
        let number = usize::try_from(number).ok()?;
        Some(boundaries[number % count].crash(calm(&shape, orders.get(number / count)?)))
    };
    (total, schedule)
}
