//! A full disk: writes are refused in clear words, reads go on, nothing is lost, and with space it all goes on by itself.
//!
//! The disk is a small tmpfs in a user namespace of its own. Where the machine allows none of that, the test says so and does nothing.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcring::proto::etcdserverpb as pb;

use crate::support::grpc::{Client, Failure, LEASE_GRANT, PUT, TXN, block_on, bytes};
use crate::support::process::{Member, PATIENCE, Spec, TestDir, poll};

/// What the disk is large enough for.
const LARGE_MIB: u64 = 1024;
const VALUE_BYTES: usize = 256 << 10;
const KEYS: usize = 40;
/// More writes than the space at hand takes when the disk is full.
const WRITES_MAX: usize = 2000;
const RETRY: Duration = Duration::from_millis(50);
/// How the member says that its disk is full.
const NO_SPACE: &str = "no space left on device";

/// A tmpfs that only processes in its namespace see; it goes with the process that holds it.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// `Err`: why this machine has none.
    fn new(path: &Path) -> Result<SmallDisk, String> {
        let script = r#"mount -t tmpfs -o "size=$1" none "$0" && echo mounted && exec cat"#;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(path).arg(format!("{LARGE_MIB}m"));
        // It ends when its input does, be it that the test was killed.
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut holder = spawned.map_err(|e| format!("unshare: {e}"))?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).map_err(|e| e.to_string())?;
        if line.trim() == "mounted" {
            return Ok(SmallDisk { holder, path: path.to_owned() });
        }
        let output = holder.wait_with_output().map_err(|e| e.to_string())?;
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// What runs a program where the disk is.
    fn runner(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &target, "--"].map(str::to_owned).to_vec()
    }

    fn spec(&self) -> Spec {
        let mut spec = Spec::new(&self.path.join("data")).with(&["--shards", "2", "--cpus", "1"]);
        spec.runner = self.runner();
        spec
    }

    fn used_bytes(&self) -> u64 {
        let seen = Path::new("/proc").join(self.holder.id().to_string()).join("root");
        let path =
            CString::new([seen.as_os_str().as_bytes(), self.path.as_os_str().as_bytes()].concat()).expect("no zero byte");
        // SAFETY: statvfs is plain memory, and the path ends with a zero byte.
        let (failed, stat) = unsafe {
            let mut stat: libc::statvfs = std::mem::zeroed();
            (libc::statvfs(path.as_ptr(), &mut stat) != 0, stat)
        };
        assert!(!failed, "the disk can be looked at");
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }

    /// `Err` in the words of mount, for one when more than that is on it.
    fn resize(&self, size: &str) -> Result<(), String> {
        let runner = self.runner();
        let mut command = Command::new(&runner[0]);
        let remount = command.args(&runner[1..]).args(["mount", "-o", &format!("remount,size={size}")]).arg(&self.path);
        let output = remount.output().expect("nsenter");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Nothing more fits on it.
    fn fill(&self) {
        let mut outcome = Err(String::new());
        // What the member takes meanwhile may make the size too small by the time it is set.
        let full = poll(PATIENCE, || {
            outcome = self.resize(&format!("{}k", self.used_bytes().div_ceil(1024)));
            outcome.is_ok()
        });
        assert!(full, "the disk is not full: {outcome:?}");
    }

    fn empty(&self) {
        self.resize(&format!("{LARGE_MIB}m")).expect("a larger size");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// What was acknowledged: which number's value each key has.
#[derive(Default)]
struct Written {
    count: usize,
    last: BTreeMap<String, usize>,
}

fn value(number: usize) -> Bytes {
    let mut value = format!("{number:020}").into_bytes();
    value.resize(VALUE_BYTES, b'x');
    value.into()
}

impl Written {
    async fn put(&mut self, client: &Client) -> Result<(), Failure> {
        let key = format!("key-{:02}", self.count % KEYS);
        let request = pb::PutRequest { key: bytes(&key), value: value(self.count), ..Default::default() };
        client.unary::<pb::PutResponse>(PUT, &request).await?;
        self.last.insert(key, self.count);
        self.count += 1;
        Ok(())
    }

    /// Writes until that is refused.
    async fn put_until_refused(&mut self, client: &Client) {
        for _ in 0..WRITES_MAX {
            match self.put(client).await {
                Ok(()) => {}
                // Behind with its work for a moment: as with any server, the client tries again.
                Err(Failure::Status { code: 8, message }) if message.contains("too many requests") => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(failure) => return refused(&failure),
            }
        }
        panic!("{WRITES_MAX} writes on a full disk");
    }

    /// Writes until that works.
    async fn put_until_taken(&mut self, client: &Client) {
        let until = Instant::now() + PATIENCE;
        while let Err(failure) = self.put(client).await {
            assert!(Instant::now() < until, "there is space, and yet: {failure}");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn verify(&self, client: &Client) {
        for (key, &number) in &self.last {
            assert!(client.get(key).await == Some(value(number)), "{key} is not as it was acknowledged");
        }
    }
}

fn refused(failure: &Failure) {
    let Failure::Status { code: 8, message } = failure else { panic!("a full disk is told by {failure}") };
    assert!(message.contains(NO_SPACE), "{message}");
}

/// What takes space is refused whatever it is.
async fn everything_is_refused(client: &Client) {
    let put = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            value: value(0),
            ..Default::default()
        })),
    };
    let txn = pb::TxnRequest { success: ["a", "b", "c", "d"].map(put).to_vec(), ..Default::default() };
    for _ in 0..200 {
        refused(&client.unary::<pb::TxnResponse>(TXN, &txn).await.expect_err("a txn over both shards"));
    }
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    refused(&client.unary::<pb::LeaseGrantResponse>(LEASE_GRANT, &grant).await.expect_err("a lease"));
}

async fn connect(member: &Member) -> Client {
    Client::connect(member.port).await.expect("a member that serves")
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let dir = TestDir::new("full");
    let disk = match SmallDisk::new(dir.path()) {
        Ok(disk) => disk,
        Err(why) => {
            // Past the capture of the test's output: whoever reads the results is to know.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no file system of its own for the full disk: {why}");
            return;
        }
    };
    let mut written = Written::default();
    let mut member = disk.spec().start();
    block_on(async {
        let client = connect(&member).await;
        written.put(&client).await.expect("there is space");
        disk.fill();
        written.put_until_refused(&client).await;
        let on_the_full_disk = written.count;
        everything_is_refused(&client).await;
        written.verify(&client).await;
        disk.empty();
        written.put_until_taken(&client).await;
        println!("{on_the_full_disk} writes until the disk was full, then on");
        written.verify(&client).await;
    });
    assert!(member.wait_says("no space left on the device for a checkpoint"), "{}", member.log());
    assert!(member.wait_says("there is space again for a checkpoint"), "{}", member.log());
    member.kill();
    let mut member = disk.spec().start();
    block_on(async {
        let client = connect(&member).await;
        written.verify(&client).await;
        disk.fill();
        written.put_until_refused(&client).await;
    });
    println!("full: stopped after {:?}", member.stop());
    let (code, log) = disk.spec().refused();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("make space on the file system"), "{log}");
    disk.empty();
    let member = disk.spec().start();
    block_on(async {
        let client = connect(&member).await;
        written.verify(&client).await;
        written.put(&client).await.expect("there is space");
    });
}
