//! A page file as items: the metas with their note, then every page; on request its cells.

use crate::base::GroupId;
use crate::base::limits::PAGE_BYTES;
use crate::group::Note;
use crate::mvcc::PutFields;
use crate::mvcc::stored::{self, StoredChange, StoredVersion};
use crate::pages::{
    CellDescription, Damage, MetaDescription, PageDescription, PageId, Tree, TreeDescription, Usage, What, describe,
};
use crate::state::{META_TREES, MetaEntry};

use super::Item;
use super::segment::Seen;

/// What is to be shown.
#[derive(Clone, Copy, Default, Debug)]
pub struct Show {
    /// This page alone, with its cells.
    pub page: Option<PageId>,
    /// The cells of every page.
    pub cells: bool,
    /// Values too, as far as they stand in the cells.
    pub values: bool,
}

/// The pages of a file, in order.
pub struct Pages<'a> {
    file: &'a [u8],
    show: Show,
    usage: Result<Usage, Damage>,
    group: Option<GroupId>,
    next: u32,
}

/// Everything in a page file, in order of its pages.
pub fn items(file: &[u8], show: Show) -> Pages<'_> {
    let group = (0..2).find_map(|id| match page_at(file, PageId(id)).map(|bytes| describe(PageId(id), bytes)) {
        Some(PageDescription::Meta(MetaDescription::Sound { note, .. })) => Note::decode(&note).ok().map(|note| note.group),
        _ => None,
    });
    Pages { file, show, usage: Usage::of(file), group, next: show.page.map_or(0, |page| page.0) }
}

fn page_at(file: &[u8], id: PageId) -> Option<&[u8]> {
    let start = usize::try_from(id.offset()).ok()?;
    file.get(start..)?.get(..PAGE_BYTES)
}

impl Iterator for Pages<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        let id = PageId(self.next);
        let page = page_at(self.file, id)?;
        let in_use = self.usage.as_ref().ok().map(|usage| usage.is_used(id));
        // All that follows, for an overflow run in use; what is free may say that it is anything.
        let bytes = if in_use == Some(true) { &self.file[id.offset() as usize..] } else { page };
        let description = describe(id, bytes);
        let run = match description {
            // The inside of a run that is in use is no page of its own. What is free may be anything.
            PageDescription::Overflow { pages, .. } if in_use == Some(true) => pages.max(1),
            _ => 1,
        };
        self.next = match self.show.page {
            Some(_) => u32::MAX,
            None => self.next.saturating_add(run),
        };
        Some(self.seen(id, description, in_use))
    }
}

impl Pages<'_> {
    fn seen(&self, id: PageId, description: PageDescription, in_use: Option<bool>) -> Seen {
        let at = |kind: &'static str| Item::new(kind).number("page", id.0).number("offset", id.offset());
        let use_of = |item: Item, sound: bool| {
            let item = in_use.map_or(item.clone(), |in_use| item.flag("in_use", in_use));
            let spoils_usage = self.usage.as_ref().is_err_and(|damage| damage.page == id);
            let is_damage = !sound && (in_use == Some(true) || spoils_usage);
            let item = if is_damage {
                item.saying("DAMAGE: the checksum does not match, or the page contradicts itself")
            } else {
                item
            };
            Seen { item, is_damage }
        };
        match description {
            PageDescription::Meta(meta) => self.meta(at("meta"), id, meta),
            PageDescription::Tree(page) => {
                let kind = if page.level == 0 { "leaf" } else { "branch" };
                let mut item = at(kind).number("checkpoint", page.generation).word("tree", self.tree_name(page.tree));
                item = item.number("level", page.level).number("cells", page.cells.len()).number("free_bytes", page.free_bytes);
                let sound = page.sound && page.page == id;
                let mut seen = use_of(item, sound);
                if self.show.cells || self.show.page.is_some() {
                    self.add_cells(&mut seen.item, &page);
                }
                seen
            }
            PageDescription::Overflow { generation, tree, bytes, pages, sound, .. } => {
                let item = at("overflow").number("checkpoint", generation).word("tree", self.tree_name(tree));
                // A run that leads out of the file is not whole either; one that is free was not looked at.
                use_of(item.number("bytes", bytes).number("pages", pages), sound == Some(true))
            }
            PageDescription::Bitmap { page, generation, place, used_pages, sound } => {
                let item = at("bitmap").number("checkpoint", generation).number("place", place);
                use_of(item.number("marks_used", used_pages), sound && page == id)
            }
            PageDescription::Directory { page, generation, place, bitmaps, sound } => {
                let item = at("directory").number("checkpoint", generation).number("place", place);
                use_of(item.number("bitmaps", bitmaps.len()), sound && page == id)
            }
            PageDescription::Unknown if in_use == Some(true) => use_of(at("unknown"), false),
            PageDescription::Unknown if in_use.is_none() => Seen { item: at("unknown"), is_damage: false },
            PageDescription::Unknown => Seen { item: at("free"), is_damage: false },
        }
    }

    fn meta(&self, item: Item, id: PageId, meta: MetaDescription) -> Seen {
        let sound = |item: Item| Seen { item, is_damage: false };
        let seen = match meta {
            MetaDescription::NeverWritten => sound(item.saying("never written")),
            MetaDescription::Torn { generation } => {
                let what = "the write of this checkpoint was interrupted: the other meta page counts";
                sound(item.number("checkpoint", generation).saying(what))
            }
            MetaDescription::Damaged { what } => Seen { item: item.saying(format!("DAMAGE: {what}")), is_damage: true },
            MetaDescription::Sound { generation, previous, file_pages, used_pages, trees, note, .. } => {
                let current = self.usage.as_ref().is_ok_and(|usage| usage.generation == generation);
                let mut item = item.number("checkpoint", generation).number("previous", previous).flag("current", current);
                item = item.number("file_pages", file_pages).number("used_pages", used_pages);
                item.push(note_item(&note));
                for (tree, root, levels, sums) in trees {
                    let tree = Item::new("tree").word("tree", self.tree_name(tree)).number("root", root.0);
                    item.push(tree.number("levels", levels).number("entries", sums.entries).number("weight", sums.weight));
                }
                sound(item)
            }
        };
        match (&self.usage, id) {
            (Err(damage), PageId(0)) if damage.what != What::NoCheckpoint => {
                let mut item = seen.item;
                item.push(Item::new("damage").saying(damage));
                Seen { item, is_damage: true }
            }
            (Err(_), PageId(0)) => Seen { item: seen.item.saying("no checkpoint was ever finished in this file"), ..seen },
            _ => seen,
        }
    }

    fn trees(&self) -> &'static [(Tree, &'static str)] {
        if self.group == Some(GroupId::META) { &META_TREES } else { &stored::TREES }
    }

    fn tree_name(&self, tree: u8) -> String {
        let known = self.trees().iter().find(|(known, _)| known.0 == tree && self.group.is_some());
        known.map_or_else(|| tree.to_string(), |(_, name)| (*name).to_owned())
    }

    fn add_cells(&self, item: &mut Item, page: &TreeDescription) {
        for cell in &page.cells {
            item.push(if page.level == 0 { self.entry(page.tree, cell) } else { child(cell) });
        }
    }

    /// A leaf's cell, in the words of the tree that it is in.
    fn entry(&self, tree: u8, cell: &CellDescription) -> Item {
        let entry = match self.group {
            _ if cell.key_run.is_some() => None,
            Some(GroupId::META) => MetaEntry::read(Tree(tree), &cell.key, &cell.value).ok().map(meta_entry),
            Some(_) => self.mvcc_entry(tree, cell),
            None => None,
        };
        let raw = || {
            Item::new("cell")
                .bytes("key", &cell.key)
                .number("key_bytes", cell.key_bytes)
                .number("value_bytes", cell.value_bytes)
        };
        let mut item = entry.unwrap_or_else(raw).number("weight", cell.sums.weight);
        for (name, run) in [("key_page", cell.key_run), ("value_page", cell.value_run)] {
            if let Some(run) = run {
                item = item.number(name, run.0);
            }
        }
        item
    }

    fn mvcc_entry(&self, tree: u8, cell: &CellDescription) -> Option<Item> {
        match self.trees().iter().find(|(known, _)| known.0 == tree)?.1 {
            "keys" => {
                let version = StoredVersion::read(&cell.key, &cell.value).ok()?;
                let item = Item::new("version").bytes("key", &version.key).number("revision", version.change.revision.get());
                Some(did(item.number("operation", version.change.operation), version.put.as_ref()))
            }
            "revisions" => {
                let change = StoredChange::read(&cell.key, &cell.value).ok()?;
                let item = Item::new("change").number("revision", change.change.revision.get());
                let item = item.number("operation", change.change.operation).bytes("key", change.key);
                let mut item = did(item, change.put.as_ref());
                if let Some(put) = change.put {
                    let head_bytes = cell.value.len() - put.value.len();
                    item = item.number("value_bytes", cell.value_bytes - head_bytes);
                    if self.show.values {
                        item = item.bytes("value", put.value);
                    }
                }
                Some(item)
            }
            _ => {
                let (lease, key) = stored::read_attached(&cell.key, &cell.value).ok()?;
                Some(Item::new("attached").signed("lease", lease.get()).bytes("key", key))
            }
        }
    }
}

/// What a version or a change did to its key.
fn did(item: Item, put: Option<&PutFields<'_>>) -> Item {
    let Some(put) = put else { return item.word("did", "delete") };
    let item = item.word("did", "put").number("create_revision", put.create_revision.get()).number("version", put.version);
    item.signed("lease", put.lease.get())
}

fn child(cell: &CellDescription) -> Item {
    let item = Item::new("child").number("page", cell.child.map_or(0, |child| child.0)).bytes("from", &cell.key);
    item.number("entries", cell.sums.entries).number("weight", cell.sums.weight)
}

fn meta_entry(entry: MetaEntry) -> Item {
    match entry {
        MetaEntry::Lease(id, ttl) => Item::new("lease").signed("lease", id.get()).signed("ttl_seconds", ttl),
        MetaEntry::Alarm(member, kind) => Item::new("alarm").id("member", member.get()).signed("alarm", i64::from(kind)),
        MetaEntry::Member(member) => Item::new("member").id("member", member.id).bytes("name", member.name.as_bytes()),
        MetaEntry::CompactRevision(revision) => Item::new("compact_revision").number("revision", revision.get()),
        MetaEntry::OtherFact => Item::new("fact"),
    }
}

/// What a checkpoint says of itself.
fn note_item(bytes: &[u8]) -> Item {
    let Ok(note) = Note::decode(bytes) else {
        return Item::new("note").number("bytes", bytes.len()).saying("not of this etcring");
    };
    Item::new("note")
        .number("group", note.group.get())
        .id("cluster", note.cluster.get())
        .id("member", note.member.get())
        .number("shards", note.shards)
        .number("applied", note.applied.get())
        .number("applied_term", note.applied_term.get())
        .number("applied_revision", note.applied_revision.get())
        .number("known_stable", note.known_stable.get())
        .number("floor", note.floor.get())
        .number("sliced", note.sliced.get())
}
