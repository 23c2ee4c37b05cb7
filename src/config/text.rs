//! What `--help` and `--version` print, and the versions themselves.

use super::table::{Class, FLAGS, Flag};
use std::fmt::Write;

/// The etcd whose API, flags and metrics these are. Clients choose features by it.
pub const ETCD_VERSION: &str = "3.7.1";
/// The cluster version that goes with it.
pub const CLUSTER_VERSION: &str = "3.7.0";
/// The storage version that goes with it, as Status and /version tell it.
pub const STORAGE_VERSION: &str = "3.7.0";
/// The version of etcring itself.
pub const ETCRING_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, where the build said it (`ETCRING_GIT_SHA`): 7 hex digits.
const GIT_SHA: &str = match option_env!("ETCRING_GIT_SHA") {
    Some(sha) => sha,
    None => "0000000",
};

/// The machine's architecture in Go's words.
const GO_ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "unknown"
};

/// What goes to stderr with an error of the command line.
pub const USAGE: &str = "Usage:

  etcring [flags]
    Start a member.

  etcring inspect wal PATH [--values] [--json]
    Show what is in a segment of the write-ahead log.

  etcring inspect pages PATH [--cells] [--page N] [--values] [--json]
    Show what is in a page file: its pages, and on request what is in them.

  etcring inspect format PATH [--json]
    Show what the file FORMAT says: version, and the last run that served.

  etcring check DIR [--wal-dir DIR] [--json]
    Verify all files of a stopped member. Exit code 0: clean; 1: something is
    wrong; 2: nothing was checked.

  etcring bench put|range|txn|watch|lease|mixed|compact|defragment|idle [flags]
    Put load on any server with etcd's API and measure it.

  etcring sim --seed N [--trace]
    Replay a seed of the simulation that the tests run.

  etcring --version
    Show the version.

  etcring -h | --help
    Show the flags.
";

/// The answer to --version: etcd's four lines for those who parse them, and etcring's own.
pub fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {GIT_SHA}\nGo Version: none (built with Rust)\nGo OS/Arch: linux/{GO_ARCH}\n\
         etcring Version: {ETCRING_VERSION}\n"
    )
}

/// The answer to --help.
pub fn help() -> String {
    let mut out = String::from("\nFlags (each also as ETCD_NAME_OF_FLAG in the environment, not both):\n");
    list(&mut out, Class::Used);
    out.push_str("\nFlags of etcring's own (each also as ETCRING_NAME_OF_FLAG):\n");
    list(&mut out, Class::Own);
    out.push_str("\nFlags of etcd that are accepted and have no effect here:\n");
    names(&mut out, Class::Accepted);
    out.push_str("\nFlags of etcd that are refused, because etcring does not do yet what they ask for:\n");
    names(&mut out, Class::Refused);
    out
}

fn list(out: &mut String, class: Class) {
    for flag in FLAGS.iter().filter(|f| f.class == class) {
        let default = if flag.default == "false" { String::new() } else { format!(" '{}'", flag.default) };
        writeln!(out, "  --{}{default}\n    {}", flag.name, flag.help).expect("a String takes everything");
    }
}

/// The names, as many to a line as fit.
fn names(out: &mut String, class: Class) {
    const WIDTH: usize = 100;
    let mut line = String::new();
    for Flag { name, .. } in FLAGS.iter().filter(|f| f.class == class) {
        if line.len() + name.len() > WIDTH {
            writeln!(out, " {line}").expect("a String takes everything");
            line.clear();
        }
        write!(line, " --{name}").expect("a String takes everything");
    }
    writeln!(out, " {line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_begins_as_etcds() {
        let text = version();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "etcd Version: 3.7.1");
        let sha = lines[1].strip_prefix("Git SHA: ").expect("the second line");
        assert!(sha.len() == 7 && sha.bytes().all(|b| b.is_ascii_hexdigit()), "{sha}");
        assert!(lines[2].starts_with("Go Version: ") && lines[3].starts_with("Go OS/Arch: linux/"));
        assert_eq!(lines[4], format!("etcring Version: {ETCRING_VERSION}"));
    }

    #[test]
    fn help_names_every_flag() {
        let text = help();
        for flag in FLAGS {
            assert!(text.contains(&format!(" --{}", flag.name)), "{}", flag.name);
        }
        assert!(text.lines().all(|l| l.len() <= 110));
    }
}
