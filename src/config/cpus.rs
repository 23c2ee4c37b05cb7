//! `--cpus`: how many CPUs to lay the cores out for, or which ones to pin them to.

use std::collections::BTreeSet;

/// The CPUs that the member may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cpus {
    /// What affinity and the cgroup's quota allow; threads are not pinned.
    Auto,
    /// As many as given, whatever the machine has; threads are not pinned.
    Count(u16),
    /// These, by the kernel's numbers, ascending; each thread is pinned to one of them.
    Pinned(Vec<u16>),
}

impl Cpus {
    /// Reads `""` (auto), a plain number (a count), or a list with commas or ranges as the kernel writes them (`2-5,8`; one CPU: `3-3`).
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Cpus, String> {
        if text.is_empty() || text == "auto" {
            return Ok(Cpus::Auto);
        }
        if let Ok(count) = text.parse::<u16>() {
            return if count == 0 { Err("at least one CPU is needed".to_owned()) } else { Ok(Cpus::Count(count)) };
        }
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let read = |n: &str| n.trim().parse::<u16>().map_err(|_| format!("{part:?} is neither a CPU nor a range of them"));
            let (first, last) = (read(first)?, read(last)?);
            if first > last {
                return Err(format!("the range {part:?} runs backwards"));
            }
            set.extend(first..=last);
        }
        Ok(Cpus::Pinned(set.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lists() {
        for (text, cpus) in [
            ("", Cpus::Auto),
            ("auto", Cpus::Auto),
            ("4", Cpus::Count(4)),
            ("0,2", Cpus::Pinned(vec![0, 2])),
            ("3-3", Cpus::Pinned(vec![3])),
            ("8,2-4,3", Cpus::Pinned(vec![2, 3, 4, 8])),
        ] {
            assert_eq!(Cpus::parse(text), Ok(cpus), "{text}");
        }
        for text in ["0", "a", "1,", "4-2", "-1", "1-2-3", "70000"] {
            assert!(Cpus::parse(text).is_err(), "{text}");
        }
    }
}
