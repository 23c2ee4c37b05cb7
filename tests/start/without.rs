//! Ways to take something away from a child process between fork and exec. Everything here is a system call or two: nothing else
//! may be done there.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `capability.h`: what lets root write anywhere, and raise limits.
pub const CAPABILITIES: [libc::c_ulong; 4] =
    [1 /* DAC_OVERRIDE */, 2 /* DAC_READ_SEARCH */, 14 /* IPC_LOCK */, 24 /* SYS_RESOURCE */];

/// Something that the child is to go without.
#[derive(Clone, Copy)]
pub enum Without {
    /// A system call: it answers with this error.
    Call { number: libc::c_long, error: i32 },
    /// Files opened with O_DIRECT: EINVAL, as file systems answer that cannot.
    DirectIo,
    /// Locked memory beyond so many bytes.
    LockedMemory(u64),
    /// Soft limit of open files below the hard one.
    OpenFiles { soft: u64, hard: u64 },
    /// What root may do and others may not.
    Privileges,
    /// A kernel of this century: `uname` tells 2.6.
    NewKernel,
}

/// Makes the child go without it.
pub fn without(command: &mut Command, what: Without) {
    // SAFETY: the closure makes system calls only, on memory that it owns.
    unsafe { command.pre_exec(move || take_away(what)) };
}

fn take_away(what: Without) -> io::Result<()> {
    match what {
        Without::Call { number, error } => filter(&answer_with(number, error)),
        Without::DirectIo => filter(&refuse_direct_io()),
        Without::LockedMemory(bytes) => limit(libc::RLIMIT_MEMLOCK, bytes, bytes),
        Without::OpenFiles { soft, hard } => limit(libc::RLIMIT_NOFILE, soft, hard),
        // SAFETY: prctl and personality take numbers here.
        Without::Privileges => CAPABILITIES.iter().try_for_each(|capability| {
            match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } {
                0 => Ok(()),
                // Who may not drop them does not have them.
                _ => io::Error::last_os_error()
                    .raw_os_error()
                    .filter(|e| *e == libc::EPERM)
                    .map(|_| ())
                    .ok_or_else(io::Error::last_os_error),
            }
        }),
        Without::NewKernel => {
            const UNAME26: libc::c_ulong = 0x0002_0000;
            done(unsafe { libc::personality(UNAME26) } >= 0)
        }
    }
}

fn done(well: bool) -> io::Result<()> {
    if well { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: setrlimit reads one rlimit at the pointer.
    done(unsafe { libc::setrlimit(resource, &limit) } == 0)
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
/// Where `seccomp_data` has the number of the call, and the lower half of its third argument.
const NUMBER: u32 = 0;
const THIRD_ARGUMENT: u32 = 32;

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn answer_with(number: libc::c_long, error: i32) -> [libc::sock_filter; 4] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(IF_EQUAL, 0, 1, number as u32),
        step(RETURN, 0, 0, ERRNO | error as u32),
        step(RETURN, 0, 0, ALLOW),
    ]
}

fn refuse_direct_io() -> [libc::sock_filter; 6] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(IF_EQUAL, 0, 3, libc::SYS_openat as u32),
        step(LOAD, 0, 0, THIRD_ARGUMENT),
        step(IF_SET, 0, 1, libc::O_DIRECT as u32),
        step(RETURN, 0, 0, ERRNO | libc::EINVAL as u32),
        step(RETURN, 0, 0, ALLOW),
    ]
}

fn filter(steps: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which lives until both calls are over.
    unsafe {
        done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)?;
        done(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0)
    }
}
