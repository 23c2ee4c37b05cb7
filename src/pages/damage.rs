//! Damage: what the file holds is not what was written there.

use std::fmt;

use super::PageId;

/// The file is damaged. Nothing may be served from it: the caller stops with this text and the file's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The page that shows it.
    pub page: PageId,
    /// What is wrong with it.
    pub what: What,
}

impl Damage {
    /// Where the page starts, in bytes from the start of the file.
    pub const fn offset(&self) -> u64 {
        self.page.offset()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} at offset {}: {}", self.page.0, self.offset(), self.what)
    }
}

impl std::error::Error for Damage {}

/// What is wrong with a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The checksum does not match the contents.
    Checksum,
    /// Another page's contents stand here.
    PageNumber {
        /// The page that it says it is.
        found: PageId,
    },
    /// The page was written by another checkpoint than the reference to it says: a write was lost or came back.
    Generation {
        /// Low bits of the checkpoint that should have written it.
        expected: u32,
        /// Low bits of the one that did.
        found: u32,
    },
    /// A page of another kind or level was expected.
    Kind,
    /// The contents contradict themselves, though the checksum matches.
    Structure(&'static str),
    /// The file ends before it.
    Missing,
    /// The file ends before the pages that the meta counts.
    Truncated {
        /// How long the file must be at least.
        expected_bytes: u64,
        /// How long it is.
        found_bytes: u64,
    },
    /// A meta page is damaged in a way that an interrupted write of it cannot explain.
    Meta(&'static str),
    /// No checkpoint was ever finished in this file: nothing is lost if nothing was ever acknowledged by one.
    NoCheckpoint,
    /// Written by a version whose format this one does not know.
    UnknownFormat(u32),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Checksum => f.write_str("the checksum does not match"),
            What::PageNumber { found } => write!(f, "it says that it is page {}", found.0),
            What::Generation { expected, found } => {
                write!(f, "written by checkpoint {found}, where the reference to it says {expected}")
            }
            What::Kind => f.write_str("not of the kind that the reference to it says"),
            What::Structure(what) => write!(f, "its contents contradict themselves: {what}"),
            What::Missing => f.write_str("the file ends before it"),
            What::Truncated { expected_bytes, found_bytes } => {
                write!(f, "the file has {found_bytes} bytes and should have at least {expected_bytes}")
            }
            What::Meta(what) => write!(f, "the meta page is damaged: {what}"),
            What::NoCheckpoint => f.write_str("no checkpoint was ever finished in this file"),
            What::UnknownFormat(version) => write!(f, "unknown format version {version}"),
        }
    }
}
