//! How much memory the process may count on: the machine's, or what its cgroups leave it.

use std::fs;
use std::path::{Path, PathBuf};

use super::cores::{CGROUPS, cgroup_dirs};

/// The machine's memory, or the least limit of the cgroups that the process is in, in bytes; 0 where neither is told.
pub fn found() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = allowed(&cgroup_dirs(&own, Path::new(CGROUPS), "memory"));
    machine.into_iter().chain(allowed).min().unwrap_or(0)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The least limit among the directories. Version 2 has it in `memory.max` ("max": none), version 1 in `memory.limit_in_bytes` (a number that
/// no machine has: none).
fn allowed(dirs: &[PathBuf]) -> Option<u64> {
    let read = |dir: &PathBuf, file| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
    dirs.iter().filter_map(|dir| read(dir, "memory.max").or_else(|| read(dir, "memory.limit_in_bytes"))).min()
}

#[cfg(test)]
mod tests {
    use super::super::datadir::TestDir;
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24567 kB\n"), Some(24567 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(found() > 0);
    }

    #[test]
    fn the_least_limit_holds() {
        let dir = TestDir::new("memory");
        let (own, above) = (dir.path().join("a/b"), dir.path().join("a"));
        fs::create_dir_all(&own).unwrap();
        let dirs = [own.clone(), above.clone()];
        assert_eq!(allowed(&dirs), None);
        fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(allowed(&dirs), None);
        fs::write(above.join("memory.max"), "1073741824\n").unwrap();
        assert_eq!(allowed(&dirs), Some(1 << 30));
        fs::write(own.join("memory.max"), "268435456\n").unwrap();
        assert_eq!(allowed(&dirs), Some(256 << 20));
    }
}
