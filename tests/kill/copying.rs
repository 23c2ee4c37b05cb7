//! A full disk on a file system that copies what it writes: space that a WAL segment has reserved is refused all the same.
//!
//! No such file system can be mounted without root, so a few lines of C stand between the member and pwrite: while a file is there, a
//! write gets its first block through and then no space.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcring::proto::etcdserverpb as pb;

use crate::support::grpc::{Client, Failure, PUT, block_on, bytes};
use crate::support::process::{Member, PATIENCE, Spec, TestDir};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    const char *full = getenv("FULL_WHILE_THERE_IS");
    if (!full || access(full, F_OK) != 0) return next(file, bytes, count, offset);
    if (count > 4096) return next(file, bytes, 4096, offset);
    errno = ENOSPC;
    return -1;
}
"#;
const NO_SPACE: &str = "no space left on device";
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);
/// More writes than can be under way when it shows that the disk is full.
const WRITES_MAX: usize = 100;
const VALUE_BYTES: usize = 20 << 10;

/// A disk that can be filled.
struct CopyingDisk {
    library: PathBuf,
    full: PathBuf,
}

impl CopyingDisk {
    fn new(dir: &Path) -> CopyingDisk {
        let (source, library) = (dir.join("full.c"), dir.join("full.so"));
        std::fs::write(&source, SOURCE).expect("a source file");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        assert!(command.status().expect("a C compiler").success(), "the library is built");
        CopyingDisk { library, full: dir.join("full") }
    }

    fn spec(&self, data: &Path) -> Spec {
        let mut spec = Spec::new(data).with(&["--shards", "4", "--cpus", "4"]);
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        spec.variables.push(("LD_PRELOAD".to_owned(), text(&self.library)));
        spec.variables.push(("FULL_WHILE_THERE_IS".to_owned(), text(&self.full)));
        spec
    }

    fn fill(&self) {
        std::fs::write(&self.full, b"").expect("a file");
    }

    fn empty(&self) {
        std::fs::remove_file(&self.full).expect("the file is there");
    }
}

fn value(number: usize) -> Bytes {
    let mut value = format!("{number:010}").into_bytes();
    value.resize(VALUE_BYTES, b'x');
    value.into()
}

fn put(number: usize) -> pb::PutRequest {
    pb::PutRequest { key: bytes(&format!("key-{number:03}")), value: value(number), ..Default::default() }
}

type Answer = tokio::task::JoinHandle<Result<pb::PutResponse, Failure>>;

fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { code: 8, message } if message.contains(NO_SPACE))
}

/// What was acknowledged, and what will never be.
#[derive(Default)]
struct Written {
    next: usize,
    taken: Vec<usize>,
    refused: Vec<usize>,
}

impl Written {
    /// Writes that are taken, be it after a while: every core looks for space once a second.
    async fn put(&mut self, client: &Client, count: usize) {
        let until = Instant::now() + PATIENCE;
        for _ in 0..count {
            self.next += 1;
            while let Err(failure) = client.unary::<pb::PutResponse>(PUT, &put(self.next)).await {
                assert!(is_refusal(&failure) && Instant::now() < until, "there is space, and yet: {failure}");
                tokio::time::sleep(RETRY).await;
            }
            self.taken.push(self.next);
        }
    }

    /// Writes until one is refused; what is not answered by then.
    async fn put_until_refused(&mut self, port: u16) -> Vec<(usize, Answer)> {
        let mut waiting = Vec::new();
        for _ in 0..WRITES_MAX {
            self.next += 1;
            let number = self.next;
            let client = Client::connect(port).await.expect("a member that serves");
            let mut answer = tokio::spawn(async move { client.unary::<pb::PutResponse>(PUT, &put(number)).await });
            match tokio::time::timeout(RETRY, &mut answer).await {
                Err(_) => waiting.push((number, answer)),
                Ok(answer) => {
                    let failure = answer.expect("it ends").expect_err("a write on a full disk");
                    assert!(is_refusal(&failure), "a full disk is told by {failure}");
                    self.refused.push(number);
                    return waiting;
                }
            }
        }
        panic!("no write is refused on a full disk");
    }

    async fn verify(&self, client: &Client) {
        for (numbers, there) in [(&self.taken, true), (&self.refused, false)] {
            for &number in numbers {
                let expected = there.then(|| value(number));
                assert!(client.get(&format!("key-{number:03}")).await == expected, "key-{number:03}, taken: {there}");
            }
        }
    }
}

/// Fills the disk of a member twice, and empties it once.
async fn refuses_and_reads_on(disk: &CopyingDisk, member: &Member) -> Written {
    let client = Client::connect(member.port).await.expect("a member that serves");
    let mut written = Written::default();
    written.put(&client, 10).await;
    disk.fill();
    let waiting = written.put_until_refused(member.port).await;
    written.verify(&client).await;
    disk.empty();
    // What met the full disk before anyone knew is taken when there is space; what came later is refused.
    for (number, answer) in waiting {
        match tokio::time::timeout(PATIENCE, answer).await.expect("there is space").expect("it ends") {
            Ok(_) => written.taken.push(number),
            Err(failure) => {
                assert!(is_refusal(&failure), "{failure}");
                written.refused.push(number);
            }
        }
    }
    written.put(&client, 10).await;
    written.verify(&client).await;
    disk.fill();
    drop(written.put_until_refused(member.port).await);
    written.verify(&client).await;
    written
}

#[test]
fn a_full_disk_that_copies_what_it_writes_loses_nothing() {
    let dir = TestDir::new("copying");
    let disk = CopyingDisk::new(dir.path());
    for end in [Member::kill, |member: &mut Member| assert!(member.stop() < STOP_TIME_MAX)] {
        let data = dir.path().join("data");
        let mut member = disk.spec(&data).start();
        let written = block_on(refuses_and_reads_on(&disk, &member));
        assert!(member.wait_says("no space left on the device for a write into a WAL segment"), "{}", member.log());
        assert!(member.wait_says("there is space again for the WAL"), "{}", member.log());
        end(&mut member);
        let (code, log) = disk.spec(&data).refused();
        assert!(code == 1 && log.contains("make space on its file system"), "{code}: {log}");
        disk.empty();
        // What was torn at the end is cut, and what was acknowledged is there.
        let mut again = disk.spec(&data).start();
        block_on(async { written.verify(&Client::connect(again.port).await.expect("a member that serves")).await });
        again.kill();
        std::fs::remove_dir_all(&data).expect("it is over");
    }
}
