use std::path::{Path, PathBuf};

use super::*;
use crate::runtime::{CoreOptions, run_here};

/// A directory of its own for one test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("etcring-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WAL: Open = Open { mode: OpenMode::New, durability: Durability::EachWrite };
const PAGES: Open = Open { mode: OpenMode::New, durability: Durability::OnRequest };

fn on_executor<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Executor) -> F) -> T {
    run_here(&CoreOptions::named("disk-test"), main).expect("an executor")
}

#[test]
fn parts_are_joined_from_anywhere_on() {
    let parts: [&[u8]; 4] = [b"abc", b"", b"d", b"efgh"];
    for from in 0..=8 {
        let mut joined = vec![0; 8 - from];
        join(&parts, from, &mut joined);
        assert_eq!(joined, b"abcdefgh"[from..]);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let scratch = Scratch::new("write-read");
    let directory = scratch.0.clone();
    on_executor(|executor| async move {
        for (name, how) in [("a.wal", WAL), ("b.pages", PAGES)] {
            let path = directory.join(name);
            let file = executor.open(&path, how).await.expect("a new file");
            file.allocate(64 << 10).await.expect("space");
            file.fill_zeros(0, 64 << 10).await.expect("zeros");
            assert_eq!(file.length().await.expect("a length"), 64 << 10);
            // More than the memory registered for I/O holds.
            let bytes: Vec<u8> = (0..2u32 << 20).map(|i| (i / 4096) as u8 ^ i as u8).collect();
            let (front, back) = bytes.split_at(70_000);
            file.write_at(4096, &[front, &[], back]).await.expect("written");
            file.sync().await.expect("synced");
            let read = file.read_at(4096, bytes.len()).await.expect("read");
            assert!(read[..] == bytes[..]);
            assert!(file.read_at(0, 4096).await.expect("read").iter().all(|b| *b == 0));
            assert_eq!(file.read_at(2 << 20, 8192).await.expect_err("beyond the end").kind(), ErrorKind::UnexpectedEof);
            file.set_length(8192).await.expect("cut");
            assert_eq!(file.length().await.expect("a length"), 8192);
            file.close().await.expect("closed");
            let again = executor.open(&path, how).await.err().expect("it is there already");
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            let again = Open { mode: OpenMode::ReadOnly, durability: Durability::OnRequest };
            let file = executor.open(&path, again).await.expect("an old file");
            assert_eq!(file.read_at(4096, 4096).await.expect("read")[..], bytes[..4096]);
        }
        let missing = Open { mode: OpenMode::Existing, durability: Durability::OnRequest };
        let missing = executor.open(&directory.join("no"), missing).await.err().expect("not there");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn directories_list_what_is_in_them() {
    let scratch = Scratch::new("list");
    let directory = scratch.0.clone();
    on_executor(|executor| async move {
        executor.create_directory(&directory.join("x/y")).await.expect("made");
        executor.create_directory(&directory.join("x/y")).await.expect("made before");
        let file = executor.open(&directory.join("x/b"), PAGES).await.expect("a new file");
        file.write_at(0, &[&[1; 4096]]).await.expect("written");
        file.close().await.expect("closed");
        executor.rename(&directory.join("x/b"), &directory.join("x/a")).await.expect("renamed");
        executor.sync_directory(&directory.join("x")).await.expect("synced");
        executor.sync_directory(Path::new("src")).await.expect("a directory named from where the process is");
        let names = executor.list(&directory.join("x")).await.expect("listed");
        assert_eq!(names[0], DirectoryEntry { name: "a".into(), bytes: 4096, is_directory: false });
        assert_eq!(names[1], DirectoryEntry { name: "y".into(), bytes: 0, is_directory: true });
        assert_eq!(names.len(), 2);
        executor.remove(&directory.join("x/a")).await.expect("removed");
        assert_eq!(executor.list(&directory.join("x")).await.expect("listed").len(), 1);
    });
}

/// Prints what a durable write costs either way. With the broken probe the read fails.
#[test]
fn a_durable_write_takes_one_trip_to_the_disk() {
    let scratch = Scratch::new("durable");
    let directory = scratch.0.clone();
    on_executor(|executor| async move {
        for (name, how, sync) in [("each write durable", WAL, false), ("write, then sync", PAGES, true)] {
            let file = executor.open(&directory.join(name), how).await.expect("a new file");
            file.fill_zeros(0, 8 << 20).await.expect("zeros");
            file.sync().await.expect("synced");
            let mut block = AlignedBuffer::padded(&[7; 4096]);
            let mut times = Vec::new();
            for i in 0..400 {
                let start = std::time::Instant::now();
                if sync {
                    file.write_at(i * 4096, &[&block]).await.expect("written");
                    file.sync().await.expect("synced");
                } else {
                    let written;
                    (block, written) = file.write_durably(i * 4096, block, 4096).await;
                    written.expect("written");
                }
                times.push(start.elapsed());
            }
            assert!(file.read_at(399 * 4096, 4096).await.expect("read").iter().all(|byte| *byte == 7));
            times.sort();
            println!("4 KiB, {name}: p50 {:?}, p99 {:?}", times[200], times[396]);
        }
    });
}
