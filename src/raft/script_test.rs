//! Data-driven tests, in the spirit of etcd-io/raft's: a script is a sequence of commands, each with the output that it must give.
//!
//! ```text
//! # A comment.
//! command argument key=value ...
//! ----
//! the expected output, up to an empty line
//! ```
//!
//! A script that gives something else fails with the whole script as it would be right, to be read and then put in its place.

use std::fmt::Write;

/// One line of a script: a command and its arguments.
pub(super) struct Command<'a> {
    pub(super) name: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Command<'a> {
        let mut words = line.split_whitespace();
        Command { name: words.next().expect("a command has a name"), arguments: words.collect() }
    }

    /// The arguments without a key.
    pub(super) fn plain(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.iter().copied().filter(|a| !a.contains('='))
    }

    /// The only member that the command names.
    pub(super) fn member(&self) -> u64 {
        self.plain().next().and_then(|m| m.parse().ok()).unwrap_or_else(|| panic!("{} names a member", self.name))
    }

    /// The value of `key`, if it is given.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.arguments.iter().find_map(|a| a.split_once('=').filter(|(k, _)| *k == key).map(|(_, value)| value))
    }

    /// The number that `key` is given.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key}={value} is no number")))
    }

    /// The numbers that `key` is given, with commas between.
    pub(super) fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        let all = self.text(key)?.split(',').filter(|n| !n.is_empty());
        Some(all.map(|n| n.parse().unwrap_or_else(|_| panic!("{n} in {key} is no number"))).collect())
    }
}

/// Runs a script: `answer` gives each command's output, a line per fact.
pub(super) fn run(name: &str, script: &str, mut answer: impl FnMut(&Command<'_>) -> Vec<String>) {
    let mut right = String::new();
    let mut commands = 0;
    for block in script.trim_end().split("\n\n") {
        let lines = block.lines().take_while(|line| *line != "----");
        let (comments, command): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('#'));
        comments.iter().for_each(|comment| writeln!(right, "{comment}").expect("strings take everything"));
        if let [command] = command[..] {
            commands += 1;
            let output = answer(&Command::parse(command));
            writeln!(right, "{command}\n----").expect("strings take everything");
            output.iter().for_each(|line| writeln!(right, "{line}").expect("strings take everything"));
        } else {
            assert!(command.is_empty(), "{name}: a block has one command: {command:?}");
        }
        right.push('\n');
    }
    assert!(commands > 0, "{name} has no commands");
    let right = right.trim_end();
    if script.trim_end() != right {
        let differs = script.lines().zip(right.lines()).position(|(is, be)| is != be).map_or(0, |line| line + 1);
        panic!("{name} differs at line {differs}. It would be right so:\n\n{right}\n");
    }
}

/// A test for each script of the folder `scripts` beside the file that says this. Every script begins with the command `$first`, which
/// makes the `$state` that answers all others.
macro_rules! scripts {
    ($first:literal => $state:ty; $($name:ident)*) => {$(
        #[test]
        fn $name() {
            let script = include_str!(concat!("scripts/", stringify!($name), ".txt"));
            let mut state: Option<$state> = None;
            $crate::raft::script_test::run(stringify!($name), script, |command| {
                if command.name == $first {
                    state = Some(<$state>::of(command));
                    return vec![];
                }
                state.as_mut().expect(concat!("a script begins with ", $first)).answer(command)
            });
        }
    )*};
}
pub(super) use scripts;
