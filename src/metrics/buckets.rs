//! A histogram with doubling bounds, in cells that one thread writes and others read.

use super::names::{BOUNDS_MAX, Scale};
use std::sync::atomic::{AtomicU64, Ordering};

/// Adds to a cell that only this thread writes.
#[inline]
pub(super) fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

#[inline]
pub(super) fn get(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// The bucket of a value: that of the first bound which is not below it; `bounds` when it is above them all.
#[inline]
pub(super) fn bucket_of(scale: Scale, value: u64) -> usize {
    if value <= scale.first {
        return 0;
    }
    // value is in (first·2^(i-1), first·2^i] exactly when (value-1)/first, rounded down, has i binary digits.
    let digits = u64::BITS - ((value - 1) / scale.first).leading_zeros();
    (digits as usize).min(scale.bounds)
}

/// The counts per bucket and the sum of the values.
#[derive(Default)]
pub(super) struct Buckets {
    counts: [AtomicU64; BOUNDS_MAX + 1],
    sum: AtomicU64,
}

impl Buckets {
    #[inline]
    pub(super) fn observe(&self, scale: Scale, value: u64) {
        add(&self.counts[bucket_of(scale, value)], 1);
        add(&self.sum, value);
    }
}

/// The buckets of several cores together.
#[derive(Clone, Default)]
pub(super) struct Total {
    pub counts: [u64; BOUNDS_MAX + 1],
    pub sum: u128,
}

impl Total {
    pub(super) fn take_in(&mut self, buckets: &Buckets) {
        for (total, cell) in self.counts.iter_mut().zip(&buckets.counts) {
            *total += get(cell);
        }
        self.sum += u128::from(get(&buckets.sum));
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { first: 1_000, bounds: 4, per_unit: 1 };

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        for (value, bucket) in [
            (0, 0),
            (1, 0),
            (1_000, 0),
            (1_001, 1),
            (2_000, 1),
            (2_001, 2),
            (3_999, 2),
            (4_000, 2),
            (4_001, 3),
            (8_000, 3),
            (8_001, 4),
            (u64::MAX, 4),
        ] {
            assert_eq!(bucket_of(SCALE, value), bucket, "{value}");
        }
    }

    #[test]
    fn the_bucket_is_that_of_a_naive_search() {
        for first in [1u64, 3, 100_000, 1_000_000] {
            let scale = Scale { first, bounds: 20, per_unit: 1 };
            let mut value = 1u64;
            while value < first << 22 {
                for v in [value - 1, value, value + 1, value * 3 / 2] {
                    let naive = (0..20).find(|i| v <= first << i).unwrap_or(20);
                    assert_eq!(bucket_of(scale, v), naive, "{v} over {first}");
                }
                value *= 2;
            }
        }
    }

    #[test]
    fn totals_add_up() {
        let (a, b) = (Buckets::default(), Buckets::default());
        a.observe(SCALE, 500);
        a.observe(SCALE, 9_000);
        b.observe(SCALE, 500);
        let mut total = Total::default();
        total.take_in(&a);
        total.take_in(&b);
        assert_eq!((total.counts[0], total.counts[4], total.count(), total.sum), (2, 1, 3, 10_000));
    }
}
