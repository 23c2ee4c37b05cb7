//! Which key is next.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::Prng;

/// The order in which keys are taken from the key space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Pattern {
    /// One after the other over all clients, and from the first again.
    Sequential,
    /// Each as likely as any other.
    Uniform,
    /// A few often, most seldom (zipf with exponent 0.99, spread over the space).
    Zipf,
}

/// A stream of keys. Key i of a space is the prefix and i in decimal, filled up with zeros to the size.
pub struct Keys {
    prefix: String,
    size: usize,
    space: u64,
    pattern: Pattern,
    /// How many were taken in sequence, by all clients together.
    sequence: Rc<Cell<u64>>,
    prng: Prng,
    zipf: Option<Zipf>,
}

impl Keys {
    /// Those of client `client`; in sequence all clients take from one.
    pub fn new(prefix: &str, size: usize, space: u64, pattern: Pattern, (client, sequence): (u64, Rc<Cell<u64>>)) -> Keys {
        let zipf = (pattern == Pattern::Zipf).then(|| Zipf::new(space));
        let prng = Prng::new(0x9e37_79b9 ^ client);
        Keys { prefix: prefix.to_owned(), size, space, pattern, sequence, prng, zipf }
    }

    /// The number of the next key.
    fn index(&mut self) -> u64 {
        match (&self.zipf, self.pattern) {
            (Some(zipf), _) => zipf.sample(&mut self.prng),
            (None, Pattern::Uniform) => self.prng.below(self.space),
            (None, _) => self.sequence.replace(self.sequence.get() + 1) % self.space,
        }
    }

    /// The next key.
    pub fn next(&mut self) -> Bytes {
        let index = self.index();
        Bytes::from(key(&self.prefix, self.size, index))
    }
}

/// Key `index` under `prefix`, at least `size` bytes long.
pub fn key(prefix: &str, size: usize, index: u64) -> String {
    let width = size.saturating_sub(prefix.len());
    format!("{prefix}{index:0width$}")
}

/// The range of all keys that begin with `prefix`.
pub fn all_of(prefix: &str) -> (Bytes, Bytes) {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // A prefix is UTF-8, whose bytes are all below 255.
        Some(last) => *last += 1,
        None => return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
    }
    (Bytes::copy_from_slice(prefix.as_bytes()), Bytes::from(end))
}

/// Ranks after Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994).
struct Zipf {
    space: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

const ZIPF_EXPONENT: f64 = 0.99;
/// Spreads neighbouring ranks over the space.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Zipf {
    fn new(space: u64) -> Zipf {
        let sum = |n: u64| (1..=n).map(|i| (i as f64).powf(-ZIPF_EXPONENT)).sum::<f64>();
        let zeta = sum(space);
        let eta = (1.0 - (2.0 / space as f64).powf(1.0 - ZIPF_EXPONENT)) / (1.0 - sum(2.min(space)) / zeta);
        Zipf { space, zeta, alpha: 1.0 / (1.0 - ZIPF_EXPONENT), eta }
    }

    fn rank(&self, uniform: f64) -> u64 {
        let uz = uniform * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5f64.powf(ZIPF_EXPONENT) {
            return 1 % self.space;
        }
        ((self.space as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha)) as u64).min(self.space - 1)
    }

    fn sample(&self, prng: &mut Prng) -> u64 {
        let uniform = (prng.u64() >> 11) as f64 / (1u64 << 53) as f64;
        self.rank(uniform).wrapping_mul(SPREAD) % self.space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_in_sequence_leave_no_key_out() {
        let sequence = Rc::default();
        let mut clients = [0, 1].map(|client| Keys::new("k", 8, 9, Pattern::Sequential, (client, Rc::clone(&sequence))));
        let seen: Vec<Bytes> = [0, 0, 0, 1, 0, 1, 1, 0, 0].into_iter().map(|client: usize| clients[client].next()).collect();
        let all: Vec<Bytes> = (0..9).map(|i| Bytes::from(key("k", 8, i))).collect();
        assert_eq!(seen, all);
        assert_eq!(all[3], "k0000003");
    }

    #[test]
    fn uniform_keys_stay_in_the_space_and_fill_it() {
        let mut keys = Keys::new("", 4, 10, Pattern::Uniform, (0, Rc::default()));
        let mut seen: Vec<Bytes> = (0..1000).map(|_| keys.next()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn zipf_takes_the_first_rank_as_often_as_its_law_says() {
        let zipf = Zipf::new(1000);
        let mut prng = Prng::new(1);
        let share = (0..100_000).filter(|_| zipf.sample(&mut prng) == 0).count() as f64 / 100_000.0;
        let law = 1.0 / zipf.zeta;
        assert!((share - law).abs() < 0.1 * law, "{share} in place of {law}");
    }
}
