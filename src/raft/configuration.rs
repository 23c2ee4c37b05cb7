//! Who votes, who learns, and how many shards there are (rule 15).

use bytes::Bytes;

use crate::base::limits::{MEMBERS_MAX, SHARDS_MAX};
use crate::base::wire::{Malformed, Reader, put_varint};
use crate::base::{GroupId, Index, MemberId};

/// One version of the cluster's configuration: the same for all groups, and an entry in each of their logs.
///
/// Encoded as version and shards as varints, then the voters and the learners, each as a varint count and 8 bytes per id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// Raised by one with each change. 0 is what a member starts a new cluster with: it is in no log yet.
    pub version: u64,
    /// The number of shards S: groups 1..=S hold them. Never changes.
    pub shards: u16,
    voters: Vec<MemberId>,
    learners: Vec<MemberId>,
}

impl Configuration {
    /// A configuration of these members, in any order. Refused unless there is a voter, nobody is named twice, and shards and
    /// members are within their limits.
    pub fn new(
        version: u64,
        shards: u16,
        mut voters: Vec<MemberId>,
        mut learners: Vec<MemberId>,
    ) -> Result<Configuration, Malformed> {
        voters.sort_unstable();
        learners.sort_unstable();
        let configuration = Configuration { version, shards, voters, learners };
        if configuration.is_sound() { Ok(configuration) } else { Err(Malformed) }
    }

    /// The same members and shards under another version.
    #[must_use]
    pub fn with_version(self, version: u64) -> Configuration {
        Configuration { version, ..self }
    }

    /// The voters, lowest id first.
    pub fn voters(&self) -> &[MemberId] {
        &self.voters
    }

    /// The learners, lowest id first.
    pub fn learners(&self) -> &[MemberId] {
        &self.learners
    }

    /// Everyone who has a replica of each group.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether `member` votes.
    pub fn is_voter(&self, member: MemberId) -> bool {
        self.voters.binary_search(&member).is_ok()
    }

    /// How many voters make a quorum.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether the voters for which `has` holds make a quorum.
    pub fn is_quorum(&self, has: impl Fn(MemberId) -> bool) -> bool {
        self.voters.iter().filter(|&&v| has(v)).count() >= self.quorum()
    }

    /// The highest value that a quorum of the voters has reached.
    pub fn reached_by_quorum<T: Copy + Ord + Default>(&self, of: impl Fn(MemberId) -> T) -> T {
        if let [only] = self.voters[..] {
            return of(only);
        }
        let mut values = [T::default(); MEMBERS_MAX];
        let values = &mut values[..self.voters.len()];
        for (value, &voter) in values.iter_mut().zip(&self.voters) {
            *value = of(voter);
        }
        values.sort_unstable();
        values[self.voters.len() - self.quorum()]
    }

    /// All groups: 0 and one per shard.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=self.shards).map(GroupId)
    }

    /// As a byte string.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + 8 * (self.voters.len() + self.learners.len()));
        put_varint(&mut out, self.version);
        put_varint(&mut out, u64::from(self.shards));
        for members in [&self.voters, &self.learners] {
            put_varint(&mut out, members.len() as u64);
            for member in members {
                out.extend_from_slice(&member.0.to_le_bytes());
            }
        }
        out.into()
    }

    /// Reads what [`Configuration::encode`] wrote, from the front of `reader`.
    pub fn read(reader: &mut Reader<'_>) -> Result<Configuration, Malformed> {
        let version = reader.varint()?;
        let shards = u16::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let mut members = || -> Result<Vec<MemberId>, Malformed> {
            let count = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
            if count > MEMBERS_MAX {
                return Err(Malformed);
            }
            (0..count).map(|_| reader.u64().map(MemberId)).collect()
        };
        let (voters, learners) = (members()?, members()?);
        let configuration = Configuration { version, shards, voters, learners };
        if configuration.is_sound() { Ok(configuration) } else { Err(Malformed) }
    }

    /// Reads a byte string that holds a configuration and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Configuration, Malformed> {
        let mut reader = Reader::new(bytes);
        let configuration = Configuration::read(&mut reader)?;
        if reader.is_empty() { Ok(configuration) } else { Err(Malformed) }
    }

    fn is_sound(&self) -> bool {
        let ascends = |members: &[MemberId]| members.windows(2).all(|pair| pair[0] < pair[1]);
        !self.voters.is_empty()
            && self.voters.len() + self.learners.len() <= MEMBERS_MAX
            && (1..=SHARDS_MAX).contains(&usize::from(self.shards))
            && ascends(&self.voters)
            && ascends(&self.learners)
            && !self.learners.iter().any(|&l| self.is_voter(l))
    }
}

/// The configurations in a group's log that may still count: the newest is in force from the moment it is appended, and the
/// one before it again when its entry is cut (rule 15).
#[derive(Clone, Debug)]
pub(super) struct Configurations {
    /// By index, ascending; never empty. The first is the one in force at the log's start.
    at: Vec<(Index, Configuration)>,
}

impl Configurations {
    pub(super) fn new(start: Index, configuration: Configuration) -> Configurations {
        Configurations { at: vec![(start, configuration)] }
    }

    pub(super) fn newest(&self) -> &Configuration {
        &self.at.last().expect("there is one at the start").1
    }

    pub(super) fn newest_index(&self) -> Index {
        self.at.last().expect("there is one at the start").0
    }

    /// The configuration in force at `index`.
    pub(super) fn in_force_at(&self, index: Index) -> &Configuration {
        let after = self.at.partition_point(|(at, _)| *at <= index);
        &self.at[after.saturating_sub(1)].1
    }

    pub(super) fn append(&mut self, index: Index, configuration: Configuration) {
        assert!(index > self.newest_index(), "configurations are appended in order");
        self.at.push((index, configuration));
    }

    pub(super) fn cut(&mut self, after: Index) {
        let keep = self.at.partition_point(|(at, _)| *at <= after).max(1);
        self.at.truncate(keep);
    }

    pub(super) fn compact(&mut self, upto: Index) {
        let before = self.at.partition_point(|(at, _)| *at <= upto).saturating_sub(1);
        self.at.drain(..before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: u64, voters: &[u64]) -> Configuration {
        Configuration::new(version, 4, voters.iter().copied().map(MemberId).collect(), vec![]).expect("sound")
    }

    #[test]
    fn encoding_comes_back() {
        let c = Configuration::new(3, 16, vec![MemberId(9), MemberId(2)], vec![MemberId(5)]).expect("sound");
        assert_eq!(c.voters(), [MemberId(2), MemberId(9)]);
        assert_eq!(Configuration::decode(&c.encode()), Ok(c.clone()));
        let bytes = c.encode();
        for len in 0..bytes.len() {
            assert_eq!(Configuration::decode(&bytes[..len]), Err(Malformed), "cut at {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Configuration::decode(&longer), Err(Malformed));
    }

    #[test]
    fn unsound_ones_are_refused() {
        let m = MemberId;
        assert_eq!(Configuration::new(1, 4, vec![], vec![]), Err(Malformed), "no voter");
        assert_eq!(Configuration::new(1, 0, vec![m(1)], vec![]), Err(Malformed), "no shard");
        assert_eq!(Configuration::new(1, SHARDS_MAX as u16 + 1, vec![m(1)], vec![]), Err(Malformed), "too many shards");
        assert_eq!(Configuration::new(1, 4, vec![m(1), m(1)], vec![]), Err(Malformed), "named twice");
        assert_eq!(Configuration::new(1, 4, vec![m(1)], vec![m(1)]), Err(Malformed), "votes and learns");
        let many = (0..=MEMBERS_MAX as u64).map(m).collect();
        assert_eq!(Configuration::new(1, 4, many, vec![]), Err(Malformed), "too many members");
    }

    #[test]
    fn a_quorum_is_more_than_half_of_the_voters() {
        for (voters, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let ids: Vec<u64> = (1..=voters).collect();
            assert_eq!(of(1, &ids).quorum(), quorum);
        }
        let three = of(1, &[1, 2, 3]);
        assert!(three.is_quorum(|m| m.0 != 2) && !three.is_quorum(|m| m.0 == 2));
        assert_eq!(three.reached_by_quorum(|m| m.0 * 10), 20);
        assert_eq!(of(1, &[1, 2, 3, 4]).reached_by_quorum(|m| m.0 * 10), 20);
        assert_eq!(of(1, &[7]).reached_by_quorum(|m| m.0), 7);
    }

    #[test]
    fn the_newest_in_the_log_counts_until_it_is_cut() {
        let mut all = Configurations::new(Index(0), of(1, &[1]));
        all.append(Index(5), of(2, &[1, 2]));
        all.append(Index(9), of(3, &[1, 2, 3]));
        assert_eq!(all.newest().version, 3);
        assert_eq!((all.in_force_at(Index(4)).version, all.in_force_at(Index(5)).version), (1, 2));
        all.cut(Index(8));
        assert_eq!(all.newest().version, 2);
        all.compact(Index(6));
        assert_eq!((all.newest().version, all.in_force_at(Index(6)).version, all.at.len()), (2, 2, 1));
    }
}
