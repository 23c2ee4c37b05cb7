//! Leases: granting, renewing, revoking, expiry (surface of etcd's lease service; architecture, section 4).

use crate::base::limits::{LEASE_SCAN_INTERVAL, LEASES_EXPIRED_PER_SCAN_MAX};
use crate::base::{Instant, LeaseId};
use crate::reign::Reign;
use crate::shard::{Answer, HoldPurpose, Refusal, Ticket};
use crate::state::{MetaEffect, Payload};

use super::chief::{Action, Chief, Then};
use super::lessor::Renewal;
use super::operations::Operation;

impl Chief {
    pub(super) fn lease_grant(&mut self, reign: &Reign, ticket: Ticket, id: LeaseId, ttl: i64, actions: &mut Vec<Action>) {
        if self.lessor.has(id) || !self.granting.insert(id) {
            return self.answer_by_state(reign, ticket, Answer::Refused(Refusal::LeaseExists), actions);
        }
        let payload = Payload::Meta(MetaEffect::LeaseGrant { id, ttl });
        self.propose(reign, payload, Some(ticket), Then::Granted { id, ttl }, actions);
    }

    pub(super) fn lease_revoke(&mut self, reign: &Reign, ticket: Ticket, id: LeaseId, actions: &mut Vec<Action>) {
        if !self.lessor.has(id) {
            return self.answer_by_state(reign, ticket, Answer::Refused(Refusal::LeaseNotFound), actions);
        }
        if self.lessor.is_revoking(id) {
            // It is there until its revocation is stable.
            return self.revoking.entry(id).or_default().push(ticket);
        }
        self.lessor.set_revoking(id, true);
        self.revoke(vec![id], Some(ticket), actions);
    }

    pub(super) fn lease_keep_alive(&mut self, now: Instant, ticket: Ticket, id: LeaseId, actions: &mut Vec<Action>) {
        match self.lessor.renew(now, id) {
            Renewal::Renewed(ttl) => self.answer_now(ticket, Answer::Renewed { id, ttl }, actions),
            Renewal::Missing => self.answer_now(ticket, Answer::Renewed { id, ttl: 0 }, actions),
            // etcd answers when the lease is gone.
            Renewal::Ending => self.ending.entry(id).or_default().push(ticket),
        }
    }

    pub(super) fn lease_time_to_live(
        &self,
        now: Instant,
        reign: &Reign,
        ticket: Ticket,
        id: LeaseId,
        actions: &mut Vec<Action>,
    ) {
        let answer = match self.lessor.remaining(now, id) {
            Some(left) => Answer::Remaining { id, ttl: left.ttl, granted: left.granted },
            None => Answer::Remaining { id, ttl: -1, granted: 0 },
        };
        self.answer_by_state(reign, ticket, answer, actions);
    }

    /// Leases that have ended are revoked, those of one scan under one hold.
    pub(super) fn scan_leases(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.next_scan = now + LEASE_SCAN_INTERVAL;
        // On a full disk leases live on until there is space to write of their end.
        if self.board.is_short() {
            return;
        }
        let ended = self.lessor.take_expired(now, LEASES_EXPIRED_PER_SCAN_MAX);
        self.figures.leases_expired += ended.len() as u64;
        if !ended.is_empty() {
            self.revoke(ended, None, actions);
        }
    }

    fn revoke(&mut self, leases: Vec<LeaseId>, ticket: Option<Ticket>, actions: &mut Vec<Action>) {
        let groups = self.data_groups().collect();
        let operation = Operation::new(self.new_hold(), groups, ticket, HoldPurpose::Revoke(leases));
        self.begin(operation, actions);
    }

    /// A lease is granted: every shard knows before the client does.
    pub(super) fn granted(&mut self, now: Instant, id: LeaseId, ttl: i64, ticket: Option<Ticket>, actions: &mut Vec<Action>) {
        self.granting.remove(&id);
        self.lessor.grant(now, id, ttl);
        self.to_cores(&crate::shard::CoreMessage::LeaseAlive(id), actions);
        if let Some(ticket) = ticket {
            self.answer_now(ticket, Answer::Granted { id, ttl }, actions);
        }
    }

    /// A lease is gone: keep-alives and revocations that met its end are answered.
    pub(super) fn revoked(&mut self, id: LeaseId, actions: &mut Vec<Action>) {
        self.lessor.remove(id);
        for ticket in self.revoking.remove(&id).unwrap_or_default() {
            self.answer_now(ticket, Answer::Refused(Refusal::LeaseNotFound), actions);
        }
        for ticket in self.ending.remove(&id).unwrap_or_default() {
            self.answer_now(ticket, Answer::Renewed { id, ttl: 0 }, actions);
        }
    }
}
