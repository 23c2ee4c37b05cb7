//! The command line and the environment.

use std::fs;

use etcring::config::{Class, FLAGS, Flag, Kind};

use crate::support::process::{Spec, TestDir};
use crate::{says, serves};

/// A value of the flag's kind that is not its default.
fn other_value(flag: &Flag) -> String {
    match flag.kind {
        Kind::Bool => (flag.default == "false").to_string(),
        Kind::Duration => "77m".into(),
        Kind::Int | Kind::Uint | Kind::Uint32 => "77".into(),
        Kind::Choice(words) => (*words.iter().find(|w| **w != flag.default).expect("another word")).into(),
        _ => "http://127.0.0.1:1".into(),
    }
}

#[test]
fn flags_that_do_not_work_yet_are_refused_by_name() {
    let dir = TestDir::new("refused");
    for flag in FLAGS.iter().filter(|f| f.class == Class::Refused) {
        let argument = format!("--{}={}", flag.name, other_value(flag));
        let (code, log) = Spec::new(dir.path()).with(&[&argument]).refused();
        assert_eq!(code, 1, "{argument}: {log}");
        says(&log, &[&format!("--{} ", flag.name)]);
    }
    for (arguments, word) in [
        (["--listen-peer-urls", "https://127.0.0.1:1"], "TLS"),
        (["--listen-peer-urls", "unix://x"], "unix"),
        (["--initial-cluster", "default=http://localhost:2380,b=http://localhost:2381"], "--initial-cluster"),
        (["--auto-compaction-mode", "never"], "auto-compaction-mode"),
        (["--auto-compaction-retention", "soon"], "CompactionRetention"),
    ] {
        let (code, log) = Spec::new(&dir.path().join("none")).with(&arguments).refused();
        assert_eq!(code, 1, "{arguments:?}: {log}");
        says(&log, &[word]);
    }
}

#[test]
fn an_unknown_flag_is_an_error_of_its_own() {
    let dir = TestDir::new("unknown");
    let (code, log) = Spec::new(dir.path()).with(&["--no-such-flag"]).refused();
    assert_eq!(code, 2, "{log}");
    says(&log, &["flag provided but not defined: -no-such-flag"]);
    assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0, "nothing was made");
}

#[test]
fn flags_without_an_effect_are_a_warning_each() {
    let dir = TestDir::new("accepted");
    let member = Spec::new(dir.path()).with(&["-max-wals", "9", "--pre-vote=false", "--name=x"]).start();
    serves(&member);
    for flag in ["--max-wals", "--pre-vote"] {
        let log = member.log();
        let warnings = log.lines().filter(|l| l.contains(r#""level":"warn""#) && l.contains(flag));
        assert_eq!(warnings.count(), 1, "{flag}:\n{log}");
    }
}

#[test]
fn variables_count_where_no_flag_is_given() {
    let dir = TestDir::new("variables");
    let variables = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let mut spec = Spec::new(dir.path());
    spec.variables = variables(&[("ETCRING_SHARDS", "5"), ("ETCD_LOG_LEVEL", "debug"), ("ETCD_NO_SUCH", "1")]);
    let member = spec.start();
    serves(&member);
    says(&member.log(), &["unrecognized environment variable ETCD_NO_SUCH=1"]);
    assert!(dir.path().join("etcring/group-005.pages").exists() && !dir.path().join("etcring/group-006.pages").exists());
    drop(member);
    for (pair, arguments, word) in [
        (("ETCD_LOG_LEVEL", "loud"), &[][..], "loud"),
        (("ETCRING_SHARDS", "3"), &["--shards", "3"], "ETCRING_SHARDS"),
        (("ETCD_CERT_FILE", "x"), &[], "--cert-file"),
    ] {
        let mut spec = Spec::new(&dir.path().join("other")).with(arguments);
        spec.variables = variables(&[pair]);
        let (code, log) = spec.refused();
        assert_eq!(code, 1, "{log}");
        says(&log, &[word]);
    }
}
