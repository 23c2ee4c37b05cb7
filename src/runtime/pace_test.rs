use super::*;

const MOST: Duration = Duration::from_millis(2);

/// An executor whose clients speak at certain times, whether they have been answered or not; answers take no time.
struct Looks {
    pace: Pace,
    voices: Vec<Voice>,
    now: Instant,
}

impl Looks {
    fn new(most: Duration) -> Looks {
        let voices = (0..100).map(|_| Voice::default()).collect();
        Looks { pace: Pace::new(most), voices, now: Instant::ZERO + Duration::from_secs(1) }
    }

    /// One look: these sockets have spoken, and are answered at once. How long it rests.
    fn hear(&mut self, sockets: impl IntoIterator<Item = usize> + Clone) -> Duration {
        sockets.clone().into_iter().for_each(|s| self.pace.hears(&mut self.voices[s]));
        let rest = self.pace.rest(self.now);
        sockets.into_iter().for_each(|s| self.pace.sends(&mut self.voices[s]));
        rest
    }

    /// For `time`, one of the hundred after the other speaks, each `every`. How long it rests at the end.
    fn offered(&mut self, time: Duration, every: Duration) -> Duration {
        let (end, mut rest) = (self.now + time, Duration::ZERO);
        let (mut next, mut socket) = (self.now, 0);
        while self.now < end {
            let mut speaking = Vec::new();
            while next <= self.now {
                speaking.push(socket % 100);
                (next, socket) = (next + every, socket + 1);
            }
            rest = self.hear(speaking);
            self.now = (self.now + rest).max(next);
        }
        rest
    }

    /// For `time`, each of the first `clients` speaks again `pause` after its answer. The rests.
    fn in_turn(&mut self, time: Duration, clients: usize, pause: Duration) -> Vec<Duration> {
        let (end, mut rests) = (self.now + time, Vec::new());
        while self.now < end {
            let rest = self.hear(0..clients);
            self.now = self.now + rest.max(pause);
            rests.push(rest);
        }
        rests
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

#[test]
fn many_that_speak_now_and_then_are_let_gather_the_longer_the_more_come() {
    assert_eq!(Looks::new(MOST).offered(SECOND, 50 * MICRO), MOST);
    assert_eq!(Looks::new(MOST).offered(SECOND, 100 * MICRO), MOST);
    let half = Looks::new(MOST).offered(SECOND, 200 * MICRO);
    assert!((MOST / 2).abs_diff(half) <= MOST / 10, "{half:?}");
    assert_eq!(Looks::new(MOST).offered(SECOND, 600 * MICRO), MOST / LEAST_PART);
    assert_eq!(Looks::new(MOST).offered(SECOND, 1000 * MICRO), Duration::ZERO, "ten in a window are few");
    assert_eq!(Looks::new(Duration::ZERO).offered(SECOND, 100 * MICRO), Duration::ZERO);
}

#[test]
fn who_waits_for_answers_is_not_kept_waiting() {
    for clients in [MANY_SOCKETS, 100] {
        let rests = Looks::new(MOST).in_turn(10 * SECOND, clients, 200 * MICRO);
        let rested: Duration = rests.iter().sum();
        assert!(rested < SECOND / 2 && !rested.is_zero(), "rested for {rested:?} of 10 s");
    }
    let few = Looks::new(MOST).in_turn(SECOND, MANY_SOCKETS - 1, 200 * MICRO);
    assert!(few.iter().all(Duration::is_zero));
}

#[test]
fn who_stops_waiting_is_let_gather_again() {
    let mut looks = Looks::new(MOST);
    looks.in_turn(SECOND, 100, 200 * MICRO);
    assert_eq!(looks.offered(SECOND, 100 * MICRO), MOST);
    looks.in_turn(SECOND, 100, 200 * MICRO);
    assert_eq!(looks.offered(SECOND, 100 * MICRO), MOST);
}

#[test]
fn who_comes_after_a_pause_does_not_wait() {
    let mut looks = Looks::new(MOST);
    assert_eq!(looks.offered(SECOND, 100 * MICRO), MOST);
    looks.now = looks.now + SECOND;
    assert_eq!(looks.hear([0]), Duration::ZERO);
}
