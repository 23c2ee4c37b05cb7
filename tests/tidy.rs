//! Holds the source to its layers (ARCHITECTURE.md, "Layers") and to the house rules that a machine can check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module at the top of `src/`, with its rank. A module imports only modules of a lower rank, or itself.
const RANKS: [(&str, u8); 30] = [
    ("base", 0),
    ("io", 1),
    ("config", 1),
    ("metrics", 1),
    ("proto", 1),
    ("reign", 1),
    ("raft", 1),
    ("wal", 1),
    ("snapshot", 1),
    ("pages", 1),
    ("mvcc", 2),
    ("state", 3),
    ("group", 4),
    ("shard", 5),
    ("coordinator", 5),
    ("inspect", 5),
    ("peer", 5),
    ("front", 6),
    ("rpc", 7),
    ("gateway", 7),
    ("pump", 7),
    ("runtime", 8),
    ("server", 9),
    ("sim", 9),
    ("tools", 9),
    ("bench", 9),
    ("restore", 9),
    ("import", 9),
    ("main", 10),
    ("lib", 10),
];

/// Modules of one rank that are one part of the program: a core's event loop and its coordinator.
const PARTNERS: [(&str, &str); 4] = [("shard", "coordinator"), ("rpc", "gateway"), ("rpc", "pump"), ("gateway", "pump")];

/// Below this rank: no async, no clock, no file, no socket, no system randomness.
const SANS_IO_BELOW: u8 = 7;

/// What sans-IO code may not say. `io` declares the async traits and is left out of the word `async`.
const NOT_BELOW_PUMP: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "SystemTime",
    "std::time::Instant",
    "tokio::",
    "getrandom",
    "std::process",
];

/// Glue files stay short: they are where thread-per-core servers rot first.
const GLUE_LINES_MAX: usize = 500;
const GLUE: [&str; 4] = ["group", "shard", "coordinator", "rpc"];

/// No file holds more than this, tests apart.
const FILE_LINES_MAX: usize = 1000;

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).expect("src is readable") {
            let path = item.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let first = path.strip_prefix(&root).expect("below src").components().next().expect("a file has a name");
                let module = Path::new(first.as_os_str()).file_stem().expect("a name").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                files.push(Source { path, module, text });
            }
        }
    }
    assert!(files.len() > 10, "the walk found the sources");
    files
}

/// The code without comments, strings' contents kept; `#[cfg(test)]` tails cut off when `tests` is false.
fn code(text: &str, tests: bool) -> String {
    let text = match text.find("#[cfg(test)]\nmod ") {
        Some(at) if !tests => &text[..at],
        _ => text,
    };
    text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    stem.ends_with("_test")
        || stem.ends_with("_tests")
        || stem == "tests"
        || path.components().any(|c| c.as_os_str() == "tests")
}

/// The modules of this crate that a text names with `crate::`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let end = list.find("};").unwrap_or(list.len());
            let mut depth = 0;
            let mut word = String::new();
            let mut head = true;
            for c in list[..end].chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => head = true,
                    c if depth == 0 && head && (c.is_alphanumeric() || c == '_') => word.push(c),
                    c if depth == 0 && head && !word.is_empty() && !c.is_whitespace() => {
                        found.push(std::mem::take(&mut word));
                        head = false;
                    }
                    _ => {}
                }
                if c == ',' && depth == 0 && !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
            }
            if !word.is_empty() {
                found.push(word);
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn a_module_imports_only_lower_ranks() {
    let ranks: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let rank = *ranks.get(source.module.as_str()).unwrap_or_else(|| panic!("{} has no rank", source.path.display()));
        if rank >= 9 || is_test_file(&source.path) {
            continue;
        }
        for import in imports(&code(&source.text, false)) {
            let Some(&other) = ranks.get(import.as_str()) else { continue };
            let partners =
                PARTNERS.iter().any(|&(a, b)| (a, b) == (&source.module, &import) || (b, a) == (&source.module, &import));
            if import != source.module && other >= rank && !partners {
                wrong.push(format!("{}: {} (rank {rank}) names {import} (rank {other})", source.path.display(), source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the ranks:\n{}", wrong.join("\n"));
}

#[test]
fn logic_has_no_io_and_only_runtime_names_glommio() {
    let ranks: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let text = code(&source.text, false);
        if source.module != "runtime" && text.contains("glommio") {
            wrong.push(format!("{}: names glommio", source.path.display()));
        }
        if ranks[source.module.as_str()] >= SANS_IO_BELOW || is_test_file(&source.path) {
            continue;
        }
        for word in NOT_BELOW_PUMP {
            if source.module != "io" && text.contains(word) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
        if source.module != "io" && text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "async" || w == "await")
        {
            wrong.push(format!("{}: async", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "not below the pump:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = code(&source.text, false).lines().count();
        let limit = if GLUE.contains(&source.module.as_str()) { GLUE_LINES_MAX } else { FILE_LINES_MAX };
        if lines > limit && !is_test_file(&source.path) {
            wrong.push(format!("{}: {lines} lines, limit {limit}", source.path.display()));
        }
        for word in ["todo!(", "unimplemented!(", "#[ignore", "dbg!("] {
            if source.text.contains(word) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_holds_the_marks_of_a_merge() {
    let mut files: Vec<PathBuf> = sources().into_iter().map(|source| source.path).collect();
    for folder in ["", "docs", "tests"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(folder).expect("a folder of the project").map(|entry| entry.expect("an entry").path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "md" || e == "rs" || e == "toml")));
    }
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a text");
        let marks = ["<<<<<<< ", ">>>>>>> "];
        wrong.extend(
            text.lines()
                .filter(|line| marks.iter().any(|mark| line.starts_with(mark)))
                .map(|l| format!("{}: {l}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// So that `cargo bench -- --quick` works as a whole: cargo's own harness knows none of criterion's flags.
#[test]
fn benches_have_no_harness_of_cargos() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let mut benches = 0;
    for item in fs::read_dir(root.join("benches")).expect("benches is readable") {
        let path = item.expect("benches is readable").path();
        if path.extension().is_some_and(|e| e == "rs") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let table = format!("[[bench]]\nname = \"{name}\"\nharness = false\n");
            assert!(manifest.contains(&table), "{}: {table:?} is not in Cargo.toml", path.display());
            benches += 1;
        }
    }
    assert!(benches > 3, "the walk found the benches");
}

#[test]
fn the_import_reader_reads_imports() {
    assert_eq!(imports("use crate::base::Term;"), ["base"]);
    assert_eq!(imports("use crate::{base::{Term, Index}, raft, wal::X};"), ["base", "raft", "wal"]);
    assert!(code("a // crate::front\nb", false).find("front").is_none());
}
