//! `etcring inspect` and `etcring check` on the files of a real member: sound, and damaged in every way.

#[allow(dead_code, reason = "each test program uses its own part of it")]
mod support;

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::SystemTime;

use etcring::base::limits;
use etcring::proto::etcdserverpb as pb;
use etcring::server::datadir::FORMAT_VERSION;
use serde_json::Value;

use support::files::{copy_directory, flip, used};
use support::grpc::{COMPACT, Client, DELETE_RANGE, LEASE_GRANT, PUT, TXN, block_on, bytes};
use support::process::{Spec, TestDir};

const PAGE_BYTES: u64 = limits::PAGE_BYTES as u64;
const BLOCK_BYTES: u64 = limits::BLOCK_BYTES as u64;
const FLAGS: [&str; 4] = ["--shards", "3", "--cpus", "2"];

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn etcring(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_etcring")).env_clear().args(arguments).output().expect("the binary");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code().expect("it ended by itself"), out: text(output.stdout), err: text(output.stderr) }
}

fn check(dir: &Path) -> Ran {
    etcring(&["check", dir.to_str().expect("a path")])
}

fn inspect(kind: &str, file: &Path, flags: &[&str]) -> Ran {
    etcring(&[&["inspect", kind, file.to_str().expect("a path")], flags].concat())
}

impl Ran {
    #[track_caller]
    fn exits(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "{word:?} is not in:\n{}{}", self.out, self.err);
        }
    }

    /// A line of JSON for each item.
    fn items(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("etcring/wal")).expect("a directory");
    let mut all: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "wal"));
    all.sort();
    all
}

/// The segment of the newest run in which most is written.
fn segment(dir: &Path) -> PathBuf {
    let newest = segments(dir).into_iter().max().expect("a segment");
    let run = newest.file_name().expect("a name").to_string_lossy()[..16].to_owned();
    let of_run = segments(dir).into_iter().filter(|path| path.file_name().expect("a name").to_string_lossy().starts_with(&run));
    of_run.max_by_key(|path| used(path)).expect("a segment")
}

fn pages(dir: &Path, group: u16) -> PathBuf {
    dir.join(format!("etcring/group-{group:03}.pages"))
}

/// Everything that a member does to its files: long values, leases, changes over several shards, deletes, compaction.
async fn load(port: u16, round: i64) {
    let client = Client::connect(port).await.expect("a member that serves");
    let grant = pb::LeaseGrantRequest { ttl: 3600, id: 1000 + round };
    client.must::<pb::LeaseGrantResponse>(LEASE_GRANT, &grant).await;
    for n in 0..120 {
        let length = [10, 300, 5000, 60_000][n % 4];
        let lease = if n % 5 == 0 { 1000 + round } else { 0 };
        let value = vec![b'v'; length].into();
        let put = pb::PutRequest { key: bytes(&format!("/app/{}", n % 40)), value, lease, ..Default::default() };
        client.must::<pb::PutResponse>(PUT, &put).await;
    }
    let puts = (0..9).map(|n| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: bytes(&format!("/txn/{n}")),
            ..Default::default()
        })),
    });
    client.must::<pb::TxnResponse>(TXN, &pb::TxnRequest { success: puts.collect(), ..Default::default() }).await;
    let delete = pb::DeleteRangeRequest { key: bytes("/app/1"), range_end: bytes("/app/2"), ..Default::default() };
    client.must::<pb::DeleteRangeResponse>(DELETE_RANGE, &delete).await;
    let revision = client.revision().await - 60;
    client.must::<pb::CompactionResponse>(COMPACT, &pb::CompactionRequest { revision, physical: true }).await;
}

/// A member stopped once and then killed: page files and a log above them.
fn sample() -> TestDir {
    let dir = TestDir::new("tools");
    let mut member = Spec::new(dir.path()).with(&FLAGS).start();
    block_on(load(member.port, 0));
    member.stop();
    check(dir.path()).exits(0, &["clean: a member can start"]);
    let mut member = Spec::new(dir.path()).with(&FLAGS).start();
    block_on(load(member.port, 1));
    check(dir.path()).exits(2, &["a member is running on", "stop it first"]);
    member.kill();
    dir
}

/// Name, length, time of change and checksum of every file.
fn state(dir: &Path) -> Vec<(PathBuf, u64, SystemTime, u32)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = fs::metadata(&path).expect("an entry");
        if path.is_dir() {
            all.extend(state(&path));
        } else {
            let checksum = crc32fast::hash(&fs::read(&path).expect("a file"));
            all.push((path, metadata.len(), metadata.modified().expect("a time"), checksum));
        }
    }
    all.sort();
    all
}

struct Copied(TestDir);

impl Copied {
    fn of(sample: &TestDir) -> Copied {
        let dir = TestDir::new("tools-copy");
        copy_directory(sample.path(), dir.path());
        Copied(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The check names the file, and the offset if there is one.
    #[track_caller]
    fn is_wrong(&self, file: &Path, offset: Option<u64>) {
        let at = offset.map_or(String::new(), |offset| format!(" at offset {offset}:"));
        check(self.path()).exits(1, &[&format!("WRONG {}{at}", file.display()), "DAMAGED", "Nothing was changed"]);
    }
}

fn cut(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).expect("a file").set_len(bytes).expect("shorter");
}

/// Pages that are in use, of these kinds.
fn pages_in_use(file: &Path, kinds: &[&str]) -> Vec<u64> {
    let items = inspect("pages", file, &["--json"]).items();
    let fits = |item: &&Value| item["in_use"] == true && kinds.contains(&item["kind"].as_str().expect("a kind"));
    items.iter().filter(fits).map(|item| item["page"].as_u64().expect("a number")).collect()
}

#[test]
fn a_members_files_are_clean_and_each_damage_is_named() {
    let sample = sample();
    let before = state(sample.path());
    let clean = check(sample.path());
    clean.exits(
        0,
        &["group-000.pages: checkpoint", "2 leases", "living keys", "every revision from", "clean: a member can start"],
    );
    etcring(&["check", "--json", sample.path().to_str().expect("a path")]).exits(0, &["\"clean\":true"]);
    every_file_decodes(sample.path());
    assert_eq!(state(sample.path()), before, "nothing was changed");
    damage_the_log(&sample);
    damage_the_pages(&sample);
    damage_the_format(&sample);
    a_torn_tail_is_told_from_damage(&sample);
    let mut member = Spec::new(sample.path()).with(&FLAGS).start();
    member.stop();
    check(sample.path()).exits(0, &["clean"]);
}

fn every_file_decodes(dir: &Path) {
    let mut keys_seen = 0;
    for file in segments(dir) {
        inspect("wal", &file, &["--values"]).exits(0, &["segment run=", "end offset="]);
        let items = inspect("wal", &file, &["--json"]);
        items.exits(0, &[]);
        assert_eq!(items.items()[0]["kind"], "segment");
        keys_seen += items.out.matches("\"key\":\"/app/").count();
    }
    assert!(keys_seen > 100, "the puts of the last run are in the log: {keys_seen}");
    for group in 0..=3 {
        let file = pages(dir, group);
        inspect("pages", &file, &["--cells"]).exits(0, &["meta page=0", "note group=", "leaf page="]);
        let count = fs::metadata(&file).expect("a file").len() / PAGE_BYTES;
        let items = inspect("pages", &file, &["--json", "--cells"]).items();
        assert!(items.len() as u64 <= count + 1 && items.len() > 3);
    }
    let leaf = pages_in_use(&pages(dir, 1), &["leaf"])[0];
    inspect("pages", &pages(dir, 1), &["--page", &leaf.to_string(), "--values"]).exits(0, &["leaf page=", "\n  "]);
}

fn damage_the_log(sample: &TestDir) {
    let copied = Copied::of(sample);
    let file = segment(copied.path());
    let batches = inspect("wal", &file, &["--json"]).items();
    let offset = |at: usize| batches[at]["offset"].as_u64().expect("a batch");
    for at in [1, 3, 8] {
        flip(&file, offset(at) + 120, 3);
    }
    for at in [1, 3, 8] {
        copied.is_wrong(&file, Some(offset(at)));
    }
    inspect("wal", &file, &[]).exits(1, &[&format!("damage offset={}: batch", offset(3))]);
    let copied = Copied::of(sample);
    let file = segment(copied.path());
    cut(&file, offset(8));
    copied.is_wrong(&file, Some(offset(8)));
    let copied = Copied::of(sample);
    let file = segment(copied.path());
    fs::remove_file(&file).expect("removed");
    check(copied.path()).exits(1, &["WRONG", "etcring/wal", "missing"]);
    let copied = Copied::of(sample);
    segments(copied.path()).iter().for_each(|file| fs::remove_file(file).expect("removed"));
    copied.is_wrong(&copied.path().join("etcring/wal"), None);
}

fn damage_the_pages(sample: &TestDir) {
    let all = ["leaf", "branch", "overflow", "bitmap", "directory"];
    for group in 0..=3 {
        let copied = Copied::of(sample);
        let file = pages(copied.path(), group);
        let some = pages_in_use(&file, &all);
        assert!(some.len() >= 3, "{some:?}");
        for &page in some.iter().step_by(1 + some.len() / 5) {
            flip(&file, page * PAGE_BYTES + 600, 6);
            copied.is_wrong(&file, Some(page * PAGE_BYTES));
            inspect("pages", &file, &[]).exits(1, &["DAMAGE"]);
            flip(&file, page * PAGE_BYTES + 600, 6);
        }
        flip(&file, PAGE_BYTES + 40, 0);
        copied.is_wrong(&file, Some(PAGE_BYTES));
        inspect("pages", &file, &[]).exits(1, &["DAMAGE"]);
        flip(&file, PAGE_BYTES + 40, 0);
        cut(&file, fs::metadata(&file).expect("a file").len() - PAGE_BYTES);
        copied.is_wrong(&file, None);
        fs::remove_file(&file).expect("removed");
        copied.is_wrong(&file, None);
    }
    // A page that a tree reaches is marked as free, under a checksum that is right.
    let copied = Copied::of(sample);
    let file = pages(copied.path(), 2);
    let (leaf, bitmap) = (pages_in_use(&file, &["leaf"])[0], pages_in_use(&file, &["bitmap"])[0]);
    flip(&file, bitmap * PAGE_BYTES + 32 + leaf / 8, leaf % 8);
    let mut page = fs::read(&file).expect("a file").split_off((bitmap * PAGE_BYTES) as usize);
    page.truncate(PAGE_BYTES as usize);
    let checksum = crc32c::crc32c(&page[4..]).to_le_bytes();
    OpenOptions::new().write(true).open(&file).expect("a file").write_all_at(&checksum, bitmap * PAGE_BYTES).expect("written");
    copied.is_wrong(&file, Some(leaf * PAGE_BYTES));
    check(copied.path()).exits(1, &["it is referred to, and marked as free"]);
}

fn damage_the_format(sample: &TestDir) {
    let copied = Copied::of(sample);
    let file = copied.path().join("etcring/FORMAT");
    inspect("format", &file, &[]).exits(0, &["format bytes=", &format!("version={FORMAT_VERSION} stage=started last_run=")]);
    let items = inspect("format", &file, &["--json"]).items();
    assert!(items[0]["kind"] == "format" && items[0]["last_run"].as_u64() > Some(0), "{items:?}");
    // A later run has served, and nothing is left of it.
    let told = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("etcring {FORMAT_VERSION}\nstarted 900\n")).expect("written");
    copied.is_wrong(&copied.path().join("etcring/wal"), None);
    check(copied.path()).exits(1, &["run 900 was the last that served"]);
    fs::write(&file, told).expect("written");
    flip(&file, 3, 1);
    inspect("format", &file, &[]).exits(1, &["no FORMAT file of this version"]);
    copied.is_wrong(&file, None);
    fs::remove_file(&file).expect("removed");
    copied.is_wrong(&file, None);
}

fn a_torn_tail_is_told_from_damage(sample: &TestDir) {
    let copied = Copied::of(sample);
    let file = segment(copied.path());
    let last = inspect("wal", &file, &["--json"]).items();
    let last = last.iter().rfind(|item| item["kind"] == "batch" && item["holds"] != "seal").expect("a batch");
    let offset = last["offset"].as_u64().expect("a number");
    // From that batch on the write did not get to the disk, but for the batch's first block with a flaw.
    let bytes = cut_behind(&file, offset + BLOCK_BYTES);
    flip(&file, offset + 100, 2);
    inspect("wal", &file, &[]).exits(0, &[&format!("torn offset={offset}: batch")]);
    assert!(bytes > 0, "the file keeps its length");
}

/// Zeros from there to the end of the file.
fn cut_behind(file: &Path, offset: u64) -> u64 {
    let bytes = fs::metadata(file).expect("a file").len();
    cut(file, offset);
    cut(file, bytes);
    bytes
}

/// Writes of all kinds, one after the other, until the member is gone.
async fn write_on(port: u16, writer: usize, written: Rc<Cell<usize>>) {
    let Ok(client) = Client::connect(port).await else { return };
    for n in 0.. {
        let put = |n: usize| pb::PutRequest {
            key: bytes(&format!("/{writer}/{}", n % 30)),
            value: vec![b'v'; n * 37 % 9000].into(),
            ..Default::default()
        };
        let request = |n| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(n))) };
        let done = match n % 4 {
            0 => {
                let txn = pb::TxnRequest { success: (n..n + 5).map(request).collect(), ..Default::default() };
                client.unary::<pb::TxnResponse>(TXN, &txn).await.is_ok()
            }
            1 => {
                let (key, range_end) = (bytes(&format!("/{writer}/1")), bytes(&format!("/{writer}/2")));
                let delete = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
                client.unary::<pb::DeleteRangeResponse>(DELETE_RANGE, &delete).await.is_ok()
            }
            _ => client.unary::<pb::PutResponse>(PUT, &put(n)).await.is_ok(),
        };
        if !done {
            return;
        }
        written.set(written.get() + 1);
    }
}

#[test]
fn a_member_killed_in_mid_load_leaves_clean_files() {
    let dir = TestDir::new("tools-killed");
    for round in 1..=5 {
        let mut member = Spec::new(dir.path()).with(&FLAGS).start();
        block_on(async {
            let written = Rc::new(Cell::new(0));
            let writers: Vec<_> = (0..8).map(|n| tokio::task::spawn_local(write_on(member.port, n, written.clone()))).collect();
            while written.get() < round * 67 {
                tokio::task::yield_now().await;
            }
            member.kill();
            for writer in writers {
                writer.await.expect("a writer that ends");
            }
        });
        check(dir.path()).exits(0, &["every revision from 2 to", "clean"]);
    }
}

#[test]
fn bad_usage_is_refused_with_2() {
    let dir = TestDir::new("tools-usage");
    let path = dir.path().to_str().expect("a path");
    for arguments in [
        &["check"][..],
        &["check", path, path],
        &["check", "--cells", path],
        &["inspect"],
        &["inspect", "wal"],
        &["inspect", "keys", path],
        &["inspect", "pages", path, "--page"],
        &["inspect", "pages", path, "--page=x"],
        &["inspect", "wal", path, "--json=yes"],
    ] {
        etcring(arguments).exits(2, &["Usage:"]);
    }
    etcring(&["inspect", "wal", path]).exits(2, &["is a directory"]);
    etcring(&["inspect", "pages", &format!("{path}/none")]).exits(2, &["cannot read", "none"]);
    etcring(&["check", path]).exits(2, &["not a data directory"]);
    etcring(&["check", &format!("{path}/none")]).exits(2, &["is no directory"]);
    fs::create_dir_all(dir.path().join("member/snap")).expect("a directory");
    etcring(&["check", path]).exits(2, &["holds the data of an etcd"]);
    let file = dir.path().join("group-001.pages");
    fs::write(&file, "").expect("a file");
    inspect("pages", &file, &[]).exits(0, &["file bytes=0"]);
    inspect("pages", &file, &["--page", "7"]).exits(2, &["has no page 7"]);
    inspect("wal", &file, &[]).exits(0, &["segment"]);
}
