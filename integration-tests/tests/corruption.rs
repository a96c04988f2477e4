//! Every damage is found and made good, nothing else is, and its cause and records are named right.

use lockstep_integration_tests::corruption::confusion;
use lockstep_integration_tests::corruption::suite::{Tally, round};

/// Damages of every run; `integration-tests/soak` has a million.
const INJECTIONS: u64 = 4_000;
/// Wrong ones that are spelled out.
const SHOWN: usize = 20;

#[test]
fn every_damage_is_found_named_and_repaired_and_nothing_else() {
    let mut tally = Tally::default();
    for seed in 0.. {
        tally.add(round(seed));
        if tally.injected() >= INJECTIONS {
            println!("seeds 0 to {seed}");
            break;
        }
    }
    println!("{}", confusion::table(&tally));
    let shown: Vec<&String> = tally.wrong.iter().take(SHOWN).collect();
    assert!(tally.wrong.is_empty(), "{} wrong, the first are {shown:#?}", tally.wrong.len());
    assert!(tally.classes() >= 16, "{} classes occurred", tally.classes());
    assert!(tally.right() * 100 >= tally.injected() * 98, "{} of {} are named right", tally.right(), tally.injected());
}
