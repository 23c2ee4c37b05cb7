//! May etcring run here? Each condition that is not met becomes one line that says what is missing and how to fix it.
//!
//! The readers (`probe_*`, `raise_*`) touch the system and are thin; what their answers mean is decided by pure functions.

use crate::base::AlignedBuffer;
use crate::base::limits::{BLOCK_BYTES, LOCKED_BYTES_PER_EXECUTOR};
use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The oldest kernel that has all of io_uring that the executors use.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Entries of the ring that is set up to see whether one can be.
const PROBE_RING_ENTRIES: u32 = 4;
/// `struct io_uring_params` has 120 bytes.
const RING_PARAMS_WORDS: usize = 30;

/// A condition that is not met.
#[derive(Debug)]
pub enum Problem {
    /// The kernel is older than the executors need.
    KernelTooOld(String),
    /// The kernel was built without io_uring, or something hides it.
    NoIoUring,
    /// The administrator has switched it off; the value of kernel.io_uring_disabled.
    IoUringDisabled(u32),
    /// The sysctl allows it, something else does not.
    IoUringFiltered,
    /// Another answer to `io_uring_setup`.
    IoUring(io::Error),
    /// The limit of locked memory, in bytes, and what this many executors need.
    LockedMemory {
        /// The limit, raised as far as it may be.
        limit: u64,
        /// What is needed.
        needed: u64,
    },
    /// The file system of the directory cannot do direct I/O.
    NoDirectIo(PathBuf),
    /// The directory cannot be written to.
    NotWritable(PathBuf, io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::KernelTooOld(release) => {
                write!(f, "the kernel {release} is too old: etcring needs Linux {}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1)
            }
            Problem::NoIoUring => f.write_str(
                "the kernel offers no io_uring (io_uring_setup: ENOSYS): use a kernel built with CONFIG_IO_URING, \
                 and in a container a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Problem::IoUringDisabled(value) => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}): run `sysctl -w kernel.io_uring_disabled=0`{}",
                if *value == 1 { ", or make the group of this process the one in kernel.io_uring_group" } else { "" }
            ),
            Problem::IoUringFiltered => f.write_str(
                "io_uring is forbidden to this process (io_uring_setup: EPERM): allow io_uring_setup, io_uring_enter and \
                 io_uring_register in the container's seccomp profile (with Docker: --security-opt seccomp=PROFILE)",
            ),
            Problem::IoUring(error) => write!(f, "io_uring cannot be set up ({error})"),
            Problem::LockedMemory { limit, needed } => write!(
                f,
                "the limit of locked memory is too low: {} KiB, and {} KiB are needed: run `ulimit -l {1}` before, \
                 or set LimitMEMLOCK={1}K in the systemd unit, or --ulimit memlock={needed} with Docker",
                limit / 1024,
                needed / 1024
            ),
            Problem::NoDirectIo(dir) => write!(
                f,
                "the file system of {} cannot do direct I/O (O_DIRECT): put the directory on ext4, XFS or another that can",
                dir.display()
            ),
            Problem::NotWritable(dir, error) => {
                let advice = match error.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT) => "make space on its file system",
                    Some(libc::EROFS) => "its file system is mounted read-only, use another",
                    _ => "make it writable for the user of this process",
                };
                write!(f, "{} cannot be written to ({error}): {advice}", dir.display())
            }
        }
    }
}

impl std::error::Error for Problem {}

/// All conditions of the machine: kernel, io_uring, locked memory for this many executors. Empty when all are met.
pub fn probe_machine(executors: u64) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(kernel_release().and_then(|r| check_kernel(&r).err()));
    if problems.is_empty() {
        problems.extend(probe_io_uring().err());
    }
    problems.extend(raise_locked_memory(executors).err());
    problems
}

/// Whether a kernel of this release (`uname -r`) is new enough. What cannot be read is taken to be.
///
/// # Errors
/// [`Problem::KernelTooOld`].
pub fn check_kernel(release: &str) -> Result<(), Problem> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return Ok(()) };
    if (major, minor) < KERNEL_MIN { Err(Problem::KernelTooOld(release.to_owned())) } else { Ok(()) }
}

fn kernel_release() -> Option<String> {
    // SAFETY: utsname is plain bytes, for which zeros are a value; uname fills it and ends each text with a zero.
    unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        (libc::uname(&mut name) == 0).then(|| CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned())
    }
}

/// Sets up a ring and drops it.
///
/// # Errors
/// Why it cannot be set up.
pub fn probe_io_uring() -> Result<(), Problem> {
    let mut params = [0u32; RING_PARAMS_WORDS];
    // SAFETY: the kernel reads and writes one io_uring_params, 120 bytes, at the pointer, which the array has.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, PROBE_RING_ENTRIES, params.as_mut_ptr()) };
    if let Ok(descriptor) = i32::try_from(descriptor)
        && descriptor >= 0
    {
        // SAFETY: the descriptor was just made and belongs to nobody else.
        drop(unsafe { File::from_raw_fd(descriptor) });
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().and_then(|s| s.trim().parse().ok());
    Err(explain_io_uring(error, disabled))
}

/// What a refused `io_uring_setup` means, given kernel.io_uring_disabled where the kernel has that.
fn explain_io_uring(error: io::Error, disabled: Option<u32>) -> Problem {
    match (error.raw_os_error(), disabled) {
        (Some(libc::ENOSYS), _) => Problem::NoIoUring,
        (Some(libc::EPERM | libc::EACCES), Some(value @ 1..)) => Problem::IoUringDisabled(value),
        (Some(libc::EPERM | libc::EACCES), _) => Problem::IoUringFiltered,
        _ => Problem::IoUring(error),
    }
}

/// Raises the soft limit of locked memory to the hard one, and both to what this many executors need where that is allowed.
///
/// # Errors
/// [`Problem::LockedMemory`].
pub fn raise_locked_memory(executors: u64) -> Result<(), Problem> {
    let needed = LOCKED_BYTES_PER_EXECUTOR * executors.max(1);
    let Some((soft, hard)) = limit_of(libc::RLIMIT_MEMLOCK) else { return Ok(()) };
    let raised = [hard.max(needed), hard].into_iter().find(|limit| set_limit(libc::RLIMIT_MEMLOCK, *limit, *limit));
    let limit = raised.unwrap_or(soft);
    if limit >= needed { Ok(()) } else { Err(Problem::LockedMemory { limit, needed }) }
}

/// Raises the soft limit of open files to the hard one; answers with the limit that holds now.
pub fn raise_open_files() -> u64 {
    match limit_of(libc::RLIMIT_NOFILE) {
        Some((soft, hard)) if soft < hard && !set_limit(libc::RLIMIT_NOFILE, hard, hard) => soft,
        Some((_, hard)) => hard,
        None => 0,
    }
}

fn limit_of(resource: libc::__rlimit_resource_t) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit at the pointer.
    let answer = unsafe { libc::getrlimit(resource, &mut limit) };
    (answer == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: setrlimit reads one rlimit at the pointer.
    unsafe { libc::setrlimit(resource, &limit) == 0 }
}

/// Writes one block through O_DIRECT, syncs it and reads it back. The file stays, so that a full disk
/// does not keep a member from its next start.
///
/// # Errors
/// The directory cannot be written to, or not directly.
pub fn probe_direct_io(file: &Path) -> Result<(), Problem> {
    let dir = file.parent().unwrap_or(Path::new(".")).to_owned();
    let not_writable = |error| Problem::NotWritable(dir.clone(), error);
    let open = |flags| OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(file);
    open(0).map_err(not_writable)?;
    let no_direct = |error: io::Error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => Problem::NoDirectIo(dir.clone()),
        _ => Problem::NotWritable(dir.clone(), error),
    };
    let direct = open(libc::O_DIRECT).map_err(no_direct)?;
    let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
    direct.write_all_at(&block, 0).map_err(no_direct)?;
    direct.sync_all().map_err(no_direct)?;
    direct.read_exact_at(&mut block, 0).map_err(no_direct)?;
    Ok(())
}

/// What to say when a listener cannot have its address.
pub fn port_taken(flag: &str, address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!("another process listens there (see `ss -ltnp`): stop it, or give another --{flag}"),
        Some(libc::EADDRNOTAVAIL) => format!("this machine does not have the address: give one of its own in --{flag}"),
        Some(libc::EACCES) => format!("ports below 1024 need CAP_NET_BIND_SERVICE: give a higher one in --{flag}"),
        _ => format!("give another --{flag}"),
    };
    format!("cannot listen on {address} ({error}): {advice}")
}

/// What to say when there is no first WAL segment for a core.
pub fn no_segment(path: &Path, bytes: u64, error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!(": each core needs one of {} MiB, make space on the file system", bytes >> 20)
        }
        _ => String::new(),
    };
    format!("cannot make WAL segment {} ({error}){advice}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::datadir::TestDir;
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, fits) in [
            ("6.18.44-fc-v669", true),
            ("5.8.0", true),
            ("5.10", true),
            ("5.7.19-generic", false),
            ("4.19.0", false),
            ("10.0", true),
            ("strange", true),
        ] {
            assert_eq!(check_kernel(release).is_ok(), fits, "{release}");
        }
        assert!(kernel_release().is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())));
    }

    #[test]
    fn a_refused_ring_is_explained() {
        let explain = |errno, disabled| explain_io_uring(io::Error::from_raw_os_error(errno), disabled).to_string();
        for (errno, disabled, words) in [
            (libc::ENOSYS, None, "CONFIG_IO_URING"),
            (libc::EPERM, Some(2), "sysctl -w kernel.io_uring_disabled=0"),
            (libc::EPERM, Some(1), "kernel.io_uring_group"),
            (libc::EPERM, Some(0), "seccomp"),
            (libc::EPERM, None, "seccomp"),
            (libc::ENOMEM, Some(0), "cannot be set up"),
        ] {
            let text = explain(errno, disabled);
            assert!(text.contains(words) && !text.contains('\n'), "{text}");
        }
    }

    /// Makes io_uring_setup fail with EPERM for this thread, as a container's seccomp profile does.
    fn forbid_io_uring_setup() -> bool {
        let number = u32::try_from(libc::SYS_io_uring_setup).unwrap();
        let step = |code: u32, k, jt, jf| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
        let errno = u32::try_from(libc::EPERM).unwrap();
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies the program, which outlives the call, and it changes this thread alone.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
        }
    }

    #[test]
    fn a_forbidden_ring_is_met_as_such() {
        let probe = || forbid_io_uring_setup().then(probe_io_uring);
        let Some(result) = std::thread::spawn(probe).join().unwrap() else { return };
        assert!(matches!(result, Err(Problem::IoUringFiltered | Problem::IoUringDisabled(_))), "{result:?}");
    }

    #[test]
    fn problems_say_what_to_do() {
        for (problem, words) in [
            (Problem::KernelTooOld("5.4.0".to_owned()), "needs Linux 5.8"),
            (Problem::LockedMemory { limit: 65536, needed: 1 << 20 }, "64 KiB, and 1024 KiB are needed: run `ulimit -l 1024`"),
            (Problem::NoDirectIo(PathBuf::from("/d")), "file system of /d cannot do direct I/O"),
            (Problem::NotWritable(PathBuf::from("/d"), io::Error::from_raw_os_error(libc::EROFS)), "read-only"),
        ] {
            assert!(problem.to_string().contains(words), "{problem}");
        }
        let address = "127.0.0.1:2379".parse().unwrap();
        let text = port_taken("listen-client-urls", address, &io::Error::from_raw_os_error(libc::EADDRINUSE));
        assert!(text.contains("127.0.0.1:2379") && text.contains("--listen-client-urls"), "{text}");
    }

    #[test]
    fn a_directory_is_probed_by_writing_a_block() {
        let dir = TestDir::new("probe");
        let file = dir.path().join("BLOCK");
        match probe_direct_io(&file) {
            Ok(()) => assert_eq!(fs::metadata(&file).unwrap().len(), BLOCK_BYTES as u64),
            Err(problem) => assert!(matches!(problem, Problem::NoDirectIo(_)), "{problem}"),
        }
        let missing = probe_direct_io(&dir.path().join("nowhere/BLOCK")).unwrap_err();
        assert!(matches!(missing, Problem::NotWritable(..)), "{missing}");
    }

    #[test]
    fn limits_can_be_read_and_kept() {
        let (soft, hard) = limit_of(libc::RLIMIT_NOFILE).expect("a limit");
        assert!(soft <= hard);
        assert_eq!(raise_open_files(), hard);
        assert_eq!(limit_of(libc::RLIMIT_NOFILE), Some((hard, hard)));
        let (_, hard) = limit_of(libc::RLIMIT_MEMLOCK).expect("a limit");
        assert_eq!(
            raise_locked_memory(1).is_ok(),
            limit_of(libc::RLIMIT_MEMLOCK).is_some_and(|(s, _)| s >= LOCKED_BYTES_PER_EXECUTOR)
        );
        assert!(limit_of(libc::RLIMIT_MEMLOCK).is_some_and(|(_, h)| h >= hard));
    }
}
