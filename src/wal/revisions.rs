//! Whether every revision up to V is there: in a log, or in the pages.

use std::collections::BTreeMap;

use crate::base::{GroupId, GroupSet, Mark, Revision};

use super::recovery::{Checkpoint, Recovered};

/// The lowest revision up to `upto` that is not on this disk in all of its groups, if any is: data that was served is lost.
///
/// `upto` is V as recovered ([`super::Known::serving`]); on a cluster of one member, known stable as well (rules 12 and 17).
/// A revision up to the highest one in the pages cannot be told from one that was in a released entry, unless an entry of
/// another group names it.
pub fn missing_revision(recovered: &Recovered, checkpoints: &[Checkpoint], upto: Revision) -> Option<Revision> {
    let in_pages: BTreeMap<GroupId, Revision> = checkpoints.iter().map(|c| (c.group, c.revision)).collect();
    let mut parts: Vec<(Revision, GroupId, GroupSet)> = Vec::new();
    for group in &recovered.groups {
        parts.extend(group.entries.iter().filter_map(|entry| match entry.mark {
            Mark::Revision { revision, participants } if revision <= upto => Some((revision, group.group, participants)),
            _ => None,
        }));
    }
    parts.sort_unstable_by_key(|&(revision, group, _)| (revision, group));
    let mut expected = in_pages.values().copied().max().unwrap_or_default().max(Revision::FIRST).next();
    for of_one in parts.chunk_by(|a, b| a.0 == b.0) {
        let (revision, _, participants) = of_one[0];
        if revision > expected {
            return Some(expected);
        }
        let there: GroupSet = of_one.iter().map(|&(_, group, _)| group).collect();
        let held = |group: GroupId| in_pages.get(&group).is_some_and(|&pages| pages >= revision);
        if participants.iter().any(|group| !there.has(group) && !held(group)) {
            return Some(revision);
        }
        if revision == expected {
            expected = expected.next();
        }
    }
    (expected <= upto).then_some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::rig_test::*;
    use crate::wal::{Record, RecoveryOptions};

    /// What is missing up to 5 when the logs of groups 1 and 2 hold these records and the pages what the checkpoints say.
    fn missing(records: &[Record], checkpoints: &[Checkpoint]) -> Option<u64> {
        let mut rig = Rig::new(&[1, 2]);
        rig.batch(records);
        let options = RecoveryOptions { checkpoints: checkpoints.to_vec(), ..Default::default() };
        let recovered = rig.disk.recover(options).unwrap();
        missing_revision(&recovered, checkpoints, Revision(5)).map(Revision::get)
    }

    #[test]
    fn a_revision_is_missing_when_any_of_its_groups_lacks_it() {
        let all = [
            revision(1, 1, 2, &[1]),
            revision(2, 1, 3, &[2]),
            revision(1, 2, 4, &[1, 2]),
            revision(2, 2, 4, &[1, 2]),
            revision(1, 3, 5, &[1]),
            revision(1, 4, 6, &[1]),
        ];
        assert_eq!(missing(&all, &[]), None);
        let without = |place: usize| -> Vec<Record> {
            let rest = all.iter().enumerate().filter(|&(at, r)| at != place && group_of(r) == group_of(&all[place]));
            let others = all.iter().filter(|r| group_of(r) != group_of(&all[place]));
            renumbered(rest.map(|(_, r)| r.clone()).chain(others.cloned()).collect())
        };
        assert_eq!(missing(&without(0), &[]), Some(2));
        assert_eq!(missing(&without(1), &[]), Some(3));
        assert_eq!(missing(&without(3), &[]), Some(4));
        assert_eq!(missing(&all[..4], &[]), Some(5));
        assert_eq!(missing(&[], &[]), Some(2));
        assert_eq!(missing(&all, &[checkpoint(1, 2, 1, 4)]), None);
        assert_eq!(missing(&without(3), &[checkpoint(1, 2, 1, 4)]), None, "group 2's part cannot be known from here");
        assert_eq!(missing(&without(3), &[checkpoint(2, 1, 1, 3)]), Some(4));
    }

    fn group_of(record: &Record) -> GroupId {
        match record {
            Record::Entry { group, .. } => *group,
            _ => unreachable!("entries only"),
        }
    }

    fn renumbered(mut records: Vec<Record>) -> Vec<Record> {
        let mut last: BTreeMap<GroupId, u64> = BTreeMap::new();
        for record in &mut records {
            let Record::Entry { group, entry } = record else { unreachable!("entries only") };
            let index = last.entry(*group).or_default();
            *index += 1;
            entry.index.0 = *index;
        }
        records
    }
}
