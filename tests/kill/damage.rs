//! Damaged files: the member does not start, or ends when it comes to them, and says which file and where. It never serves
//! anything else than what was written.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use etcring::base::Prng;
use etcring::base::limits::{BLOCK_BYTES, PAGE_BYTES};
use etcring::proto::etcdserverpb as pb;

use super::history::{Model, Span, alive};
use super::load::EVERYTHING;
use super::rounds::{Life, seed, until_done};
use crate::support::files::{copy_directory, flip, used};
use crate::support::grpc::{Client, RANGE, block_on, bytes};
use crate::support::process::{PATIENCE, Spec, TestDir};

/// A segment's name begins with its run.
const RUN_DIGITS: usize = 16;
const FIRST_RUN: &str = "0000000000000001-";
const BATCH_HEADER_BYTES: usize = 96;

/// A stopped member's directory, and what must be served from it.
struct Sample {
    life: Life,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Stopped,
    Killed,
}

impl Sample {
    /// Two runs, with a load in each: behind the first there is a checkpoint.
    fn new(prng: &mut Prng, end: End) -> Sample {
        let mut life = Life::new(2);
        for last in [false, true] {
            let mut member = Spec::new(life.path()).with(&["--shards", "2", "--cpus", "1"]).start();
            block_on(async {
                life.verify(&member).await;
                let load = life.load(&member, prng).await;
                until_done(&load, 300).await;
                load.stop();
                life.unload(load).await;
                life.verify(&member).await;
            });
            if last && end == End::Killed {
                member.kill();
            } else {
                member.stop();
            }
        }
        Sample { life }
    }

    fn copy(&self) -> Copied {
        let dir = TestDir::new("damaged");
        copy_directory(self.life.path(), dir.path());
        Copied { dir }
    }
}

struct Copied {
    dir: TestDir,
}

impl Copied {
    fn pages(&self, group: u16) -> PathBuf {
        self.dir.path().join(format!("etcring/group-{group:03}.pages"))
    }

    /// The segment of the newest run that was written last.
    fn segment(&self) -> PathBuf {
        self.segments().filter(|p| used(p) > 0).max().expect("a segment in use")
    }

    fn segments(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("etcring/wal")).expect("a directory");
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "wal"))
    }

    /// The member does not start, and says these words.
    fn is_refused(&self, words: &[&str]) {
        let (code, log) = Spec::new(self.dir.path()).with(&["--cpus", "1"]).refused();
        assert_eq!(code, 1, "{log}");
        for word in words {
            assert!(log.contains(word), "{word:?} is not in:\n{log}");
        }
    }

    /// The member serves just what it should until it ends with these words, be it at once; tells whether it ended.
    fn serves_nothing_wrong(&self, model: &Model, words: &[&str]) -> bool {
        let mut member = Spec::new(self.dir.path()).with(&["--cpus", "1"]).spawn();
        if member.wait_ready() && block_on(read_everything(member.port, model)) {
            return false;
        }
        let status = member.wait_end(PATIENCE);
        let log = member.log();
        assert_eq!(status.code(), Some(1), "{status}:\n{log}");
        for word in words {
            assert!(log.contains(word), "{word:?} is not in:\n{log}");
        }
        true
    }
}

/// Reads all keys, one by one and together. False when the member goes away meanwhile.
async fn read_everything(port: u16, model: &Model) -> bool {
    let Ok(client) = Client::connect(port).await else { return false };
    let everything = Span { from: EVERYTHING.0.to_owned(), to: Some(EVERYTHING.1.to_owned()) };
    let keys = model.alive.keys().map(|key| Span::key(key));
    for span in keys.chain([everything]) {
        let range_end = span.to.as_deref().map(bytes).unwrap_or_default();
        let request = pb::RangeRequest { key: bytes(&span.from), range_end, ..Default::default() };
        let answer = tokio::time::timeout(PATIENCE, client.unary::<pb::RangeResponse>(RANGE, &request)).await;
        let Ok(answer) = answer.expect("an answer or an end, in time") else { return false };
        let held: Vec<_> = answer.kvs.iter().map(alive).collect();
        assert!(held == model.range(&span), "{span:?} is served wrong");
    }
    true
}

/// A byte below `end` that is not padding.
fn written_byte(path: &Path, prng: &mut Prng, end: u64) -> u64 {
    let file = File::open(path).expect("a file");
    let mut at = prng.below(end);
    loop {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("within the file");
        if byte[0] != 0 {
            return at;
        }
        at = at.checked_sub(1).expect("the first byte is one of the magic");
    }
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// What the log may be damaged by, wherever the member's life ended.
fn damage_the_log(sample: &Sample, prng: &mut Prng) {
    for _ in 0..4 {
        let copied = sample.copy();
        let segment = copied.segment();
        let at = written_byte(&segment, prng, used(&segment) / 2);
        flip(&segment, at, prng.below(8));
        copied.is_refused(&["write-ahead log", &name(&segment), "offset"]);
    }
    let copied = sample.copy();
    let segment = copied.segment();
    let half = used(&segment) / 2 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    OpenOptions::new().write(true).open(&segment).expect("a file").set_len(half).expect("shorter");
    copied.is_refused(&["write-ahead log", &name(&segment), "offset"]);
    let copied = sample.copy();
    let segment = copied.segment();
    fs::remove_file(&segment).expect("removed");
    // If another segment of the same WAL stands ready behind it, that tells.
    let run = name(&segment)[..RUN_DIGITS].to_owned();
    copied.is_refused(&[&run, ".wal"]);
    let copied = sample.copy();
    fs::remove_dir_all(copied.segment().parent().expect("a directory")).expect("removed");
    copied.is_refused(&[&run, "*.wal is missing"]);
}

fn damage_the_pages(sample: &Sample, prng: &mut Prng) {
    for group in 0..=2 {
        let copied = sample.copy();
        let pages = copied.pages(group);
        for meta in 0..2 {
            flip(&pages, (meta * PAGE_BYTES) as u64 + prng.below(PAGE_BYTES as u64), prng.below(8));
        }
        copied.is_refused(&[&name(&pages), "offset"]);
        let copied = sample.copy();
        let pages = copied.pages(group);
        let file = OpenOptions::new().write(true).open(&pages).expect("a file");
        file.set_len(2 * PAGE_BYTES as u64).expect("shorter");
        copied.is_refused(&[&name(&pages), "offset"]);
    }
    for every_page in [true, false, false] {
        let copied = sample.copy();
        let pages = copied.pages(1);
        let count = fs::metadata(&pages).expect("a file").len() / PAGE_BYTES as u64;
        assert!(count > 4, "there is a checkpoint with pages");
        let some = 2 + prng.below(count - 2);
        for page in (2..count).filter(|&page| every_page || page == some) {
            flip(&pages, page * PAGE_BYTES as u64 + prng.below(PAGE_BYTES as u64), prng.below(8));
        }
        let ended = copied.serves_nothing_wrong(&sample.life.model, &[&name(&pages), "offset"]);
        assert!(ended || !every_page, "not one page was missed");
    }
    let copied = sample.copy();
    fs::remove_file(copied.pages(2)).expect("removed");
    copied.is_refused(&["group-002.pages is missing"]);
}

/// Without its checkpoint a page file is missed, unless the log still has all of it: that of the first run, too.
fn empty_the_pages(sample: &Sample, end: End) {
    for group in 0..=2 {
        for len in [PAGE_BYTES, 100, 0] {
            let copied = sample.copy();
            let pages = copied.pages(group);
            OpenOptions::new().write(true).open(&pages).and_then(|file| file.set_len(len as u64)).expect("shorter");
            let may_do_without =
                end == End::Killed || len == 0 && copied.segments().any(|path| name(&path).starts_with(FIRST_RUN));
            let ended = copied.serves_nothing_wrong(&sample.life.model, &[&name(&pages), "offset"]);
            assert!(ended || may_do_without, "group {group} with {len} bytes was not missed");
        }
    }
}

/// Damages each file of a sample that ended like this.
fn damage_after(end: End, prng: &mut Prng) {
    let sample = Sample::new(prng, end);
    assert!(!sample.copy().serves_nothing_wrong(&sample.life.model, &[]), "the sample itself is whole");
    damage_the_log(&sample, prng);
    damage_the_pages(&sample, prng);
    empty_the_pages(&sample, end);
}

#[test]
fn damage_after_a_clean_stop() {
    damage_after(End::Stopped, &mut Prng::new(seed() ^ 2));
}

#[test]
fn damage_after_kill_9() {
    damage_after(End::Killed, &mut Prng::new(seed() ^ 3));
}

#[test]
fn a_torn_tail_is_cut_and_named() {
    let mut prng = Prng::new(seed() ^ 4);
    let sample = Sample::new(&mut prng, End::Killed);
    let copied = sample.copy();
    let segment = copied.segment();
    // A batch of which the header came to the disk, and something else than what it tells of behind it.
    let file = OpenOptions::new().read(true).write(true).open(&segment).expect("a file");
    let mut torn = [0; BLOCK_BYTES];
    torn.iter_mut().for_each(|b| *b = prng.below(256) as u8);
    file.read_exact_at(&mut torn[..BATCH_HEADER_BYTES], 0).expect("a batch");
    let end = used(&segment).next_multiple_of(BLOCK_BYTES as u64);
    file.write_all_at(&torn, end).expect("written");
    let member = Spec::new(copied.dir.path()).with(&["--cpus", "1"]).start();
    let log = member.log();
    assert!(log.contains("torn tail cut") && log.contains(&name(&segment)) && log.contains(&format!("offset {end}")), "{log}");
    assert!(block_on(read_everything(member.port, &sample.life.model)), "nothing is lost");
}
