//! What is in a member's files, and whether it is right: for people and tools. Pure over bytes; `tools` brings the files.
//!
//! ```text
//! segment ──▶ segment::items ──┐
//! page file ──▶ pages::items ──┴──▶ Item ──▶ a line of text, or an object of JSON
//!
//! all files ──▶ check ──▶ per file: what it holds;  Finding: file, offset, what is wrong
//! ```
//!
//! Invariants
//! - Nothing that is read is trusted: a damaged file gives findings, never a panic. What is behind a decoder that trusts
//!   (cursors over trees) is looked at only after the walk that checks every page.
//! - Memory is bounded: files are mapped by the caller, pages go through small caches, and of the logs only what a start
//!   would keep as well is held.

pub mod check;
mod item;
pub mod pages;
pub mod segment;

pub use item::{Field, Item};
