//! Leases: what clients ask of them and know of them. A lease that is gone never comes back, and one that must be there is.

use bytes::Bytes;

use crate::base::{Instant, Prng};
use crate::front::{CallId, Method};
use crate::proto::etcdserverpb as pb;

use super::clients::{Clients, Kind, decode};
use super::history::History;
use super::member::Member;

/// A lease as far as the clients know. What they came to know is dated by the last call opened before.
#[derive(Clone, Debug)]
pub struct Lease {
    /// It lives so long at least, unless it is revoked.
    pub until: Instant,
    /// Seconds.
    pub ttl: i64,
    /// Its grant was answered.
    pub granted: Option<u64>,
    /// How often its revocation was asked for.
    pub revocations: u32,
    /// It was said to be revoked, or not to be there after it had been granted: it must never come back.
    pub gone: Option<u64>,
}

impl Lease {
    /// Whether it must be there.
    pub fn lives(&self, now: Instant) -> bool {
        self.granted.is_some() && self.revocations == 0 && now < self.until
    }

    /// Whether it may have ended.
    pub fn may_have_ended(&self, now: Instant) -> bool {
        self.revocations > 0 || now >= self.until
    }

    /// Whether this call, which asks for its revocation, may hear that it is not there.
    pub fn may_be_revoked_already(&self, call: CallId, now: Instant) -> bool {
        !self.is_granted_for(call) || self.revocations > 1 || now >= self.until
    }

    /// Whether it was known to be gone when this call was opened.
    pub fn is_gone_for(&self, call: CallId) -> bool {
        self.gone.is_some_and(|last| last < call.0)
    }

    /// Whether it was known to be granted when this call was opened.
    fn is_granted_for(&self, call: CallId) -> bool {
        self.granted.is_some_and(|last| last < call.0)
    }
}

/// What is asked of one lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseCall {
    /// To be granted.
    Grant,
    /// To be revoked.
    Revoke,
    /// To be kept alive.
    KeepAlive,
    /// What is left of it.
    TimeToLive,
}

/// A call about a lease, and when it is answered.
#[derive(Debug)]
pub struct LeaseAsked {
    /// The call.
    pub call: CallId,
    /// When it was asked.
    pub at: Instant,
    /// The highest revision that had been shown then.
    pub low: i64,
    /// Now.
    pub now: Instant,
    /// The last call opened.
    pub last: u64,
}

impl Clients {
    /// Some client asks something of leases.
    pub fn act_on_leases(&mut self, member: &mut Member, history: &mut History, now: Instant, rng: &mut Prng) {
        self.now = now;
        let front = rng.below(u64::from(member.shape.fronts)) as u16;
        match rng.below(10) {
            0 => self.grant(member, history, front, rng),
            1..4 => self.revoke(member, history, front, rng),
            4 => self.keep_alive(member, history, front, rng),
            5..8 => self.time_to_live(member, history, front, rng),
            _ => self.list_leases(member, history, front),
        }
    }

    pub(super) fn grant(&mut self, member: &mut Member, history: &mut History, front: u16, rng: &mut Prng) {
        self.next_lease += 1;
        let id = self.next_lease;
        let ttl = if rng.chance(1, 2) { 2 + rng.below(4) as i64 } else { 100_000 };
        let until = self.now + std::time::Duration::from_secs(ttl.unsigned_abs());
        history.leases.insert(id, Lease { until, ttl, granted: None, revocations: 0, gone: None });
        let call = self.open(member, front, Method::LeaseGrant, &pb::LeaseGrantRequest { id, ttl });
        self.keep(call, front, Kind::Lease(id, LeaseCall::Grant), history);
    }

    fn some_lease(history: &History, rng: &mut Prng) -> Option<i64> {
        let ids: Vec<i64> = history.leases.keys().copied().collect();
        // Often one that is being revoked, else rather one of the last.
        let ending = history.leases.iter().rfind(|(_, lease)| lease.revocations > 0 && lease.gone.is_none());
        if let Some((&id, _)) = ending.filter(|_| rng.chance(1, 3)) {
            return Some(id);
        }
        let from = if rng.chance(2, 3) { ids.len().saturating_sub(6) } else { 0 };
        (!ids.is_empty()).then(|| ids[from + rng.below((ids.len() - from) as u64) as usize])
    }

    pub(super) fn revoke(&mut self, member: &mut Member, history: &mut History, front: u16, rng: &mut Prng) {
        let Some(id) = Clients::some_lease(history, rng) else { return };
        history.leases.get_mut(&id).expect("it is one of them").revocations += 1;
        let call = self.open(member, front, Method::LeaseRevoke, &pb::LeaseRevokeRequest { id });
        self.keep(call, front, Kind::Lease(id, LeaseCall::Revoke), history);
    }

    pub(super) fn keep_alive(&mut self, member: &mut Member, history: &History, front: u16, rng: &mut Prng) {
        let Some(id) = Clients::some_lease(history, rng) else { return };
        let call = self.open(member, front, Method::LeaseKeepAlive, &pb::LeaseKeepAliveRequest { id });
        self.keep(call, front, Kind::Lease(id, LeaseCall::KeepAlive), history);
    }

    pub(super) fn time_to_live(&mut self, member: &mut Member, history: &History, front: u16, rng: &mut Prng) {
        let Some(id) = Clients::some_lease(history, rng) else { return };
        let request = pb::LeaseTimeToLiveRequest { id, keys: rng.chance(1, 2) };
        let call = self.open(member, front, Method::LeaseTimeToLive, &request);
        self.keep(call, front, Kind::Lease(id, LeaseCall::TimeToLive), history);
    }

    /// Asks for all leases.
    pub fn list_leases(&mut self, member: &mut Member, history: &History, front: u16) {
        let call = self.open(member, front, Method::LeaseLeases, &pb::LeaseLeasesRequest {});
        self.keep(call, front, Kind::Leases, history);
    }
}

/// An answer about one lease.
///
/// # Errors
/// What is wrong with it.
pub fn lease_answered(id: i64, of: LeaseCall, asked: &LeaseAsked, bytes: &Bytes, history: &mut History) -> Result<(), String> {
    let revision = |header: &Option<pb::ResponseHeader>| header.as_ref().map_or(0, |h| h.revision);
    let lease = history.leases.get_mut(&id).expect("it was asked for");
    let (there, header) = match of {
        LeaseCall::Grant => {
            let granted: pb::LeaseGrantResponse = decode(bytes)?;
            lease.granted = Some(asked.last);
            if (granted.id, granted.ttl) != (id, lease.ttl) {
                return Err(format!("a grant of {id} for {} is answered {granted:?}", lease.ttl));
            }
            return history.told(revision(&granted.header), asked.low);
        }
        LeaseCall::Revoke => {
            let revoked: pb::LeaseRevokeResponse = decode(bytes)?;
            let again = lease.is_gone_for(asked.call);
            lease.gone.get_or_insert(asked.last);
            if again {
                return Err(format!("lease {id} is revoked, though it was gone"));
            }
            return history.told(revision(&revoked.header), asked.low);
        }
        LeaseCall::KeepAlive => {
            let alive: pb::LeaseKeepAliveResponse = decode(bytes)?;
            if alive.ttl > 0 {
                lease.until = lease.until.max(asked.at + std::time::Duration::from_secs(lease.ttl.unsigned_abs()));
            }
            if alive.id != id || ![0, lease.ttl].contains(&alive.ttl) {
                return Err(format!("a keep-alive of {id} ({lease:?}) is answered {alive:?}"));
            }
            (alive.ttl > 0, alive.header)
        }
        LeaseCall::TimeToLive => {
            let left: pb::LeaseTimeToLiveResponse = decode(bytes)?;
            if left.id != id || left.ttl >= 0 && left.granted_ttl != lease.ttl {
                return Err(format!("the time to live of {id} ({lease:?}) is answered {left:?}"));
            }
            (left.ttl >= 0, left.header)
        }
    };
    if there && lease.is_gone_for(asked.call) {
        return Err(format!("{of:?} finds lease {id}, which was gone: {lease:?}"));
    }
    if !there && lease.is_granted_for(asked.call) {
        if lease.lives(asked.now) {
            return Err(format!("{of:?} does not find lease {id}: {lease:?} at {:?}", asked.now));
        }
        // One that has ended counts as not there before it is revoked, and lives on when the member starts anew.
        if of == LeaseCall::KeepAlive || asked.now < lease.until {
            lease.gone.get_or_insert(asked.last);
        }
    }
    history.told(revision(&header), asked.low)
}

/// The list of all leases: none that is gone, and every one that must be there. One that is not listed is revoked, ended or not.
///
/// # Errors
/// What is wrong with it.
pub fn leases_listed(asked: &LeaseAsked, listed: &pb::LeaseLeasesResponse, history: &mut History) -> Result<(), String> {
    let ids: Vec<i64> = listed.leases.iter().map(|lease| lease.id).collect();
    for (id, lease) in &mut history.leases {
        let there = ids.contains(id);
        let granted = lease.is_granted_for(asked.call);
        if there && lease.is_gone_for(asked.call) || !there && granted && lease.lives(asked.now) {
            return Err(format!("the leases are {ids:?}, and {id} is {lease:?} at {:?}", asked.now));
        }
        if !there && granted {
            lease.gone.get_or_insert(asked.last);
        }
    }
    Ok(())
}

impl History {
    /// Somebody heard that a lease is not there: if it had been granted when that was asked, it is gone.
    pub fn lease_not_there(&mut self, id: i64, call: CallId, last: u64) {
        if let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.is_granted_for(call)) {
            lease.gone.get_or_insert(last);
        }
    }
}
