//! What the machine must offer: without it the member ends with 1, and one line says what is missing and how to fix it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::says;
use crate::support::process::{Member, PATIENCE, Spec, TestDir, free_port};
use crate::without::{Without, without};

/// Starts a member without these things: its exit code and its log. It must have left the directory empty, or as it was.
fn refused_without(dir: &TestDir, what: &[Without]) -> (Option<i32>, String) {
    let mut command = Spec::new(&dir.path().join("data")).command_on(free_port(), free_port());
    what.iter().for_each(|what| without(&mut command, *what));
    let mut member = Member::spawn(command, 0);
    let status = member.wait_end(PATIENCE);
    (status.code(), member.log())
}

fn one_line(what: &[Without], words: &[&str]) {
    let dir = TestDir::new("probe");
    let (code, log) = refused_without(&dir, what);
    assert_eq!(code, Some(1), "{log}");
    says(&log, words);
    assert_eq!(log.lines().count(), 1, "one line says it:\n{log}");
    println!("{}", log.trim());
}

#[test]
fn io_uring_that_is_forbidden() {
    let call = |error| Without::Call { number: libc::SYS_io_uring_setup, error };
    // Where the administrator has switched it off, that is what is said.
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|s| s.trim() != "0");
    let why = if disabled { "kernel.io_uring_disabled" } else { "EPERM" };
    one_line(&[call(libc::EPERM)], &["io_uring", why, if disabled { "sysctl" } else { "seccomp" }]);
    one_line(&[call(libc::ENOSYS)], &["the kernel offers no io_uring", "CONFIG_IO_URING"]);
}

#[test]
fn a_kernel_that_is_too_old() {
    one_line(&[Without::NewKernel], &["the kernel 2.6.", "is too old", "5.8 or later"]);
}

#[test]
fn too_little_locked_memory() {
    let what = [Without::LockedMemory(64 << 10), Without::Privileges];
    one_line(&what, &["the limit of locked memory is too low: 64 KiB", "ulimit -l", "LimitMEMLOCK="]);
}

#[test]
fn a_file_system_without_direct_io() {
    one_line(&[Without::DirectIo], &["cannot do direct I/O (O_DIRECT)", "ext4, XFS"]);
}

#[test]
fn a_directory_that_cannot_be_written_to() {
    let dir = TestDir::new("read-only");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).expect("our own directory");
    let (code, log) = refused_without(&dir, &[Without::Privileges]);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("our own directory");
    assert_eq!(code, Some(1), "{log}");
    says(&log, &["cannot create", &dir.path().display().to_string(), "make it writable for the user of this process"]);
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let dir = TestDir::new("files");
    let port = free_port();
    let mut command = Spec::new(dir.path()).command_on(port, free_port());
    without(&mut command, Without::OpenFiles { soft: 200, hard: 5000 });
    let mut member = Member::spawn(command, port);
    assert!(member.wait_ready(), "{}", member.log());
    let limits = fs::read_to_string(format!("/proc/{}/limits", member.id())).expect("a process of ours");
    let files = limits.lines().find(|l| l.starts_with("Max open files")).expect("a limit of open files");
    assert_eq!(files.split_whitespace().nth(3), Some("5000"), "{files}");
}
