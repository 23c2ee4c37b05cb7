//! Many seeds of the member as it is, and of the member with one rule left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Options, Report, Violation, run};
use crate::base::mutant::{self, Mutant};

/// Seeds of one run of the tests: as many as CI has time for where the code is optimised.
const SEEDS: u64 = if cfg!(debug_assertions) { 400 } else { 2_000 };
/// Seeds within which every mutant is caught.
const MUTANT_SEEDS: u64 = 4_000;

/// A run in which a failed assertion of the member is a violation like others.
fn run_caught(seed: u64, options: Options) -> Result<Report, String> {
    mutant::choose(options.mutant);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, options)));
    mutant::choose(None);
    match outcome {
        Ok(outcome) => outcome.map_err(|violation: Box<Violation>| violation.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            Err(format!("seed {seed}: an assertion failed: {text}\nreplay: etcring sim --seed {seed} --trace"))
        }
    }
}

fn seed_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_seed_finds_a_violation() {
    let first = seed_from_environment("ETCRING_SIM_SEED").unwrap_or(1);
    let seeds = seed_from_environment("ETCRING_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = Report::default();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        match run_caught(seed, Options::of(seed)) {
            Ok(report) => {
                total.steps += report.steps;
                total.ends += report.ends;
                total.asked += report.asked;
                total.answered += report.answered;
                total.events += report.events;
                total.revision += report.revision;
            }
            Err(violation) => failed.push(violation),
        }
        if failed.len() == 3 {
            break;
        }
    }
    println!("{seeds} seeds: {total:?}");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 1..10 {
        let runs = [(); 2].map(|()| run_caught(seed, Options::of(seed)).map(|r| (r.digest, r.steps)));
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

fn is_caught(mutant: Mutant) {
    for seed in 1..=MUTANT_SEEDS {
        // Half of the runs are plain: what is left out shows in one kind or the other.
        // What rot alone can show is looked for with it.
        let rot = mutant == Mutant::KnownStableDropped;
        let options = Options { mutant: Some(mutant), rot, plain: seed % 2 == 1, ..Options::of(seed) };
        if let Err(what) = run_caught(seed, options) {
            let last = what.lines().rev().nth(1).unwrap_or(&what);
            return println!("{mutant:?} is caught by seed {seed}: {last}");
        }
    }
    panic!("{mutant:?} was not caught by {MUTANT_SEEDS} seeds");
}

#[test]
fn mutant_slot_raised_early_is_caught() {
    is_caught(Mutant::SlotRaisedEarly);
}

#[test]
fn mutant_cut_skipped_is_caught() {
    is_caught(Mutant::CutSkipped);
}

#[test]
fn mutant_hub_told_after_the_slot_is_caught() {
    is_caught(Mutant::HubToldAfterSlot);
}

#[test]
fn mutant_torn_tail_accepted_is_caught() {
    is_caught(Mutant::TornTailAccepted);
}

#[test]
fn mutant_pinned_page_reused_is_caught() {
    is_caught(Mutant::PinnedPageReused);
}

#[test]
fn mutant_room_not_promised_is_caught() {
    is_caught(Mutant::RoomNotPromised);
}

#[test]
fn mutant_answered_before_stable_is_caught() {
    is_caught(Mutant::AnsweredBeforeStable);
}

#[test]
fn mutant_lease_not_asked_is_caught() {
    is_caught(Mutant::LeaseNotAsked);
}

#[test]
fn mutant_hub_not_begun_is_caught() {
    is_caught(Mutant::HubNotBegun);
}

#[test]
fn mutant_known_stable_dropped_is_caught() {
    is_caught(Mutant::KnownStableDropped);
}

#[test]
fn mutant_one_barrier_missing_is_caught() {
    is_caught(Mutant::OneBarrierMissing);
}

#[test]
fn mutant_meta_not_awaited_is_caught() {
    is_caught(Mutant::MetaNotAwaited);
}
