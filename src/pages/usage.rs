//! Which pages of a file its newest checkpoint reaches, by the bitmaps: for tools that look into files.

use super::bits::Bits;
use super::meta;
use super::page::{self, Kind};
use super::space::{CHUNK_PAGES, DIRECTORY_CHUNKS};
use super::space_load::{bitmap_of, chunk_at};
use super::store::verify;
use super::{Damage, Expect, Fault, PageId, PageRef, What};
use crate::base::limits::PAGE_BYTES;

/// The pages in use.
#[derive(Debug)]
pub struct Usage {
    /// The newest checkpoint.
    pub generation: u64,
    used: Bits,
}

impl Usage {
    /// Reads the bitmaps of a file.
    ///
    /// # Errors
    /// Damage of a meta, a directory or a bitmap.
    pub fn of(file: &[u8]) -> Result<Usage, Damage> {
        let (meta, _) = meta::choose(file)?;
        let mut usage = Usage { generation: meta.generation, used: Bits::default() };
        let chunks = meta.chunks as usize;
        for (place, &directory) in meta.directories.iter().enumerate() {
            let page = fetch(file, directory, Kind::Directory, place)?;
            let first = place * DIRECTORY_CHUNKS;
            for chunk in first..chunks.min(first + DIRECTORY_CHUNKS) {
                let bitmap = fetch(file, chunk_at(page, chunk - first), Kind::Bitmap, chunk)?;
                usage.used.read_in(chunk as u32 * CHUNK_PAGES, bitmap_of(bitmap));
            }
        }
        Ok(usage)
    }

    /// Whether the newest checkpoint reaches the page.
    pub fn is_used(&self, page: PageId) -> bool {
        self.used.get(page.0)
    }
}

fn fetch(file: &[u8], at: PageRef, kind: Kind, place: usize) -> Result<&[u8], Damage> {
    let damage = |what| Damage { page: at.page, what };
    let start = usize::try_from(at.page.offset()).unwrap_or(usize::MAX);
    let Some(bytes) = file.get(start..).and_then(|rest| rest.get(..PAGE_BYTES)) else {
        let expected_bytes = at.page.offset() + PAGE_BYTES as u64;
        return Err(damage(What::Truncated { expected_bytes, found_bytes: file.len() as u64 }));
    };
    let expect = Expect { generation: at.generation, kind, level: 0, issued: 0 };
    verify(&Fault { first: at.page, pages: 1, expect }, bytes).map_err(damage)?;
    if page::extra(bytes) as usize != place {
        return Err(damage(What::Structure("the place of a directory or bitmap")));
    }
    Ok(bytes)
}
