//! Which WAL, and which file of it.

use std::fmt;

use crate::base::limits::WAL_INDEX_MAX;
use crate::base::{CoreId, RunNumber, SegmentSequence};

/// A WAL: what one shard core logs during one run of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WalId {
    /// The run, raised at each start.
    pub run: RunNumber,
    /// The core, as that run counted its cores.
    pub core: CoreId,
}

/// A segment of a WAL. Its `Display` is the name of its file: `RUN-CORE-SEQUENCE.wal`, hex of fixed width.
///
/// Ordered as recovery reads segments: by run, core, sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentName {
    /// The WAL that it belongs to.
    pub wal: WalId,
    /// Its place in it, from 1.
    pub sequence: SegmentSequence,
}

impl SegmentName {
    /// The name that a file name stands for; `None` for every other file.
    pub fn parse(file: &str) -> Option<SegmentName> {
        let mut parts = file.strip_suffix(".wal")?.split('-');
        let run = RunNumber(hex(parts.next()?, 16)?);
        let core = CoreId(u16::try_from(hex(parts.next()?, 4)?).ok()?);
        let sequence = SegmentSequence(hex(parts.next()?, 16)?);
        (parts.next().is_none()).then_some(SegmentName { wal: WalId { run, core }, sequence })
    }

    /// The segment after this one.
    pub(super) fn next(self) -> SegmentName {
        SegmentName { wal: self.wal, sequence: SegmentSequence(self.sequence.0 + 1) }
    }
}

fn hex(digits: &str, width: usize) -> Option<u64> {
    let plain = digits.len() == width && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let number = plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    // So that counting on from it never overflows.
    number.filter(|&number| number <= WAL_INDEX_MAX)
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:04x}-{:016x}.wal", self.wal.run.0, self.wal.core.0, self.sequence.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_come_back_and_others_are_refused() {
        let name = SegmentName { wal: WalId { run: RunNumber(0x1f), core: CoreId(3) }, sequence: SegmentSequence(7) };
        assert_eq!(name.to_string(), "000000000000001f-0003-0000000000000007.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        for other in [
            "",
            ".wal",
            "1f-3-7.wal",
            "000000000000001F-0003-0000000000000007.wal",
            "+00000000000001f-0003-0000000000000007.wal",
            "000000000000001f-0003-0000000000000007-00.wal",
            "000000000000001f-0003-0000000000000007.wal.tmp",
            "ffffffffffffffff-0003-0000000000000007.wal",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}
