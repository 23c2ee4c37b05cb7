//! A segment of the write-ahead log as items: batches, their records, and where the log ends.

use crate::base::{GroupSet, Mark};
use crate::mvcc::Span;
use crate::raft::Configuration;
use crate::state::kv::{self, Effect};
use crate::state::{MetaEffect, Payload};
use crate::wal::{BatchHeader, BatchKind, Content, Described, Record, SegmentName, Sight, StateBatch, describe};

use super::Item;

/// A thing in a segment, and whether it is damage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What is there.
    pub item: Item,
    /// A flaw that no interrupted write explains.
    pub is_damage: bool,
}

/// Everything in a segment's file, in order. `name` is that of the file, when it has one of ours; `values`: show values too.
pub fn items(name: Option<SegmentName>, bytes: &[u8], values: bool) -> impl Iterator<Item = Seen> {
    let mut described = describe(name, bytes).peekable();
    let mut last: Option<BatchHeader> = None;
    std::iter::from_fn(move || {
        let seen = match described.next()? {
            Described::Batch { offset, header, content } => {
                let missing = last.is_some_and(|last| header.batch.0 != last.batch.0.wrapping_add(1));
                last = Some(header);
                let mut item = batch(offset, &header);
                let malformed = content == Content::Malformed;
                add_content(&mut item, content, values);
                if missing {
                    item = item.saying("DAMAGE: batches before this one are missing");
                }
                Seen { item, is_damage: malformed || missing }
            }
            Described::Stop { offset, sight } => stop(offset, sight, bytes.len() as u64, described.peek().is_some()),
        };
        Some(seen)
    })
}

fn batch(offset: u64, header: &BatchHeader) -> Item {
    let holds = match header.kind {
        BatchKind::State => "state",
        BatchKind::Records => "records",
        BatchKind::Seal => "seal",
    };
    let item = Item::new("batch").number("offset", offset).number("number", header.batch.0).word("holds", holds);
    item.number("bytes", header.bytes)
        .number("records", header.records)
        .number("known_stable", header.known.stable.get())
        .number("serving", header.known.serving.get())
        .number("meta_applied", header.known.meta_applied.get())
}

fn stop(offset: u64, sight: Sight, file_bytes: u64, goes_on: bool) -> Seen {
    let behind = file_bytes.saturating_sub(offset);
    let at = |kind: &'static str| Item::new(kind).number("offset", offset);
    if goes_on {
        let what = match sight {
            Sight::Batch(header) => {
                format!("batch {} does not match its checksum, though a later batch stands behind it", header.batch)
            }
            Sight::Format(format) => format!("a batch of the unknown format {format}"),
            _ => "no sound batch begins here, though a later one stands behind it".to_owned(),
        };
        return Seen { item: at("damage").saying(what), is_damage: true };
    }
    let torn = |what: String| {
        let advice = "if this is the log's last segment, the write of it was under way when the process ended, and a start cuts it off; \
                      `etcring check` tells";
        Seen { item: at("torn").saying(format!("{what}: {advice}")), is_damage: false }
    };
    match sight {
        Sight::Zeros => {
            Seen { item: at("end").saying(format!("zeros to the end of the file, {behind} bytes")), is_damage: false }
        }
        Sight::Stale if offset > 0 => {
            let what = format!("the rest, {behind} bytes, is what an earlier use of the file left");
            Seen { item: at("end").saying(what), is_damage: false }
        }
        Sight::EndOfFile if file_bytes > 0 => Seen { item: at("end").saying("the segment is full"), is_damage: false },
        Sight::EndOfFile => Seen { item: at("damage").saying("the file is empty"), is_damage: true },
        Sight::Stale => {
            let what = "no batch of this segment: it is not in use yet, or not a segment of a write-ahead log";
            Seen { item: at("end").saying(what), is_damage: false }
        }
        Sight::Header => torn("most of a batch's header, but not all of it".to_owned()),
        Sight::Batch(header) if u64::from(header.bytes) > behind => {
            let what = format!("batch {} is longer than the rest of the file: the file is truncated", header.batch);
            Seen { item: at("damage").saying(what), is_damage: true }
        }
        Sight::Batch(header) => torn(format!(
            "batch {} with {} records in {} bytes does not match its checksum",
            header.batch, header.records, header.bytes
        )),
        Sight::Format(format) => {
            let what = format!("a batch of format {format}, which this etcring does not know: use the one that wrote it");
            Seen { item: at("damage").saying(what), is_damage: true }
        }
    }
}

fn add_content(item: &mut Item, content: Content, values: bool) {
    match content {
        Content::Seal => {}
        Content::Malformed => {
            item.push(Item::new("damage").saying("no writer writes such content, though the checksum matches"))
        }
        Content::State(state) => item.push(state_item(&state)),
        Content::Records(records) => records.into_iter().for_each(|record| item.push(record_item(record, values))),
    }
}

fn state_item(state: &StateBatch) -> Item {
    let mut item = Item::new("state").id("cluster", state.cluster.get()).id("member", state.member.get());
    item =
        item.number("cores", state.cores).number("segment_bytes", state.segment_bytes).number("term", state.state.term.get());
    if let Some(vote) = state.state.vote {
        item = item.id("vote", vote.get());
    }
    for (start, tail) in state.state.groups.iter().zip(&state.tails) {
        let mut group = Item::new("group").number("group", start.group.get()).number("start", start.start.get());
        group = group.number("start_term", start.start_term.get()).number("last", tail.last.get());
        if let Some(term) = tail.last_term {
            group = group.number("last_term", term.get());
        }
        item.push(with_configuration(group, &start.configuration));
    }
    for end in &state.ends {
        let end = Item::new("end_of_earlier_run")
            .number("run", end.wal.run.0)
            .number("core", end.wal.core.0)
            .number("sequence", end.sequence.0)
            .number("batch", end.batch.0);
        item.push(end);
    }
    item
}

fn with_configuration(item: Item, bytes: &[u8]) -> Item {
    match Configuration::decode(bytes) {
        Ok(c) => {
            let ids =
                |ids: &[crate::base::MemberId]| ids.iter().map(|id| format!("{:x}", id.get())).collect::<Vec<_>>().join(",");
            let item = item.number("configuration", c.version).number("shards", c.shards).word("voters", ids(c.voters()));
            if c.learners().is_empty() { item } else { item.word("learners", ids(c.learners())) }
        }
        Err(_) => item.word("configuration", "malformed"),
    }
}

fn record_item(record: Record, values: bool) -> Item {
    match record {
        Record::Vote { term, vote } => {
            let item = Item::new("vote").number("term", term.get());
            vote.map_or(item.clone(), |vote| item.id("for", vote.get()))
        }
        Record::Cut { group, after } => Item::new("cut").number("group", group.get()).number("after", after.get()),
        Record::Snapshot { group, index, term } => {
            Item::new("snapshot").number("group", group.get()).number("index", index.get()).number("term", term.get())
        }
        Record::Entry { group, entry } => {
            let mut item = Item::new("entry").number("group", group.get());
            item = item.number("index", entry.index.get()).number("term", entry.term.get());
            item = match entry.mark {
                Mark::Revision { revision, participants } if participants == GroupSet::of(group) => {
                    item.number("revision", revision.get())
                }
                Mark::Revision { revision, participants } => {
                    let groups: Vec<String> = participants.iter().map(|group| group.to_string()).collect();
                    item.number("revision", revision.get()).word("groups", groups.join(","))
                }
                Mark::After(after) => item.number("after", after.get()),
            };
            item.number("payload_bytes", entry.payload.len()).with_parts(payload_items(&entry.payload, values))
        }
    }
}

impl Item {
    fn with_parts(mut self, parts: Vec<Item>) -> Item {
        parts.into_iter().for_each(|part| self.push(part));
        self
    }
}

fn payload_items(payload: &bytes::Bytes, values: bool) -> Vec<Item> {
    let malformed = || vec![Item::new("damage").saying("the payload is none that this etcring writes")];
    match Payload::decode(payload) {
        Err(_) => malformed(),
        Ok(Payload::Kv(record)) => match kv::decode(&record) {
            Ok(effects) => effects.iter().map(|effect| effect_item(effect, values)).collect(),
            Err(_) => malformed(),
        },
        Ok(Payload::Barrier { term, configuration }) => {
            vec![with_configuration(Item::new("barrier").number("term", term.get()), &configuration)]
        }
        Ok(Payload::Compaction(revision)) => vec![Item::new("compaction").number("to", revision.get())],
        Ok(Payload::Meta(effect)) => vec![meta_item(&effect)],
    }
}

fn effect_item(effect: &Effect, values: bool) -> Item {
    match effect {
        Effect::Put { operation, key, value, lease, create_revision, version } => {
            let mut item = Item::new("put").bytes("key", key).number("operation", *operation).number("version", *version);
            item = match create_revision {
                Some(revision) => item.number("create_revision", revision.get()),
                None => item.word("create_revision", "this"),
            };
            item = item.signed("lease", lease.get()).number("value_bytes", value.len());
            if values { item.bytes("value", value) } else { item }
        }
        Effect::Delete { operation, key } => Item::new("delete").bytes("key", key).number("operation", *operation),
        Effect::DeleteRange { operation, span } => {
            let item = Item::new("delete_range").bytes("from", span.first());
            let item = if let Span::Between(_, end) = span { item.bytes("to", end) } else { item };
            item.number("operation", *operation)
        }
        Effect::DeleteAttached { operation, lease } => {
            Item::new("delete_attached").signed("lease", lease.get()).number("operation", *operation)
        }
    }
}

fn meta_item(effect: &MetaEffect) -> Item {
    match effect {
        MetaEffect::LeaseGrant { id, ttl } => Item::new("lease_grant").signed("lease", id.get()).signed("ttl_seconds", *ttl),
        MetaEffect::LeaseRevoke { id } => Item::new("lease_revoke").signed("lease", id.get()),
        MetaEffect::Alarm { member, kind, raised } => {
            Item::new("alarm").id("member", member.get()).signed("alarm", i64::from(*kind)).flag("raised", *raised)
        }
        MetaEffect::Member(record) => Item::new("member").number("bytes", record.len()),
    }
}
