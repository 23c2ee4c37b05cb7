//! The write-ahead log.

mod buffer;
mod cursor;
mod damage;
mod gather;
mod header;
mod inspect;
mod ledger;
mod name;
mod record;
mod recovery;
mod revisions;
mod scan;
mod state;
mod stream;
mod writer;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod recovery_test;
#[cfg(test)]
mod rig_test;

pub use damage::{Damage, Later, What};
pub use header::{BatchHeader, BatchKind, FORMAT, Known};
pub use inspect::{Content, Described, Sight, describe};
pub use ledger::{Ledger, SegmentUse};
pub use name::{SegmentName, WalId};
pub use record::Record;
pub use recovery::{Ask, Checkpoint, CutTail, Recovered, Recovery, RecoveryOptions, recover};
pub use revisions::missing_revision;
pub use state::{GroupStart, GroupTail, RunEnd, State, StateBatch};
pub use stream::RecoveredGroup;
pub use writer::{RecordNumber, SegmentWrite, Writer, WriterLimits, WriterOptions};
