//! The requests that a front has under way at the cores: who waits for which answer, and the credits that keep the queues bounded.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::base::limits::CREDITS_PER_CORE;
use crate::base::{CoreId, FrontId, GroupId, Term};
use crate::shard::messages::{Order, Read, Ticket, ToCore, Write};

use super::call::CallId;

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A call; `part` tells its several reads apart.
    Call {
        /// Which.
        call: CallId,
        /// The call's own number of this request.
        part: u32,
    },
    /// A catch-up of the hub.
    CatchUp {
        /// The hub's number of it.
        task: u64,
    },
    /// The hash of a compaction.
    CompactionHash {
        /// The call that compacts.
        call: CallId,
    },
    /// Nobody any more; the answer only brings the credit back.
    Nobody,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Its ticket's number.
    pub number: u64,
    /// Who waits.
    pub owner: Owner,
    /// The group asked; [`GroupId::META`] for orders.
    pub group: GroupId,
    core: CoreId,
}

/// A request, less its ticket.
#[derive(Debug)]
pub enum Ask {
    /// For the group's core.
    Write(Term, Write),
    /// For the group's core.
    Read(Read),
    /// For core 0.
    Order(Term, Order),
}

/// All of them.
pub struct Tickets {
    front: FrontId,
    next: u64,
    open: HashMap<u64, Open>,
    credits: Vec<usize>,
    /// What goes on with something begun, and waits for a credit: bounded by what was begun.
    backlog: Vec<VecDeque<(u64, ToCore)>>,
}

impl Tickets {
    /// None yet, all credits here. `cores`: how many there are.
    pub fn new(front: FrontId, cores: usize) -> Tickets {
        Tickets {
            front,
            next: 1,
            open: HashMap::new(),
            credits: vec![CREDITS_PER_CORE; cores],
            backlog: (0..cores).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Whether a new request may go to `core`: it has a credit, and nothing waits for one.
    pub fn free(&self, core: CoreId) -> bool {
        self.credits[usize::from(core.0)] > 0
    }

    /// Makes the message of a request; it is sent at once, or when there is a credit.
    pub fn open(&mut self, core: CoreId, group: GroupId, owner: Owner, ask: Ask) -> (u64, Option<ToCore>) {
        let number = self.next;
        self.next += 1;
        let ticket = Ticket { front: self.front, number };
        self.open.insert(number, Open { number, owner, group, core });
        let message = match ask {
            Ask::Write(term, write) => ToCore::Write { ticket, term, group, write },
            Ask::Read(read) => ToCore::Read { ticket, group, read },
            Ask::Order(term, order) => ToCore::Order { ticket, term, order },
        };
        let at = usize::from(core.0);
        if self.credits[at] == 0 {
            self.backlog[at].push_back((number, message));
            return (number, None);
        }
        self.credits[at] -= 1;
        (number, Some(message))
    }

    /// The answer to a ticket is here. Its credit goes to the next message in the backlog that somebody waits for.
    pub fn close(&mut self, ticket: Ticket) -> (Open, Option<(CoreId, ToCore)>) {
        assert_eq!(ticket.front, self.front, "an answer for another front");
        let open = self.open.remove(&ticket.number).expect("every ticket is answered once");
        let at = usize::from(open.core.0);
        while let Some((number, message)) = self.backlog[at].pop_front() {
            if self.open[&number].owner != Owner::Nobody {
                return (open, Some((open.core, message)));
            }
            // Nobody waits for it any more, and no core has seen it.
            self.open.remove(&number);
        }
        self.credits[at] += 1;
        (open, None)
    }

    /// Nobody waits for this any more: the message that tells the core to drop it.
    pub fn cancel(&mut self, number: u64) -> Option<(CoreId, ToCore)> {
        let open = self.open.get_mut(&number)?;
        open.owner = Owner::Nobody;
        let ticket = Ticket { front: self.front, number };
        Some((open.core, ToCore::Cancel { ticket, group: open.group }))
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.open.len()
    }
}
