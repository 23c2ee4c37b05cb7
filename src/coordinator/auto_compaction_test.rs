use super::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Runs the compactor for `until` seconds, a second at a time; the revision is 1 + the seconds that have passed.
/// What it compacted to, and when. `fails` says which attempts do not succeed.
fn run(mode: AutoCompaction, until: u64, fails: impl Fn(usize) -> bool) -> Vec<(u64, u64)> {
    let mut compactor = AutoCompactor::new(mode);
    let mut asked = Vec::new();
    for second in 0..=until {
        let now = Instant::ZERO + Duration::from_secs(1000 + second);
        if let Some(revision) = compactor.tick(now, Revision(1 + second)) {
            asked.push((second, revision.get()));
            if fails(asked.len() - 1) { compactor.failed("no leader") } else { compactor.done(now) }
        }
    }
    asked
}

fn succeeding(mode: AutoCompaction, until: u64) -> Vec<(u64, u64)> {
    run(mode, until, |_| false)
}

/// As etcd's TestPeriodicHourly and its neighbours have it: nothing for one retention, then once in each.
#[test]
fn retentions_up_to_an_hour_compact_once_in_each() {
    for retention in [10, 10 * MINUTE, HOUR] {
        let asked = succeeding(AutoCompaction::Periodic(Duration::from_secs(retention)), 4 * retention);
        let tenth = retention / 10;
        // The first is up to the very first sample; those after it are up to the sample that is a retention and a tenth old,
        // as the sample of the moment itself is taken after the look.
        let expected = [
            (retention, 1),
            (2 * retention, 1 + retention - tenth),
            (3 * retention, 1 + 2 * retention - tenth),
            (4 * retention, 1 + 3 * retention - tenth),
        ];
        assert_eq!(asked, expected, "{retention} s");
    }
}

#[test]
fn longer_retentions_wait_one_and_compact_every_hour() {
    let asked = succeeding(AutoCompaction::Periodic(Duration::from_secs(3 * HOUR)), 6 * HOUR);
    let tenth = HOUR / 10;
    let expected = [(3, 0), (4, HOUR - tenth), (5, 2 * HOUR - tenth), (6, 3 * HOUR - tenth)];
    assert_eq!(asked, expected.map(|(hour, since)| (hour * HOUR, 1 + since)));
}

#[test]
fn a_failed_one_is_tried_again_after_a_tenth() {
    let asked = run(AutoCompaction::Periodic(Duration::from_secs(10)), 24, |attempt| attempt < 2);
    // The window of samples moves on between the attempts; the next is due one interval after the one that succeeded.
    assert_eq!(asked, [(10, 1), (11, 1), (12, 2), (22, 12)]);
}

#[test]
fn a_revision_is_compacted_to_once() {
    let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(Duration::from_secs(10)));
    let mut asked = Vec::new();
    for second in 0..100 {
        let now = Instant::ZERO + Duration::from_secs(second);
        if let Some(revision) = compactor.tick(now, Revision(7)) {
            asked.push((second, revision.get()));
            compactor.done(now);
        }
    }
    assert_eq!(asked, [(10, 7)]);
}

#[test]
fn one_is_under_way_at_a_time_and_samples_go_on() {
    let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(Duration::from_secs(10)));
    let mut asked = Vec::new();
    for second in 0..=40 {
        let now = Instant::ZERO + Duration::from_secs(second);
        asked.extend(compactor.tick(now, Revision(1 + second)).map(|revision| (second, revision.get())));
        if second == 25 {
            compactor.done(now);
        }
    }
    assert_eq!(asked, [(10, 1), (35, 25)]);
}

#[test]
fn revisions_are_kept_by_number_every_five_minutes() {
    let asked = succeeding(AutoCompaction::Revision(1000), 20 * MINUTE);
    assert_eq!(asked, [(20 * MINUTE, 201)], "before that there are no 1,000 revisions to keep");
    let asked = succeeding(AutoCompaction::Revision(1), 10 * MINUTE);
    assert_eq!(asked, [(5 * MINUTE, 300), (10 * MINUTE, 600)]);
    let asked = run(AutoCompaction::Revision(1), 15 * MINUTE, |attempt| attempt == 0);
    assert_eq!(asked, [(5 * MINUTE, 300), (10 * MINUTE, 600), (15 * MINUTE, 900)]);
}

#[test]
fn off_never_asks() {
    assert!(succeeding(AutoCompaction::Off, 100 * HOUR).is_empty());
    assert_eq!(AutoCompactor::new(AutoCompaction::Off).next_deadline(), None);
}
