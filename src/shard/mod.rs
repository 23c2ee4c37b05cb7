//! One shard core: its groups, its WAL and its part in the reign, as one event loop `handle(now, event, &mut effects)`, `flush`.
//!
//! ```text
//!  Event ─▶ core ─┬─ writes     evaluate, propose, answer at the quorum       (architecture, section 2)
//!                 ├─ reads      slices at a revision
//!                 ├─ holds      a shard's part in what touches several        (rule 4)
//!                 ├─ takeover   freeze, report, cut, barrier, open            (rules 6 to 9)
//!                 ├─ log        the WAL: one write per wake-up, segments      (rules 17 and 18)
//!                 ├─ pages      faults, applying, checkpoints
//!                 ├─ slices     of compactions                                (rule 16)
//!                 └─ chief      core 0: what coordinator and election ask for
//! ```
//!
//! Invariants:
//! - an answer or an event is queued for a front before the slot that covers it is raised (rule 13);
//! - nothing is proposed in a group that is held but its hold's part (rules 3 and 4);
//! - once frozen, nothing of a lower term is accepted, acknowledged or counted (rule 6).

mod answers;
mod chief;
mod core;
mod defragment;
mod effects;
mod events;
mod figures;
mod holds;
mod layout;
mod log;
pub mod messages;
mod pages;
mod reading;
mod reads;
mod slices;
mod takeover;
mod writes;

pub use self::answers::settle;
pub use self::core::Core;
pub use self::effects::{DiskEffect, Effect};
pub use self::events::{CoreMessage, Decision, Event, Facts, HoldId, HoldPurpose, OwnStripe, PartFacts};
pub use self::figures::CoreFigures;
pub use self::layout::Layout;
pub use self::log::CoreLog;
pub use self::messages::{Answer, CompactionHash, Leave, Order, Refusal, Ticket, ToCore, ToFront, Write, WriteResponse};
