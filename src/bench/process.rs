//! What the kernel says of the server's process.

use std::fs;
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

/// What process `pid` has used.
///
/// # Errors
/// There is no such process.
pub fn usage(pid: u32) -> Result<Usage, String> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).map_err(|e| format!("--server-pid {pid}: {path}: {e}"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    // SAFETY: sysconf only reads a constant.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    let cpu = cpu_ticks(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not understood: {stat:?}"))?;
    let memory = |name| status_bytes(&status, name).unwrap_or(0);
    Ok(Usage {
        cpu: Duration::from_secs_f64(cpu as f64 / ticks_per_second),
        resident: memory("VmRSS:"),
        resident_max: memory("VmHWM:"),
    })
}

/// utime + stime, fields 14 and 15; the name in field 2 may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
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
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
    }

    #[test]
    fn this_process_is_there_and_no_other_is_made_up() {
        assert!(usage(std::process::id()).is_ok_and(|usage| usage.resident > 0));
        assert!(usage(u32::MAX).is_err());
    }
}
