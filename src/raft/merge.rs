//! How far the merged logs of a takeover reach, and where each is cut (rule 9).
//!
//! ```text
//!                    applied     known stable   W_final
//!   group 1   ... 4     7     |       9      |     11    |
//!   group 2   ...    5        |  8           | 10  11    |  13         13 and what follows it is cut:
//!   group 3   ...       6     |              | 10        |  12 13      12 is in group 4 too, and not there
//!   group 4   ...             |              |           |
//! ```
//!
//! Of known stable and what is applied: a voter's known stable is at least what any of its groups has applied (rule 6), and
//! known stable here is the maximum over the votes. So every revision that a log no longer has because it is applied or
//! compacted, at a voter or here, is at or below known stable. Above it, a revision is present exactly where its entry
//! stands in the merged log. At or below it, every revision was at a quorum in all its groups, so each copy stands in that group's
//! merged log, or is applied here; where neither is so, something was lost that a client may have seen.

use std::fmt;

use crate::base::{GroupId, GroupSet, Index, Mark, Revision};

/// A group's merged log, as a takeover has it before the cut.
#[derive(Clone, Copy, Debug)]
pub struct Stripe<'a> {
    /// The group.
    pub group: GroupId,
    /// The highest revision of its own that the group has applied here: in its pages, or in the snapshot that it pulled.
    pub applied: Revision,
    /// The entries of its merged log, as far back as is known; at least all that are not applied here.
    pub marks: &'a [(Index, Mark)],
}

/// Where the logs are cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cuts {
    /// The highest revision that the new reign begins with as stable.
    pub w_final: Revision,
    /// The logs that reach beyond it: in each, the entries above the index are to be cut.
    pub cuts: Vec<Cut>,
}

/// A log that is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The group.
    pub group: GroupId,
    /// The last entry that stays.
    pub after: Index,
}

/// The merged logs are damaged. The takeover stops, and so does the member: nothing is served that may be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A revision that was stable, and is not applied here, is gone.
    Missing {
        /// The revision.
        revision: Revision,
        /// The group whose log lacks it, if another still names it; else it is in no log at all.
        group: Option<GroupId>,
    },
    /// What the entries of a log count as falls at this entry.
    Falls {
        /// The group.
        group: GroupId,
        /// The entry.
        index: Index,
    },
    /// An entry names participants of its revision that other entries of it do not, or does not name its own group.
    Disagrees {
        /// The revision.
        revision: Revision,
        /// The group of the entry.
        group: GroupId,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Missing { revision, group: None } => write!(f, "revision {revision} was stable and is in no log"),
            Damage::Missing { revision, group: Some(group) } => {
                write!(f, "revision {revision} was stable and is missing in the log of group {group}")
            }
            Damage::Falls { group, index } => write!(f, "the revision falls at entry {index} of group {group}"),
            Damage::Disagrees { revision, group } => {
                write!(f, "revision {revision} has other participants in the log of group {group}")
            }
        }
    }
}

impl std::error::Error for Damage {}

/// W_final and the cuts: the largest revision such that each one above `known_stable`, up to it, is present in the merged logs
/// of all its participants; each log is cut at the first entry that counts as more (rule 9).
pub fn w_final(known_stable: Revision, stripes: &[Stripe<'_>]) -> Result<Cuts, Damage> {
    check_order(stripes)?;
    let mut walk = Walk { stripes, places: vec![0; stripes.len()] };
    // Up to here every revision is accounted for: applied here, perhaps in a group whose log no longer has it. A fresh store
    // is at revision 1 without an entry.
    let applied = stripes.iter().map(|s| s.applied).max().unwrap_or(Revision::ZERO);
    let mut accounted = applied.max(Revision::FIRST);
    let mut w_final = known_stable;
    while let Some(found) = walk.next()? {
        let lacking = found.lacking(stripes);
        if found.revision > known_stable {
            if found.revision > w_final.next() || lacking.is_some() {
                break;
            }
            w_final = found.revision;
            continue;
        }
        if found.revision > accounted.next() {
            break;
        }
        if let Some(group) = lacking {
            return Err(Damage::Missing { revision: found.revision, group: Some(group) });
        }
        accounted = accounted.max(found.revision);
    }
    if accounted < known_stable {
        return Err(Damage::Missing { revision: accounted.next(), group: None });
    }
    Ok(Cuts { w_final, cuts: stripes.iter().filter_map(|stripe| cut(stripe, w_final)).collect() })
}

/// The cut of one log: at the first entry that counts as more than `w_final`, the entry and everything after it (rule 3: what
/// comes after a revision that is cut goes with it).
fn cut(stripe: &Stripe<'_>, w_final: Revision) -> Option<Cut> {
    let place = stripe.marks.partition_point(|(_, mark)| mark.counts_as() <= w_final);
    let (first_gone, _) = stripe.marks.get(place)?;
    Some(Cut { group: stripe.group, after: Index(first_gone.0 - 1) })
}

/// What the entries count as never falls along a log, and a revision is above all before it.
fn check_order(stripes: &[Stripe<'_>]) -> Result<(), Damage> {
    for stripe in stripes {
        let mut before = Revision::ZERO;
        for &(index, mark) in stripe.marks {
            let rises = mark.revision().is_some_and(|revision| revision > before);
            if !rises && (mark.revision().is_some() || mark.counts_as() < before) {
                return Err(Damage::Falls { group: stripe.group, index });
            }
            before = mark.counts_as();
        }
    }
    Ok(())
}

/// Goes through the revisions of all logs, lowest first.
struct Walk<'a> {
    stripes: &'a [Stripe<'a>],
    /// The next mark to look at, per stripe.
    places: Vec<usize>,
}

/// A revision, and where its entries are.
struct Found {
    revision: Revision,
    participants: GroupSet,
    holders: GroupSet,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<Found>, Damage> {
        let mut lowest: Option<Found> = None;
        for (stripe, place) in self.stripes.iter().zip(&mut self.places) {
            while stripe.marks.get(*place).is_some_and(|(_, mark)| mark.revision().is_none()) {
                *place += 1;
            }
            let Some(&(_, Mark::Revision { revision, participants })) = stripe.marks.get(*place) else { continue };
            if !participants.has(stripe.group) {
                return Err(Damage::Disagrees { revision, group: stripe.group });
            }
            let of_group = GroupSet::of(stripe.group);
            match &mut lowest {
                Some(found) if found.revision < revision => {}
                Some(found) if found.revision == revision => {
                    if found.participants != participants {
                        return Err(Damage::Disagrees { revision, group: stripe.group });
                    }
                    found.holders = found.holders.with(stripe.group);
                }
                _ => lowest = Some(Found { revision, participants, holders: of_group }),
            }
        }
        let Some(found) = &lowest else { return Ok(None) };
        for (stripe, place) in self.stripes.iter().zip(&mut self.places) {
            *place += usize::from(found.holders.has(stripe.group));
        }
        Ok(lowest)
    }
}

impl Found {
    /// A participant that has it neither in its log nor applied.
    fn lacking(&self, stripes: &[Stripe<'_>]) -> Option<GroupId> {
        let applied = |group| stripes.iter().any(|s| s.group == group && s.applied >= self.revision);
        if self.participants == self.holders {
            return None;
        }
        self.participants.iter().find(|&group| !self.holders.has(group) && !applied(group))
    }
}

#[cfg(test)]
#[path = "merge_test.rs"]
mod tests;
