//! A member in a process of its own, on free loopback ports, with its log at hand.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a member says when it serves.
pub const READY: &str = "ready to serve client requests";
/// How long anything may take before a test gives up, on a machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How many times other ports are tried when those at hand were taken meanwhile.
const PORT_TRIES: u32 = 5;

/// Looks at a condition until it holds or the time is over; tells whether it held.
pub fn poll(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// A directory of a test's own on the disk that the build is on, removed at its end.
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new(name: &str) -> TestDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        TestDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // What a failed test leaves behind is there to be looked at.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// The program under test; another build of it may be put to the test as well.
pub fn binary() -> String {
    std::env::var("ETCRING_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_etcring").to_owned())
}

/// How a member is to be started.
#[derive(Clone, Debug)]
pub struct Spec {
    pub data_dir: PathBuf,
    pub arguments: Vec<String>,
    pub variables: Vec<(String, String)>,
    /// A program that runs it, and that program's arguments; none: it runs by itself.
    pub runner: Vec<String>,
}

impl Spec {
    pub fn new(data_dir: &Path) -> Spec {
        Spec { data_dir: data_dir.to_owned(), arguments: Vec::new(), variables: Vec::new(), runner: Vec::new() }
    }

    pub fn with(mut self, arguments: &[&str]) -> Spec {
        self.arguments.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    /// The command that starts it on these ports.
    pub fn command_on(&self, port: u16, peer_port: u16) -> Command {
        let url = format!("http://127.0.0.1:{port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let mut words = self.runner.iter().cloned().chain([binary()]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        command.env_clear().arg("--data-dir").arg(&self.data_dir);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peer_url]);
        command.args(&self.arguments).envs(self.variables.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts it on these ports, and does not wait for anything.
    pub fn spawn_on(&self, port: u16, peer_port: u16) -> Member {
        Member::spawn(self.command_on(port, peer_port), port)
    }

    pub fn spawn(&self) -> Member {
        self.spawn_on(free_port(), free_port())
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Member {
        for _ in 0..PORT_TRIES {
            let mut member = self.spawn();
            if member.wait_ready() {
                return member;
            }
            let log = member.log();
            assert!(log.contains("another process listens there"), "the member did not start ({self:?}):\n{log}");
        }
        panic!("no free ports");
    }

    /// Starts it and waits until it has ended by itself: its exit code and its log.
    pub fn refused(&self) -> (i32, String) {
        for _ in 0..PORT_TRIES {
            let mut member = self.spawn();
            let status = member.wait_end(PATIENCE);
            let log = member.log();
            if !log.contains("another process listens there") {
                return (status.code().expect("it ended by itself"), log);
            }
        }
        panic!("no free ports");
    }
}

#[derive(Default)]
struct Log {
    text: String,
    closed: bool,
}

/// A running member; killed when dropped.
pub struct Member {
    child: Child,
    log: Arc<Mutex<Log>>,
    started: Instant,
    pub port: u16,
    /// How long it took from the start until it was ready.
    pub ready_after: Duration,
}

impl Member {
    pub fn spawn(mut command: Command, port: u16) -> Member {
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary");
        let log = Arc::new(Mutex::new(Log::default()));
        let (stderr, sink) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || read_log(stderr, &sink));
        Member { child, log, started, port, ready_after: Duration::ZERO }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.log.lock().expect("the reader does not panic").text.clone()
    }

    fn says(&self, text: &str) -> bool {
        self.log.lock().expect("the reader does not panic").text.contains(text)
    }

    /// Waits until it says this; false when it ends without.
    pub fn wait_says(&self, text: &str) -> bool {
        let mut said = false;
        let decided = poll(PATIENCE, || {
            let log = self.log.lock().expect("the reader does not panic");
            said = log.text.contains(text);
            said || log.closed
        });
        assert!(decided, "neither {text:?} nor an end within {PATIENCE:?}:\n{}", self.log());
        said
    }

    /// Waits until it serves; false when it ends before.
    pub fn wait_ready(&mut self) -> bool {
        let ready = self.wait_says(READY);
        self.ready_after = self.started.elapsed();
        ready
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill touches no memory; the child has not been waited for, so its number is its own.
        let failed = unsafe { libc::kill(self.child.id() as i32, signal) } != 0;
        assert!(!failed, "a signal is delivered to a child that was not waited for");
    }

    /// Waits for its end, and for the rest of its log.
    pub fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        let ended = poll(patience, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(ended, "it runs on after {patience:?}:\n{}", self.log());
        poll(PATIENCE, || self.log.lock().expect("the reader does not panic").closed);
        status.expect("it ended")
    }

    /// kill -9, and its end.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait_end(PATIENCE);
    }

    /// SIGTERM: it must end with 0. How long it took.
    pub fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait_end(PATIENCE);
        assert_eq!(status.code(), Some(0), "the end after SIGTERM is {status}:\n{}", self.log());
        assert!(!self.says("the clean stop took too long"), "{}", self.log());
        asked.elapsed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_log(stderr: ChildStderr, log: &Mutex<Log>) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        let mut log = log.lock().expect("readers do not panic");
        log.text.push_str(&String::from_utf8_lossy(&line));
        log.text.push('\n');
    }
    log.lock().expect("readers do not panic").closed = true;
}
