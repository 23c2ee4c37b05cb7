//! Histories in which the machine crashes at any point: what was not synced is kept, lost or torn, block by block. After each crash
//! the file holds the last finished checkpoint or the one under way, and a walk finds it sound.
//!
//! The mutants show that these tests, and the views among them, can fail.

use super::Mutant;
use super::model_test::{History, seeds};

#[test]
fn a_crash_leaves_a_whole_checkpoint() {
    for seed in seeds(1_000..1_250) {
        History::new(seed, true, None).run(1_500);
    }
}

fn is_caught(mutant: Mutant) -> bool {
    let quiet = |seed| {
        std::thread::Builder::new()
            .spawn(move || History::new(seed, true, Some(mutant)).run(1_500))
            .expect("a thread starts")
            .join()
            .is_err()
    };
    (0..20).any(quiet)
}

#[test]
fn the_mutant_pinned_page_reused_is_caught() {
    assert!(is_caught(Mutant::PinnedPageReused));
}

#[test]
fn the_mutant_pending_page_reused_is_caught() {
    assert!(is_caught(Mutant::PendingPageReused));
}
