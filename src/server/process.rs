//! What /proc says of this process, read when /metrics is asked for.

use crate::metrics::ProcessFigures;
use std::fs;

/// Reads the figures of now; what cannot be read is left out of /metrics.
pub fn read_process_figures() -> ProcessFigures {
    // SAFETY: sysconf reads and writes nothing of ours.
    let system = unsafe { |name| u64::try_from(libc::sysconf(name)).ok().filter(|v| *v > 0) };
    let ticks_per_second = system(libc::_SC_CLK_TCK).unwrap_or(100);
    let page_bytes = system(libc::_SC_PAGESIZE).unwrap_or(4096);
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut figures = ProcessFigures::default();
    read_stat(&mut figures, &text("/proc/self/stat"), &text("/proc/stat"), ticks_per_second, page_bytes);
    read_limits(&mut figures, &text("/proc/self/limits"));
    read_network(&mut figures, &text("/proc/self/net/dev"));
    // One of them is the directory that is being read.
    figures.open_fds = fs::read_dir("/proc/self/fd").ok().map(|dir| (dir.count() as u64).saturating_sub(1));
    figures
}

/// `/proc/self/stat`: the fields behind the name, which may hold anything and ends with the last `)`.
fn read_stat(figures: &mut ProcessFigures, stat: &str, system_stat: &str, ticks_per_second: u64, page_bytes: u64) {
    let Some((_, behind)) = stat.rsplit_once(") ") else { return };
    let fields: Vec<&str> = behind.split_whitespace().collect();
    // proc(5) counts fields from 1, and the first of these is the third.
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<u64>().ok());
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    figures.cpu_seconds = field(14).zip(field(15)).map(|(user, system)| seconds(user + system));
    figures.virtual_bytes = field(23);
    figures.resident_bytes = field(24).map(|pages| pages * page_bytes);
    let boot = system_stat.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|b| b.trim().parse::<u64>().ok());
    figures.start_seconds = boot.zip(field(22)).map(|(boot, ticks)| boot as f64 + seconds(ticks));
}

/// `/proc/self/limits`: the soft limits.
fn read_limits(figures: &mut ProcessFigures, limits: &str) {
    let soft = |name: &str| {
        let value = limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?;
        if value == "unlimited" { Some(u64::MAX) } else { value.parse().ok() }
    };
    figures.max_fds = soft("Max open files");
    figures.virtual_bytes_max = soft("Max address space");
}

/// `/proc/self/net/dev`: bytes over all interfaces of the network namespace, as Prometheus's process collector counts them.
fn read_network(figures: &mut ProcessFigures, dev: &str) {
    let mut received = 0u64;
    let mut sent = 0u64;
    let mut interfaces = 0;
    for line in dev.lines().skip(2) {
        let Some((_, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let (Some(r), Some(s)) = (numbers.first(), numbers.get(8)) {
            received += r;
            sent += s;
            interfaces += 1;
        }
    }
    if interfaces > 0 {
        (figures.network_received_bytes, figures.network_sent_bytes) = (Some(received), Some(sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let mut figures = ProcessFigures::default();
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 12345 104857600 2560 18446744073709551615 1 1";
        read_stat(&mut figures, stat, "cpu 1 2\nbtime 1700000000\n", 100, 4096);
        assert_eq!((figures.cpu_seconds, figures.start_seconds), (Some(2.0), Some(1_700_000_123.45)));
        assert_eq!((figures.virtual_bytes, figures.resident_bytes), (Some(104_857_600), Some(10_485_760)));
    }

    #[test]
    fn limits_and_network_are_read() {
        let mut figures = ProcessFigures::default();
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        read_limits(&mut figures, limits);
        assert_eq!((figures.max_fds, figures.virtual_bytes_max), (Some(1024), Some(u64::MAX)));
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets\n lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\neth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        read_network(&mut figures, dev);
        assert_eq!((figures.network_received_bytes, figures.network_sent_bytes), (Some(15), Some(17)));
    }

    #[test]
    fn this_process_has_figures() {
        let figures = read_process_figures();
        assert!(figures.resident_bytes.is_some_and(|b| b > 100_000));
        assert!(figures.open_fds.is_some_and(|n| n >= 3) && figures.start_seconds.is_some_and(|s| s > 1e9));
    }

    #[test]
    fn nothing_readable_is_nothing_told() {
        let mut figures = ProcessFigures::default();
        read_stat(&mut figures, "", "", 100, 4096);
        read_limits(&mut figures, "");
        read_network(&mut figures, "");
        assert_eq!(figures, ProcessFigures::default());
    }
}
