//! When leases end: the leader's clockwork of leases. What leases exist is group 0's state; when each ends is the leader's alone.
//!
//! Invariant: `by_expiry` holds (expires, id) of every lease in `leases`, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use crate::base::{Instant, LeaseId};

/// The leases of this reign and when each ends.
#[derive(Default)]
pub struct Lessor {
    leases: HashMap<LeaseId, Lease>,
    by_expiry: BTreeSet<(Instant, LeaseId)>,
}

struct Lease {
    ttl: i64,
    expires: Instant,
    revoking: bool,
    /// Its revocation is decided, and not applied yet.
    gone: bool,
}

/// What a keep-alive meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// Renewed for its whole TTL, in seconds.
    Renewed(i64),
    /// It has ended and its revocation is under way: answer when it is done.
    Ending,
    /// No such lease.
    Missing,
}

/// What is left of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remaining {
    /// Whole seconds, rounded down.
    pub ttl: i64,
    /// As granted.
    pub granted: i64,
}

impl Lessor {
    /// A lease that lives `ttl` seconds from `now`.
    pub fn grant(&mut self, now: Instant, id: LeaseId, ttl: i64) {
        let expires = now + seconds(ttl);
        if let Some(old) = self.leases.insert(id, Lease { ttl, expires, revoking: false, gone: false }) {
            self.by_expiry.remove(&(old.expires, id));
        }
        self.by_expiry.insert((expires, id));
    }

    /// The lease is gone.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            assert!(self.by_expiry.remove(&(lease.expires, id)), "every lease has its place by expiry");
        }
    }

    /// Whether a lease is there, ended or not.
    pub fn has(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether its revocation is under way.
    pub fn is_revoking(&self, id: LeaseId) -> bool {
        self.leases.get(&id).is_some_and(|l| l.revoking)
    }

    /// Gives a lease its whole TTL again.
    pub fn renew(&mut self, now: Instant, id: LeaseId) -> Renewal {
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Missing };
        if lease.revoking || lease.expires <= now {
            return Renewal::Ending;
        }
        self.by_expiry.remove(&(lease.expires, id));
        lease.expires = now + seconds(lease.ttl);
        self.by_expiry.insert((lease.expires, id));
        Renewal::Renewed(lease.ttl)
    }

    /// What is left of a lease; `None` when it is not there or has ended.
    pub fn remaining(&self, now: Instant, id: LeaseId) -> Option<Remaining> {
        let lease = self.leases.get(&id).filter(|l| l.expires > now && !l.gone)?;
        let ttl = i64::try_from(lease.expires.since(now).as_secs()).unwrap_or(i64::MAX);
        Some(Remaining { ttl, granted: lease.ttl })
    }

    /// All leases, the one that ends first before the others, less those whose revocation is decided.
    pub fn by_expiry(&self) -> impl Iterator<Item = LeaseId> {
        self.by_expiry.iter().map(|&(_, id)| id).filter(|id| !self.leases[id].gone)
    }

    /// When the next lease ends whose revocation is not under way.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.iter().find(|(_, id)| !self.leases[id].revoking).map(|&(at, _)| at)
    }

    /// Up to `most` leases that have ended, which are from now on being revoked.
    pub fn take_expired(&mut self, now: Instant, most: usize) -> Vec<LeaseId> {
        let ended = self.by_expiry.iter().take_while(|&&(at, _)| at <= now).map(|&(_, id)| id);
        let ended: Vec<LeaseId> = ended.filter(|id| !self.leases[id].revoking).take(most).collect();
        for id in &ended {
            self.set_revoking(*id, true);
        }
        ended
    }

    /// The revocation is decided: the shards know nothing of the lease any more.
    pub fn set_gone(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.gone = true;
        }
    }

    /// Marks a revocation as under way, or as given up.
    pub fn set_revoking(&mut self, id: LeaseId, revoking: bool) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.revoking = revoking;
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_ends_unless_renewed() {
        let mut lessor = Lessor::default();
        lessor.grant(at(0), LeaseId(1), 10);
        lessor.grant(at(0), LeaseId(2), 5);
        assert_eq!(lessor.by_expiry().collect::<Vec<_>>(), [LeaseId(2), LeaseId(1)]);
        assert_eq!(lessor.renew(at(4), LeaseId(2)), Renewal::Renewed(5));
        assert_eq!(lessor.remaining(at(6), LeaseId(2)), Some(Remaining { ttl: 3, granted: 5 }));
        assert!(lessor.take_expired(at(8), 10).is_empty());
        assert_eq!(lessor.take_expired(at(9), 10), [LeaseId(2)]);
        assert_eq!(lessor.renew(at(9), LeaseId(2)), Renewal::Ending);
        assert_eq!(lessor.next_expiry(), Some(at(10)));
        assert!(lessor.take_expired(at(9), 10).is_empty(), "it is being revoked already");
        lessor.remove(LeaseId(2));
        assert_eq!(lessor.renew(at(9), LeaseId(2)), Renewal::Missing);
        assert_eq!(lessor.remaining(at(10), LeaseId(1)), None);
    }
}
