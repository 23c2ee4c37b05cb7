//! What the kernel says of the server's process.

use std::fs;
use std::io;
use std::time::Duration;

/// A process's use of the machine.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Usage {
    /// CPU time since its start, in user and kernel mode.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most that was ever resident, in bytes.
    pub resident_max: u64,
}

/// What has been used so far.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Readings {
    /// By the server's process, if one was named.
    pub server: Option<Usage>,
    /// CPU time of this process.
    pub generator: Duration,
}

/// Reads what the server and this process have used.
///
/// # Errors
/// There is no such process.
pub fn readings(server: Option<u32>) -> Result<Readings, String> {
    Ok(Readings { server: server.map(usage).transpose()?, generator: usage(std::process::id())?.cpu })
}

/// Lets the kernel forget the highest resident memory of process `pid`; whether it did.
pub fn forget_peak(pid: u32) -> bool {
    const PEAK: &str = "5";
    fs::write(format!("/proc/{pid}/clear_refs"), PEAK).is_ok()
}

/// What process `pid` has used.
///
/// # Errors
/// There is no such process.
pub fn usage(pid: u32) -> Result<Usage, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|e| format!("--server-pid {pid}: {path}: {e}"))?;
    let cpu = cpu_time(pid).map_err(|e| format!("--server-pid {pid}: its CPU time: {e}"))?;
    let memory = |name| status_bytes(&status, name).unwrap_or(0);
    Ok(Usage { cpu, resident: memory("VmRSS:"), resident_max: memory("VmHWM:") })
}

/// The process's own clock: all its threads, also those that have ended, to the nanosecond.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is a place for the result.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the result; the clock of a process that has ended gives an error.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
    }

    #[test]
    fn a_peak_that_is_forgotten_is_not_told_again() {
        let pid = std::process::id();
        let mut large = vec![0u8; 64 << 20];
        large.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let with = usage(pid).expect("this process").resident_max;
        drop(large);
        assert!(forget_peak(pid));
        let after = usage(pid).expect("this process").resident_max;
        assert!(after + (32 << 20) < with, "{with} bytes, then {after}");
        assert!(!forget_peak(u32::MAX));
    }

    #[test]
    fn this_process_is_there_and_no_other_is_made_up() {
        let used = || usage(std::process::id()).expect("this process");
        let before = used();
        assert!(before.resident > 0 && before.cpu > Duration::ZERO);
        while used().cpu < before.cpu + Duration::from_millis(1) {}
        assert!(usage(u32::MAX).is_err());
    }
}
