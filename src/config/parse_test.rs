use super::*;
use std::time::Duration;

fn run_with(args: &[&str], env: &[(&str, &str)]) -> Result<Parsed, ConfigError> {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    parse(&args, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn config(args: &[&str]) -> Config {
    config_with(args, &[]).0
}

fn config_with(args: &[&str], env: &[(&str, &str)]) -> (Config, Vec<String>) {
    match run_with(args, env) {
        Ok(Parsed::Run(config, warnings)) => (*config, warnings),
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn error(args: &[&str], env: &[(&str, &str)]) -> (u8, String) {
    let e = run_with(args, env).expect_err(&format!("{args:?}"));
    (e.exit_code, e.message)
}

fn texts(urls: &[Url]) -> Vec<&str> {
    urls.iter().map(Url::as_str).collect()
}

#[test]
fn the_defaults_are_etcds() {
    let (c, warnings) = config_with(&[], &[]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((c.name.as_str(), c.data_dir.to_str(), c.wal_dir.as_deref()), ("default", Some("default.etcd"), None));
    assert_eq!(texts(&c.listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&c.advertise_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&c.listen_peer_urls), ["http://localhost:2380"]);
    assert_eq!(texts(&c.initial_advertise_peer_urls), ["http://localhost:2380"]);
    assert_eq!((c.heartbeat_interval, c.election_timeout), (Duration::from_millis(100), Duration::from_secs(1)));
    assert_eq!((c.quota, c.max_request_bytes, c.max_txn_ops), (Quota::Bytes(2147483648), 1572864, 128));
    assert_eq!(c.message_bytes_max(), 2097152);
    assert_eq!((c.auto_compaction, c.snapshot_count), (AutoCompaction::Off, 300_000));
    assert_eq!((c.watch_progress_notify_interval, c.log_level), (Duration::from_secs(600), LogLevel::Info));
    assert_eq!((c.shards, c.front_cores, c.cpus.clone(), c.cache_bytes), (None, None, Cpus::Auto, None));
    assert_eq!(c.request_timeout(), Duration::from_secs(7));
    assert_eq!(c.min_lease_ttl_seconds(), 2);
    let member = c.initial_member().expect("the default member");
    assert_eq!((member.name.as_str(), member.token.as_str()), ("default", "etcd-cluster"));
    assert_eq!(member.peer_urls, ["http://localhost:2380"]);
}

#[test]
fn flags_are_written_as_gos() {
    for args in [
        &["--name", "a"][..],
        &["-name", "a"],
        &["--name=a"],
        &["-name=a"],
        &["--name=b", "--name=a"],
        &["--name=a", "--"],
        &["--pre-vote", "--name=a"],
    ] {
        assert_eq!(config(args).name, "a", "{args:?}");
    }
    assert_eq!(config(&["--name=a=b"]).name, "a=b");
    assert_eq!(config(&["--name", "--x"]).name, "--x");
    assert_eq!(config(&["--data-dir=", "--name=n"]).data_dir.to_str(), Some("n.etcd"));
    assert_eq!(config(&["-heartbeat-interval", "0x10"]).heartbeat_interval, Duration::from_millis(16));
}

#[test]
fn wrong_command_lines_get_gos_words() {
    for (args, code, message) in [
        (&["-foo"][..], 2, "flag provided but not defined: -foo"),
        (&["--discoveries=x"], 2, "flag provided but not defined: -discoveries"),
        (
            &["--experimental-txn-mode-write-with-shared-buffer"],
            2,
            "flag provided but not defined: -experimental-txn-mode-write-with-shared-buffer",
        ),
        (&["---x"], 2, "bad flag syntax: ---x"),
        (&["--=x"], 2, "bad flag syntax: --=x"),
        (&["-=x"], 2, "bad flag syntax: -=x"),
        (&["--name"], 2, "flag needs an argument: -name"),
        (&["--heartbeat-interval=x"], 2, "invalid value \"x\" for flag -heartbeat-interval: parse error"),
        (&["--heartbeat-interval="], 2, "invalid value \"\" for flag -heartbeat-interval: parse error"),
        (
            &["--heartbeat-interval=99999999999999999999"],
            2,
            "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of range",
        ),
        (&["--quota-backend-bytes=1e9"], 2, "invalid value \"1e9\" for flag -quota-backend-bytes: parse error"),
        (&["--pre-vote=maybe"], 2, "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        (&["--backend-batch-interval=5"], 2, "invalid value \"5\" for flag -backend-batch-interval: parse error"),
        (
            &["--max-concurrent-streams=-1"],
            2,
            "invalid value \"-1\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (&["--initial-cluster-state=bla"], 2, "invalid value \"bla\" for flag -initial-cluster-state: invalid value"),
        (&["--v2-deprecation=x"], 2, "invalid value \"x\" for flag -v2-deprecation: invalid value \"x\""),
        (
            &["--feature-gates=Foo=true"],
            2,
            "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
        ),
        (&["--feature-gates=Foo"], 2, "invalid value \"Foo\" for flag -feature-gates: missing bool value for Foo"),
        (
            &["--listen-client-urls=foo"],
            2,
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (&["extra"], 1, "\"extra\" is not a valid flag"),
        (&["--pre-vote", "false"], 1, "\"false\" is not a valid flag"),
        (&["--", "--name"], 1, "\"--name\" is not a valid flag"),
        (&["-"], 1, "\"-\" is not a valid flag"),
        (&[""], 1, "\"\" is not a valid flag"),
        (&["gateway"], 1, "\"gateway\" is not a valid flag"),
    ] {
        assert_eq!(error(args, &[]), (code, message.to_owned()), "{args:?}");
    }
}

#[test]
fn help_and_version_end_the_reading() {
    for args in [&["-h"][..], &["--help"], &["--name=x", "-help", "--foo"], &["-h=1"]] {
        assert_eq!(run_with(args, &[]), Ok(Parsed::Help), "{args:?}");
    }
    for args in [&["--version"][..], &["-version=1"], &["--version", "--election-timeout=1"], &["--cert-file=x", "--version"]] {
        assert_eq!(run_with(args, &[]), Ok(Parsed::Version), "{args:?}");
    }
    assert_eq!(error(&["--version", "x"], &[]).0, 1);
    assert_eq!(error(&["--foo", "--version"], &[]).0, 2);
    assert!(matches!(run_with(&["--version=false"], &[]), Ok(Parsed::Run(..))));
    assert!(matches!(run_with(&["--version=false"], &[("ETCD_VERSION", "1")]), Ok(Parsed::Run(..))));
    assert_eq!(run_with(&["--version"], &[("ETCD_NAME", "x"), ("ETCRING_SHARDS", "y")]), Ok(Parsed::Version));
}

#[test]
fn variables_set_flags() {
    let (c, warnings) = config_with(
        &["--name=a"],
        &[("ETCD_DATA_DIR", "/d"), ("ETCRING_SHARDS", "4"), ("PATH", "/bin"), ("ETCD_SNAPSHOT_COUNT", "5"), ("ETCRINGS", "1")],
    );
    assert_eq!((c.name.as_str(), c.data_dir.to_str(), c.shards, c.snapshot_count), ("a", Some("/d"), Some(4), 5));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_flag_and_its_variable_together_are_refused() {
    for env in [[("ETCD_NAME", "x")], [("ETCD_NAME", "")]] {
        let (code, message) = error(&["--name=y"], &env);
        assert_eq!(code, 1);
        assert_eq!(
            message,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)): ETCD_NAME"
        );
    }
    assert_eq!(error(&["--shards=1"], &[("ETCRING_SHARDS", "1")]).0, 1);
    // Our own flags have no ETCD_ variable.
    assert_eq!(config_with(&["--shards=1"], &[("ETCD_SHARDS", "1")]).1.len(), 1);
}

#[test]
fn unknown_variables_are_warned_of() {
    let (_, warnings) = config_with(
        &[],
        &[
            ("ETCD_FOO", "1"),
            ("ETCD_NAME", ""),
            ("ETCRING_X", ""),
            ("ETCD_VERSION", "9"),
            ("ETCD_UNSUPPORTED_ARCH", "a"),
            ("ETCD_VERIFY", "all"),
        ],
    );
    let expected = ["ETCD_FOO=1", "ETCD_NAME=", "ETCRING_X="].map(|v| format!("unrecognized environment variable {v}"));
    assert_eq!(warnings, expected);
}

#[test]
fn wrong_variables_are_refused() {
    let e = error(&[], &[("ETCD_HEARTBEAT_INTERVAL", "x")]);
    assert_eq!(e, (1, "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error".to_owned()));
    let e = error(&[], &[("ETCD_CONFIG_FILE", "/x")]);
    assert_eq!(e, (1, "--config-file is not supported by etcring yet".to_owned()));
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    for flag in FLAGS.iter().filter(|f| f.class == Class::Refused) {
        let other = match flag.kind {
            Kind::Bool => {
                if flag.default == "true" {
                    "false"
                } else {
                    "true"
                }
            }
            Kind::Duration => "77s",
            Kind::Uint => "77",
            Kind::Urls => "http://127.0.0.1:9",
            Kind::Choice(words) => words[1],
            _ => "x",
        };
        let e = error(&[&format!("--{}={other}", flag.name)], &[]);
        assert_eq!(e, (1, format!("--{} is not supported by etcring yet", flag.name)));
        // Its default asks for nothing.
        config(&[&format!("--{}={}", flag.name, flag.default)]);
    }
    for (args, what) in [
        (
            &["--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://a:2379"][..],
            "--listen-client-urls https://127.0.0.1:2379",
        ),
        (&["--listen-peer-urls=https://127.0.0.1:2380"], "--listen-peer-urls https://127.0.0.1:2380"),
        (&["--advertise-client-urls=unixs://a"], "--advertise-client-urls unixs://a"),
        (&["--listen-peer-urls=unix://localhost:1"], "--listen-peer-urls unix://localhost:1"),
    ] {
        let (code, message) = error(args, &[]);
        assert!(code == 1 && message.starts_with(what), "{message}");
    }
}

#[test]
fn accepted_flags_are_warned_of_once() {
    for flag in FLAGS.iter().filter(|f| f.class == Class::Accepted) {
        let value = match flag.kind {
            Kind::Choices(words) => words[0],
            Kind::Gates => "InitialCorruptCheck=true,AllAlpha=false",
            Kind::Former => "3",
            Kind::Urls => "http://127.0.0.1:9",
            _ => flag.default,
        };
        let arg = format!("--{}={value}", flag.name);
        let (_, warnings) = config_with(&[&arg, &arg], &[]);
        assert_eq!(warnings.len(), 1, "{arg}: {warnings:?}");
        assert!(warnings[0].contains(&format!("--{}", flag.name)), "{warnings:?}");
    }
}

#[test]
fn rules_between_values_are_etcds() {
    for (args, message) in [
        (&["--heartbeat-interval=0"][..], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (
            &["--heartbeat-interval=18446744073709551615"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        ),
        (&["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        (
            &["--listen-client-urls=http://0.0.0.0:2379"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (&["--listen-client-urls="], "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
        (
            &["--listen-client-urls=http://example.com:2379", "--advertise-client-urls=http://a:1"],
            "expected IP in URL for binding (http://example.com:2379)",
        ),
        (&["--listen-peer-urls=http://:2380"], "expected IP in URL for binding (http://:2380)"),
        (&["--listen-peer-urls=http://127.0.0.1:65536"], "--listen-peer-urls: invalid port in http://127.0.0.1:65536"),
        (
            &["--initial-advertise-peer-urls=http://:2380"],
            "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" (unexpected empty host (http://:2380))",
        ),
        (&["--auto-compaction-mode=x"], "unknown auto-compaction-mode \"x\""),
        (&["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (&["--auto-compaction-retention=x"], "error parsing CompactionRetention: time: invalid duration \"x\""),
        (&["--auto-compaction-retention=-5"], "error parsing CompactionRetention: time: missing unit in duration \"-5\""),
        (&["--auto-compaction-retention=-5m"], "--auto-compaction-retention \"-5m\" is negative"),
        (
            &["--log-level=foo"],
            "--log-level: unrecognized level: \"foo\" (it is one of debug, info, warn, error, panic or fatal)",
        ),
        (&["--shards=65"], "--shards=65 is above 64"),
        (&["--front-cores=x"], "--front-cores=x is neither auto nor a number up to 64"),
        (&["--cpus=0"], "--cpus: at least one CPU is needed"),
        (
            &["--max-request-bytes=100000000"],
            "--max-request-bytes[100000000] is above 15728640, the most that etcring can take",
        ),
    ] {
        assert_eq!(error(args, &[]), (1, message.to_owned()), "{args:?}");
    }
    assert_eq!(config(&["--heartbeat-interval=10000", "--election-timeout=50000"]).election_timeout, Duration::from_secs(50));
}

#[test]
fn an_empty_list_of_urls_leaves_the_default() {
    let c = config(&["--listen-client-urls=", "--advertise-client-urls="]);
    assert_eq!(texts(&c.listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(
        texts(&config(&["--listen-peer-urls=http://[::]:1", "--listen-peer-urls="]).listen_peer_urls),
        ["http://[::]:1"]
    );
}

#[test]
fn compaction_counts_hours_durations_or_revisions() {
    for (mode, retention, compaction) in [
        ("periodic", "0", AutoCompaction::Off),
        ("periodic", "1", AutoCompaction::Periodic(Duration::from_secs(3600))),
        ("periodic", "30m", AutoCompaction::Periodic(Duration::from_secs(1800))),
        ("periodic", "0s", AutoCompaction::Off),
        ("revision", "0", AutoCompaction::Off),
        ("revision", "1000", AutoCompaction::Revision(1000)),
        ("revision", "1us", AutoCompaction::Revision(1000)),
    ] {
        let args = [format!("--auto-compaction-mode={mode}"), format!("--auto-compaction-retention={retention}")];
        assert_eq!(config(&[&args[0], &args[1]]).auto_compaction, compaction, "{mode} {retention}");
    }
}

#[test]
fn sizes_and_intervals() {
    assert_eq!(config(&["--quota-backend-bytes=-1"]).quota, Quota::Unlimited);
    assert_eq!(config(&["--snapshot-count=0"]).snapshot_count, 300_000);
    assert_eq!(config(&["--quota-backend-bytes=16777216"]).quota, Quota::Bytes(16 << 20));
    assert_eq!(config_with(&["--quota-backend-bytes=9000000000"], &[]).1.len(), 1);
    assert_eq!(config_with(&["--max-request-bytes=11000000"], &[]).1.len(), 1);
    for (text, interval, warnings) in [("5s", 5000, 0), ("0", 600_000, 0), ("-1s", 600_000, 0), ("1ms", 100, 1)] {
        let (c, w) = config_with(&[&format!("--watch-progress-notify-interval={text}")], &[]);
        assert_eq!((c.watch_progress_notify_interval, w.len()), (Duration::from_millis(interval), warnings), "{text}");
    }
    let c = config(&["--shards=16", "--front-cores=0", "--cpus=1-2", "--cache-bytes=1048576", "--log-level=DEBUG"]);
    assert_eq!((c.shards, c.front_cores, c.cache_bytes), (Some(16), Some(0), Some(1 << 20)));
    assert_eq!((c.cpus, c.log_level), (Cpus::Pinned(vec![1, 2]), LogLevel::Debug));
}

#[test]
fn the_smallest_lease_is_one_and_a_half_election_timeouts() {
    for (heartbeat_ms, election_ms, seconds) in
        [(100, 1000, 2), (1, 5, 1), (100, 500, 1), (100, 10000, 15), (1000, 5000, 7), (1000, 5999, 7), (10, 50000, 75)]
    {
        let ttl = min_lease_ttl_seconds(Duration::from_millis(heartbeat_ms), Duration::from_millis(election_ms));
        assert_eq!(ttl, seconds, "{heartbeat_ms} {election_ms}");
    }
}

#[test]
fn an_initial_cluster_fits_the_member() {
    let start = |args: &[&str]| config(args).initial_member().map_err(|e| (e.exit_code, e.message));
    let member = start(&["--name=n1", "--initial-advertise-peer-urls=http://127.0.0.1:2390"]).unwrap();
    assert_eq!((member.name.as_str(), &member.peer_urls[..]), ("n1", &["http://127.0.0.1:2390".to_owned()][..]));
    let two =
        ["--initial-advertise-peer-urls=http://b:1,http://a:1", "--initial-cluster=default=http://b:1,default=http://a:1"];
    assert_eq!(start(&two).unwrap().peer_urls, ["http://a:1", "http://b:1"]);
    for (args, message) in [
        (
            &["--initial-cluster=a=http://localhost:2380"][..],
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (&["--name="], "couldn't find local name \"\" in the initial cluster configuration"),
        (&["--initial-cluster="], "couldn't find local name \"default\" in the initial cluster configuration"),
        (
            &["--initial-cluster=default=foo"],
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            &["--initial-cluster=default=http://localhost:2381"],
            "--initial-cluster has default=http://localhost:2381 but missing from --initial-advertise-peer-urls=http://localhost:2380",
        ),
        (
            &["--initial-advertise-peer-urls=http://localhost:2380,http://x:1"],
            "--initial-advertise-peer-urls has http://x:1 but missing from --initial-cluster=default=http://localhost:2380",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "initial cluster default=http://localhost:2380,b=http://localhost:2380 has duplicate url",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://b:2380"],
            "--initial-cluster names 2 members: etcring does not support more than one yet",
        ),
        (
            &["--initial-cluster-state=existing"],
            "--initial-cluster-state=existing is not supported by etcring yet: a member cannot join an existing cluster",
        ),
    ] {
        assert_eq!(start(args), Err((1, message.to_owned())), "{args:?}");
    }
}

#[test]
fn a_member_on_all_addresses_makes_its_own_known() {
    let host = "192.0.2.7".parse().unwrap();
    let mut c = config(&["--name=m", "--listen-peer-urls=http://0.0.0.0:99"]);
    assert!(c.use_default_host(host));
    assert_eq!(c.initial_member().unwrap().peer_urls, ["http://192.0.2.7:99"]);
    assert_eq!(texts(&c.advertise_client_urls), ["http://localhost:2379"]);
    let mut c = config(&["--listen-client-urls=http://0.0.0.0:1", "--advertise-client-urls=http://localhost:2379"]);
    assert!(c.use_default_host(host));
    assert_eq!(texts(&c.advertise_client_urls), ["http://192.0.2.7:1"]);
    for args in [&[][..], &["--listen-peer-urls=http://0.0.0.0:99", "--initial-advertise-peer-urls=http://a:1", "--name=m"]] {
        assert!(!config(args).use_default_host(host));
    }
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for flag in FLAGS {
        let empty = flag.default.is_empty();
        assert!(empty || settings::default_value(flag).is_some(), "{}", flag.name);
    }
}

#[test]
fn bytes_may_have_a_unit() {
    let sized = |text: &str| config(&[&format!("--cache-bytes={text}"), &format!("--quota-backend-bytes={text}")]);
    for (text, bytes) in
        [("1073741824", 1 << 30), ("256MiB", 256 << 20), ("20GiB", 20 << 30), ("0x10KiB", 16 << 10), ("3TiB", 3 << 40)]
    {
        let config = sized(text);
        assert_eq!((config.cache_bytes, config.quota), (Some(bytes), Quota::Bytes(bytes)), "{text}");
    }
    assert_eq!(config(&["--quota-backend-bytes=-1GiB"]).quota, Quota::Unlimited);
    for (text, why) in
        [("1MB", "parse error"), ("GiB", "parse error"), ("1.5GiB", "parse error"), ("99999999TiB", "value out of range")]
    {
        for flag in ["cache-bytes", "quota-backend-bytes"] {
            assert_eq!(
                error(&[&format!("--{flag}={text}")], &[]),
                (2, format!("invalid value \"{text}\" for flag -{flag}: {why}"))
            );
        }
    }
}
