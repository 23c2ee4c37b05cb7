//! A set of page numbers, as a bit each.

/// The set. It grows as numbers are put in.
#[derive(Clone, Default, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub fn get(&self, bit: u32) -> bool {
        self.words.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    /// Puts `first..first + count` in. How many were not in.
    pub fn set(&mut self, first: u32, count: u32) -> u32 {
        let words = (first + count).div_ceil(64) as usize;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        let mut newly = 0;
        each_word(first, count, |at, mask| {
            newly += (mask & !self.words[at]).count_ones();
            self.words[at] |= mask;
        });
        newly
    }

    /// Takes `first..first + count` out. How many were in.
    pub fn clear(&mut self, first: u32, count: u32) -> u32 {
        let mut cleared = 0;
        let words = &mut self.words;
        each_word(first, count, |at, mask| {
            if let Some(word) = words.get_mut(at) {
                cleared += (mask & *word).count_ones();
                *word &= !mask;
            }
        });
        cleared
    }

    pub fn all_set(&self, first: u32, count: u32) -> bool {
        let mut all = true;
        each_word(first, count, |at, mask| all &= self.words.get(at).is_some_and(|word| word & mask == mask));
        all
    }

    /// How many are in.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// One past the highest.
    pub fn end(&self) -> u32 {
        match self.words.iter().rposition(|&word| word != 0) {
            Some(at) => at as u32 * 64 + 64 - self.words[at].leading_zeros(),
            None => 0,
        }
    }

    /// The numbers below `end` that are not in this set.
    pub fn inverted(&self, end: u32) -> Bits {
        let mut other = Bits::default();
        other.set(0, end);
        for (word, taken) in other.words.iter_mut().zip(&self.words) {
            *word &= !taken;
        }
        other
    }

    /// The first word, from `from` on, that is not empty.
    pub fn first_word(&self, from: usize) -> Option<usize> {
        Some(from + self.words.get(from..)?.iter().position(|&word| word != 0)?)
    }

    /// The lowest number in this word, which is not empty.
    pub fn lowest_in(&self, word: usize) -> u32 {
        word as u32 * 64 + self.words[word].trailing_zeros()
    }

    /// The lowest `first >= from` such that `first..first + count` are all in.
    pub fn find_run(&self, from: u32, count: u32) -> Option<u32> {
        let (mut start, mut len) = (0, 0);
        for (at, &word) in self.words.iter().enumerate().skip((from / 64) as usize) {
            let base = at as u32 * 64;
            if word == u64::MAX {
                if len == 0 {
                    start = base;
                }
                len += 64;
                if len >= count {
                    return Some(start);
                }
                continue;
            }
            let mut bit = 0;
            while bit < 64 {
                let rest = word >> bit;
                if rest & 1 == 0 {
                    len = 0;
                    bit += if rest == 0 { 64 } else { rest.trailing_zeros() };
                    continue;
                }
                let ones = (!rest).trailing_zeros().min(64 - bit);
                if len == 0 {
                    start = base + bit;
                }
                len += ones;
                if len >= count {
                    return Some(start);
                }
                bit += ones;
            }
        }
        None
    }

    /// The set as little-endian words, from bit `first` (a multiple of 64) on, into `out`, a multiple of 8 bytes.
    pub fn write_out(&self, first: u32, out: &mut [u8]) {
        let words = self.words.get((first / 64) as usize..).unwrap_or(&[]);
        for (at, bytes) in out.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&words.get(at).copied().unwrap_or(0).to_le_bytes());
        }
    }

    /// Puts in what [`Bits::write_out`] wrote.
    pub fn read_in(&mut self, first: u32, bytes: &[u8]) {
        let start = (first / 64) as usize;
        let words = start + bytes.len() / 8;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        for (word, bytes) in self.words[start..].iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
    }
}

fn each_word(first: u32, count: u32, mut each: impl FnMut(usize, u64)) {
    let mut bit = first;
    let end = first + count;
    while bit < end {
        let in_word = bit % 64;
        let take = (64 - in_word).min(end - bit);
        let mask = (u64::MAX >> (64 - take)) << in_word;
        each((bit / 64) as usize, mask);
        bit += take;
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;
    use crate::base::Prng;

    #[test]
    fn ranges_go_in_and_out_across_words() {
        let mut bits = Bits::default();
        assert_eq!(bits.set(60, 200), 200);
        assert_eq!(bits.set(0, 61), 60);
        assert_eq!(bits.end(), 260);
        assert_eq!(bits.clear(100, 10), 10);
        assert_eq!(bits.clear(100, 11), 1);
        assert!(bits.all_set(0, 100) && !bits.all_set(0, 101));
        assert_eq!(bits.count(), 249);
        assert_eq!(bits.inverted(300).count(), 51);
    }

    #[test]
    fn runs_are_found_where_a_plain_search_finds_them() {
        let mut rng = Prng::new(11);
        for _ in 0..500 {
            let mut bits = Bits::default();
            let mut plain = vec![false; 500];
            for _ in 0..rng.below(12) {
                let (first, count) = (rng.below(400) as u32, 1 + rng.below(100) as u32);
                bits.set(first, count);
                plain[first as usize..(first + count) as usize].fill(true);
            }
            let (from, count) = (rng.below(500) as u32 / 64 * 64, 1 + rng.below(80) as usize);
            let expected = (from as usize..=500 - count).find(|&at| plain[at..at + count].iter().all(|&set| set));
            assert_eq!(bits.find_run(from, count as u32), expected.map(|at| at as u32));
        }
    }

    #[test]
    fn what_is_written_out_reads_back() {
        let mut bits = Bits::default();
        bits.set(70, 3);
        bits.set(128, 1);
        let mut out = [0; 24];
        bits.write_out(64, &mut out);
        let mut back = Bits::default();
        back.read_in(64, &out);
        assert_eq!((back.count(), back.end(), back.get(72)), (4, 129, true));
    }
}
