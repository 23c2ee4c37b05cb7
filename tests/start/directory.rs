//! What lies in the data directory decides: another's data is left alone, and its own counts are kept.

use std::fs;

use crate::support::grpc::{Client, block_on};
use crate::support::process::{Spec, TestDir};
use crate::{says, serves};

#[test]
fn a_directory_in_use_is_refused() {
    let dir = TestDir::new("locked");
    let member = Spec::new(dir.path()).start();
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["in use by another process", &dir.path().display().to_string()]);
    serves(&member);
}

#[test]
fn an_etcds_directory_is_refused_untouched() {
    for below in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
        let dir = TestDir::new("etcd");
        let file = dir.path().join(below);
        fs::create_dir_all(file.parent().expect("below")).expect("a directory");
        fs::write(&file, "an etcd's").expect("a file");
        let (code, log) = Spec::new(dir.path()).refused();
        assert_eq!(code, 1, "{log}");
        says(&log, &["holds the data of an etcd"]);
        assert_eq!(fs::read_to_string(&file).expect("still there"), "an etcd's");
        assert_eq!(fs::read_dir(dir.path()).expect("still there").count(), 1, "nothing was added");
    }
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = TestDir::new("format");
    Spec::new(dir.path()).start().stop();
    fs::write(dir.path().join("etcring/FORMAT"), "etcring 99\nstarted\n").expect("written");
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["unknown format", "etcring 99"]);
    fs::remove_file(dir.path().join("etcring/FORMAT")).expect("removed");
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["no FORMAT file"]);
}

#[test]
fn other_shards_than_the_directorys_are_a_warning() {
    let dir = TestDir::new("shards");
    let mut member = Spec::new(dir.path()).with(&["--shards", "4"]).start();
    serves(&member);
    member.stop();
    let member = Spec::new(dir.path()).with(&["--shards", "7"]).start();
    says(&member.log(), &["--shards differs from the data directory's"]);
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        assert_eq!(client.get("a").await.as_deref(), Some(&b"value"[..]));
    });
}
