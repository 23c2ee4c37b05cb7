//! The state batch at the head of each segment (rule 17): all that must not be lost when earlier segments are reused.
//!
//! ```text
//! u64 cluster, u64 member, u16 cores, u64 bytes of the segment
//! varint term, u8 voted, u64 vote when voted
//! varint configurations, each: varint length, bytes                     (each distinct one once)
//! varint groups, each: varint group, start, start term, last, last term, place of its configuration
//! varint ends, each: varint run, core, sequence, batch, u32 crc
//! ```

use bytes::Bytes;

use crate::base::limits::{WAL_CONFIGURATION_BYTES_MAX, WAL_ENDS_MAX, WAL_GROUPS_MAX};
use crate::base::wire::{Malformed, Reader, put_bytes, put_varint};
use crate::base::{BatchNumber, ClusterId, CoreId, GroupId, Index, MemberId, RunNumber, SegmentSequence, Term};

use super::name::WalId;
use super::record;

/// What the caller knows of a group when a segment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStart {
    /// The group.
    pub group: GroupId,
    /// The entries above it are still wanted; those up to it are in the page store.
    pub start: Index,
    /// The term of the entry at `start`.
    pub start_term: Term,
    /// The configuration that the group counts quorums by (rule 15); the caller's own encoding.
    pub configuration: Bytes,
}

/// What the caller gives when a segment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The member's term; never below one that was logged before.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<MemberId>,
    /// Every group of this WAL's core.
    pub groups: Vec<GroupStart>,
}

/// How far a group's log goes at some place of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTail {
    /// The group.
    pub group: GroupId,
    /// The last entry's index; 0 before the first.
    pub last: Index,
    /// Its term, where known: after a cut it is not.
    pub last_term: Option<Term>,
}

/// Where a WAL of an earlier run ended. What lies behind that place does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The WAL.
    pub wal: WalId,
    /// The segment of the last batch that counts; 0 when none does.
    pub sequence: SegmentSequence,
    /// The number of that batch; 0 when none counts.
    pub batch: BatchNumber,
    /// Its header's crc.
    pub crc: u32,
}

/// A state batch as it is on disk: what the caller gave, what the writer knew, and ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateBatch {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// How many shard cores, and so WALs, this run has.
    pub cores: u16,
    /// How many bytes of its file the segment may use.
    pub segment_bytes: u64,
    /// Term and vote and the groups' starts.
    pub state: State,
    /// How far each of those groups' logs went before this batch; in the order of `state.groups`.
    pub tails: Vec<GroupTail>,
    /// Where the WALs of earlier runs ended whose files were there when this run began.
    pub ends: Vec<RunEnd>,
}

impl StateBatch {
    pub(super) fn encode(&self) -> Vec<u8> {
        assert_eq!(self.tails.len(), self.state.groups.len(), "each group has its tail");
        assert!(self.tails.len() <= WAL_GROUPS_MAX, "{} groups on one core", self.tails.len());
        assert!(self.ends.len() <= WAL_ENDS_MAX, "{} ends of earlier WALs", self.ends.len());
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        out.extend_from_slice(&self.cores.to_le_bytes());
        out.extend_from_slice(&self.segment_bytes.to_le_bytes());
        put_varint(&mut out, self.state.term.0);
        out.push(u8::from(self.state.vote.is_some()));
        if let Some(vote) = self.state.vote {
            out.extend_from_slice(&vote.0.to_le_bytes());
        }
        self.encode_groups(&mut out);
        put_varint(&mut out, self.ends.len() as u64);
        for end in &self.ends {
            put_varint(&mut out, end.wal.run.0);
            put_varint(&mut out, u64::from(end.wal.core.0));
            put_varint(&mut out, end.sequence.0);
            put_varint(&mut out, end.batch.0);
            out.extend_from_slice(&end.crc.to_le_bytes());
        }
        out
    }

    fn encode_groups(&self, out: &mut Vec<u8>) {
        let mut configurations: Vec<&Bytes> = Vec::new();
        let places: Vec<usize> = (self.state.groups.iter())
            .map(|group| {
                let known = configurations.iter().position(|&c| *c == group.configuration);
                known.unwrap_or_else(|| {
                    assert!(group.configuration.len() <= WAL_CONFIGURATION_BYTES_MAX, "a configuration is too long");
                    configurations.push(&group.configuration);
                    configurations.len() - 1
                })
            })
            .collect();
        put_varint(out, configurations.len() as u64);
        for configuration in configurations {
            put_bytes(out, configuration);
        }
        put_varint(out, self.state.groups.len() as u64);
        for ((group, tail), place) in self.state.groups.iter().zip(&self.tails).zip(places) {
            assert_eq!(group.group, tail.group, "each group has its tail");
            put_varint(out, u64::from(group.group.0));
            put_varint(out, group.start.0);
            put_varint(out, group.start_term.0);
            put_varint(out, tail.last.0);
            put_varint(out, tail.last_term.map_or(0, Term::get));
            put_varint(out, place as u64);
        }
    }

    /// Reads a state batch back. Every count is bounded before anything is made for it.
    pub(super) fn decode(bytes: &[u8]) -> Result<StateBatch, Malformed> {
        let mut r = Reader::new(bytes);
        let (cluster, member) = (ClusterId(r.u64()?), MemberId(r.u64()?));
        let (cores, segment_bytes) = (r.u16()?, r.u64()?);
        let term = Term(r.varint()?);
        let vote = match r.u8()? {
            0 => None,
            1 => Some(MemberId(r.u64()?)),
            _ => return Err(Malformed),
        };
        let (groups, tails) = decode_groups(&mut r)?;
        let ends = decode_ends(&mut r)?;
        if !r.is_empty() {
            return Err(Malformed);
        }
        Ok(StateBatch { cluster, member, cores, segment_bytes, state: State { term, vote, groups }, tails, ends })
    }
}

fn count(r: &mut Reader<'_>, max: usize) -> Result<usize, Malformed> {
    let count = usize::try_from(r.varint()?).map_err(|_| Malformed)?;
    if count <= max { Ok(count) } else { Err(Malformed) }
}

fn decode_groups(r: &mut Reader<'_>) -> Result<(Vec<GroupStart>, Vec<GroupTail>), Malformed> {
    let mut configurations = Vec::new();
    for _ in 0..count(r, WAL_GROUPS_MAX)? {
        let bytes = r.string()?;
        if bytes.len() > WAL_CONFIGURATION_BYTES_MAX {
            return Err(Malformed);
        }
        configurations.push(Bytes::copy_from_slice(bytes));
    }
    let (mut groups, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..count(r, WAL_GROUPS_MAX)? {
        let group = record::group(r)?;
        let (start, start_term) = (record::index(r)?, Term(r.varint()?));
        let (last, last_term) = (record::index(r)?, Term(r.varint()?));
        let place = usize::try_from(r.varint()?).map_err(|_| Malformed)?;
        let configuration = configurations.get(place).cloned().ok_or(Malformed)?;
        groups.push(GroupStart { group, start, start_term, configuration });
        tails.push(GroupTail { group, last, last_term: (last_term != Term(0)).then_some(last_term) });
    }
    Ok((groups, tails))
}

fn decode_ends(r: &mut Reader<'_>) -> Result<Vec<RunEnd>, Malformed> {
    let mut ends = Vec::new();
    for _ in 0..count(r, WAL_ENDS_MAX)? {
        let run = RunNumber(r.varint()?);
        let core = CoreId(u16::try_from(r.varint()?).map_err(|_| Malformed)?);
        let (sequence, batch) = (SegmentSequence(r.varint()?), BatchNumber(r.varint()?));
        ends.push(RunEnd { wal: WalId { run, core }, sequence, batch, crc: r.u32()? });
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::{BLOCK_BYTES, WAL_INDEX_MAX, WAL_STATE_BYTES_MAX};

    fn sample(groups: u16, ends: u64, configuration: impl Fn(u16) -> Vec<u8>) -> StateBatch {
        let groups: Vec<GroupStart> = (0..groups)
            .map(|g| GroupStart {
                group: GroupId(g),
                start: Index(WAL_INDEX_MAX),
                start_term: Term(u64::MAX),
                configuration: configuration(g).into(),
            })
            .collect();
        let tails = groups
            .iter()
            .map(|g| GroupTail {
                group: g.group,
                last: Index(WAL_INDEX_MAX),
                last_term: (g.group.0 % 2 == 0).then_some(Term(u64::MAX)),
            })
            .collect();
        let ends = (0..ends)
            .map(|run| RunEnd {
                wal: WalId { run: RunNumber(u64::MAX - run), core: CoreId(u16::MAX) },
                sequence: SegmentSequence(u64::MAX),
                batch: BatchNumber(u64::MAX),
                crc: u32::MAX,
            })
            .collect();
        StateBatch {
            cluster: ClusterId(1),
            member: MemberId(2),
            cores: 4,
            segment_bytes: 64 << 20,
            state: State { term: Term(7), vote: Some(MemberId(2)), groups },
            tails,
            ends,
        }
    }

    #[test]
    fn a_state_batch_comes_back_and_never_from_less() {
        let state = sample(3, 2, |_| b"one for all".to_vec());
        let bytes = state.encode();
        assert_eq!(StateBatch::decode(&bytes), Ok(state));
        for end in 0..bytes.len() {
            assert_eq!(StateBatch::decode(&bytes[..end]), Err(Malformed));
        }
    }

    #[test]
    fn the_fullest_state_batch_fits_its_limit() {
        let state = sample(WAL_GROUPS_MAX as u16, WAL_ENDS_MAX as u64, |g| {
            let mut configuration = vec![0; WAL_CONFIGURATION_BYTES_MAX];
            configuration[0] = g as u8;
            configuration
        });
        let bytes = state.encode();
        assert!(bytes.len() + BLOCK_BYTES <= WAL_STATE_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(StateBatch::decode(&bytes), Ok(state));
    }
}
