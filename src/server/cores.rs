//! How many CPUs there are for us, and which cores run on them.
//!
//! CPUs = min(affinity, ceil(the cgroup's cpu.max)). From 3 up a quarter of them, rounded up, are fronts and the rest
//! shard cores; with 1 or 2 everything runs on one thread.

use crate::base::limits::{CORES_MAX, SHARDS_MAX};
use crate::config::Cpus;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";
/// From this many CPUs on there is more than one thread, and fronts have threads of their own.
const CPUS_WITH_FRONTS_MIN: usize = 3;
/// One front per so many CPUs, begun ones counted.
const CPUS_PER_FRONT: usize = 4;

/// The cores of this run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Threads that are fronts only; 0: every shard core is a front as well.
    pub fronts: usize,
    /// Shard cores, at least one.
    pub shard_cores: usize,
    /// The CPUs to pin to, one after the other and from the first again; empty: nothing is pinned.
    pub pins: Vec<u16>,
}

impl Layout {
    /// Threads with an executor.
    pub fn threads(&self) -> usize {
        self.fronts + self.shard_cores
    }

    /// The CPU of a thread, counted from 0 (shard cores first), where threads are pinned.
    pub fn pin_of(&self, thread: usize) -> Option<u16> {
        if self.pins.is_empty() { None } else { Some(self.pins[thread % self.pins.len()]) }
    }
}

/// Lays the cores out. `found` is what [`cpus_found`] says; `front_cores` what --front-cores says.
pub fn layout(found: usize, cpus: &Cpus, front_cores: Option<u16>) -> Layout {
    let (count, pins) = match cpus {
        Cpus::Auto => (found, Vec::new()),
        Cpus::Count(count) => (usize::from(*count), Vec::new()),
        Cpus::Pinned(list) => (list.len(), list.clone()),
    };
    let count = count.max(1);
    let (count, fronts) = match front_cores {
        Some(fronts) => (count, usize::from(fronts)),
        None if count < CPUS_WITH_FRONTS_MIN => (1, 0),
        None => (count, count.div_ceil(CPUS_PER_FRONT)),
    };
    let fronts = fronts.min(CORES_MAX);
    let shard_cores = count.saturating_sub(fronts).clamp(1, SHARDS_MAX);
    Layout { fronts, shard_cores, pins }
}

/// The time that a cgroup may run in each period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CpuTime {
    quota_us: u64,
    period_us: u64,
}

impl CpuTime {
    fn cpus(self) -> usize {
        usize::try_from(self.quota_us.div_ceil(self.period_us.max(1))).unwrap_or(usize::MAX).max(1)
    }
}

/// `cpu.max` of a cgroup: "QUOTA PERIOD" or "max PERIOD".
fn read_cpu_max(text: &str) -> Option<CpuTime> {
    let mut words = text.split_whitespace();
    let quota_us = words.next()?.parse().ok()?;
    let period_us = words.next()?.parse().ok().filter(|p| *p > 0)?;
    Some(CpuTime { quota_us, period_us })
}

/// The directories whose limits hold for this process, from `/proc/self/cgroup`: its own cgroup and all above.
/// Version 2 has the line `0::/path`, version 1 `N:cpu,cpuacct:/path` for the controller `cpu`.
pub(super) fn cgroup_dirs(own: &str, mount: &Path, controller: &str) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let top = if controllers.is_empty() {
            mount.to_owned()
        } else if controllers.split(',').any(|c| c == controller) {
            mount.join(controller)
        } else {
            continue;
        };
        let relative = Path::new(path.trim_start_matches('/'));
        // A path with ".." is outside of what this namespace shows.
        let inside = !path.contains("..");
        dirs.extend(relative.ancestors().filter(|_| inside).map(|a| top.join(a)));
        dirs.push(top);
    }
    dirs
}

/// The least limit of CPU time among the directories, in CPUs.
fn cpus_allowed(dirs: &[PathBuf]) -> Option<usize> {
    let read = |dir: &PathBuf| {
        if let Ok(text) = fs::read_to_string(dir.join("cpu.max")) {
            return read_cpu_max(&text);
        }
        let number = |file| fs::read_to_string(dir.join(file)).ok().map(|s| s.trim().to_owned());
        read_cpu_max(&format!("{} {}", number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?))
    };
    dirs.iter().filter_map(read).map(CpuTime::cpus).min()
}

/// The CPUs that this process may run on.
fn affinity() -> Option<usize> {
    // SAFETY: cpu_set_t is plain bits, for which zeros are a value; the call writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let answer = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (answer == 0).then(|| libc::CPU_COUNT(&set) as usize).filter(|n| *n > 0)
    }
}

/// CPUs for this process: affinity, and the cgroup's limit of CPU time rounded up. At least 1.
pub fn cpus_found() -> usize {
    let affinity = affinity().or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cpus_allowed(&cgroup_dirs(&own, Path::new(CGROUPS), "cpu")).map_or(affinity, |allowed| allowed.min(affinity))
}

/// The address of the machine that its default route leaves from (nothing is sent); for `Config::use_default_host`.
pub fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of the documentation's network (RFC 5737): only the route to it matters.
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::super::datadir::TestDir;
    use super::*;

    #[test]
    fn cores_follow_from_cpus() {
        for (cpus, fronts, shard_cores) in [
            (0, 0, 1),
            (1, 0, 1),
            (2, 0, 1),
            (3, 1, 2),
            (4, 1, 3),
            (5, 2, 3),
            (8, 2, 6),
            (16, 4, 12),
            (64, 16, 48),
            (128, 32, 64),
        ] {
            let l = layout(cpus, &Cpus::Auto, None);
            assert_eq!((l.fronts, l.shard_cores, l.pin_of(0)), (fronts, shard_cores, None), "{cpus} CPUs");
        }
    }

    #[test]
    fn flags_overrule_what_is_found() {
        let l = layout(4, &Cpus::Auto, Some(0));
        assert_eq!((l.fronts, l.shard_cores, l.threads()), (0, 4, 4));
        let l = layout(1, &Cpus::Auto, Some(2));
        assert_eq!((l.fronts, l.shard_cores), (2, 1));
        let l = layout(2, &Cpus::Count(5), None);
        assert_eq!((l.fronts, l.shard_cores), (2, 3));
        let l = layout(8, &Cpus::Count(2), Some(1));
        assert_eq!((l.fronts, l.shard_cores), (1, 1));
        let l = layout(2, &Cpus::Pinned(vec![4, 6, 8]), None);
        assert_eq!((l.fronts, l.shard_cores), (1, 2));
        assert_eq!([0, 1, 2, 3].map(|t| l.pin_of(t)), [Some(4), Some(6), Some(8), Some(4)]);
    }

    #[test]
    fn cpu_time_is_rounded_up() {
        for (text, cpus) in [
            ("max 100000\n", None),
            ("100000 100000", Some(1)),
            ("150000 100000\n", Some(2)),
            ("50000 100000", Some(1)),
            ("-1 100000", None),
            ("800000 100000", Some(8)),
            ("100000 0", None),
            ("", None),
        ] {
            assert_eq!(read_cpu_max(text).map(CpuTime::cpus), cpus, "{text}");
        }
    }

    #[test]
    fn the_limits_above_hold_too() {
        let dir = TestDir::new("cgroup");
        let mount = dir.path();
        let own = "0::/a/b\n3:cpuset:/x\n1:cpu,cpuacct:/v1\n";
        let dirs = cgroup_dirs(own, mount, "cpu");
        assert!(dirs.contains(&mount.join("a/b")) && dirs.contains(&mount.join("a")) && dirs.contains(&mount.join("cpu/v1")));
        assert_eq!(cpus_allowed(&dirs), None);
        fs::create_dir_all(mount.join("a/b")).unwrap();
        fs::create_dir_all(mount.join("cpu/v1")).unwrap();
        fs::write(mount.join("a/b/cpu.max"), "max 100000").unwrap();
        fs::write(mount.join("a/cpu.max"), "250000 100000").unwrap();
        assert_eq!(cpus_allowed(&dirs), Some(3));
        fs::write(mount.join("cpu/v1/cpu.cfs_quota_us"), "120000\n").unwrap();
        fs::write(mount.join("cpu/v1/cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(cpus_allowed(&dirs), Some(2));
        assert_eq!(cgroup_dirs("0::/../x", mount, "cpu"), [mount]);
    }

    #[test]
    fn this_machine_has_cpus() {
        let cpus = cpus_found();
        assert!(cpus >= 1 && cpus <= affinity().unwrap_or(usize::MAX));
    }
}
