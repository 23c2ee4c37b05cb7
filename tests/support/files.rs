//! A member's files, copied and damaged.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const COPY_BYTES: usize = 1 << 20;

pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            copy_sparsely(&entry.path(), &target);
        }
    }
}

/// Segments are mostly zeros: those are left out.
fn copy_sparsely(from: &Path, to: &Path) {
    let (mut source, mut target) = (File::open(from).expect("a file"), File::create(to).expect("a file"));
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = source.read(&mut buffer).expect("a file");
        if count == 0 {
            break;
        }
        if buffer[..count].iter().all(|&b| b == 0) {
            target.seek(SeekFrom::Current(count as i64)).expect("a file");
        } else {
            target.write_all(&buffer[..count]).expect("a file");
        }
    }
    target.set_len(source.metadata().expect("a file").len()).expect("a file");
}

/// How far a file is written: the end of its last byte that is not zero.
pub fn used(path: &Path) -> u64 {
    let mut file = File::open(path).expect("a file");
    let (mut buffer, mut at, mut end) = (vec![0; COPY_BYTES], 0, 0);
    loop {
        let count = file.read(&mut buffer).expect("a file");
        if count == 0 {
            return end;
        }
        if let Some(last) = buffer[..count].iter().rposition(|&b| b != 0) {
            end = at + last as u64 + 1;
        }
        at += count as u64;
    }
}

pub fn flip(path: &Path, offset: u64, bit: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the file");
    file.write_all_at(&[byte[0] ^ 1 << bit], offset).expect("within the file");
}
