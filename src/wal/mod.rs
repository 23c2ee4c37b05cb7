//! The write-ahead log.

mod buffer;
mod damage;
mod header;
mod ledger;
mod name;
mod record;
mod state;
mod writer;

pub use damage::{Damage, Later, What};
pub use header::{BatchHeader, BatchKind, FORMAT, Known};
pub use ledger::{Ledger, SegmentUse};
pub use name::{SegmentName, WalId};
pub use record::Record;
pub use state::{GroupStart, GroupTail, RunEnd, State, StateBatch};
pub use writer::{RecordNumber, SegmentWrite, Writer, WriterLimits, WriterOptions};
