//! What is asked for, and how the answer is printed.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::USAGE;
use crate::inspect::check::{self, Finding, Listener, Place};
use crate::inspect::segment::Seen;
use crate::inspect::{Item, pages, segment};
use crate::pages::PageId;
use crate::server::datadir::{self, FORMAT_VERSION, Stage};
use crate::wal::SegmentName;

use super::files::{MemberFiles, map};

/// How much of an unknown FORMAT file is shown.
const FORMAT_SHOWN_MAX: usize = 80;
const EXIT_CLEAN: u8 = 0;
const EXIT_WRONG: u8 = 1;
const EXIT_NOT_DONE: u8 = 2;

/// Runs a tool, if the arguments begin with the name of one.
pub fn run(arguments: &[String]) -> Option<ExitCode> {
    let (tool, rest) = arguments.split_first()?;
    let result = match tool.as_str() {
        "inspect" => inspect(rest),
        "check" => check(rest),
        _ => return None,
    };
    Some(ExitCode::from(match result {
        Ok(code) => code,
        Err(Refused(message)) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "etcring {tool}: {message}");
            EXIT_NOT_DONE
        }
    }))
}

/// Why nothing was looked at.
struct Refused(String);

fn usage(what: &str) -> Refused {
    Refused(format!("{what}\n\n{USAGE}"))
}

/// A line of stdout did not get through: the reader has seen enough (`| head`), or its disk is full.
fn unwritten(error: &io::Error) -> Refused {
    Refused(format!("writing the output: {error}"))
}

#[derive(Default)]
struct Options {
    words: Vec<String>,
    json: bool,
    values: bool,
    cells: bool,
    page: Option<u32>,
    wal_dir: Option<PathBuf>,
}

impl Options {
    /// `--name value`, `--name=value`, with one dash as well.
    fn parse(arguments: &[String], allowed: &[&str]) -> Result<Options, Refused> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                options.words.push(argument.clone());
                continue;
            };
            let (name, inline) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            if !allowed.contains(&name) {
                return Err(usage(&format!("unknown flag {argument}")));
            }
            let mut value =
                || inline.clone().or_else(|| rest.next().cloned()).ok_or_else(|| usage(&format!("--{name} needs a value")));
            match name {
                "page" => {
                    let page = value()?;
                    options.page = Some(page.parse().map_err(|_| usage(&format!("--page is a number, not {page:?}")))?);
                }
                "wal-dir" => options.wal_dir = Some(value()?.into()),
                _ if inline.is_some() => return Err(usage(&format!("--{name} takes no value"))),
                "json" => options.json = true,
                "values" => options.values = true,
                _ => options.cells = true,
            }
        }
        Ok(options)
    }
}

/// Lines of text, or of JSON.
struct Output<W: Write> {
    out: W,
    json: bool,
}

impl<W: Write> Output<W> {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.out, item)?;
            return self.out.write_all(b"\n");
        }
        writeln!(self.out, "{item}")
    }
}

fn inspect(arguments: &[String]) -> Result<u8, Refused> {
    let options = Options::parse(arguments, &["json", "values", "cells", "page"])?;
    let [kind, path] = &options.words[..] else {
        return Err(usage("it takes a kind of file and a path"));
    };
    let path = Path::new(path);
    if !["wal", "pages", "format"].contains(&kind.as_str()) {
        return Err(usage(&format!("{kind:?} is no kind of file: wal, pages or format")));
    }
    if path.is_dir() {
        return Err(Refused(format!(
            "{} is a directory: name one of its files; `etcring check` takes a whole one",
            path.display()
        )));
    }
    let file = map(path).map_err(Refused)?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let mut output = Output { out: BufWriter::new(io::stdout().lock()), json: options.json };
    if kind == "format" {
        let Seen { item, is_damage } = format(&file);
        return print(&mut output, item, std::iter::empty())
            .map(|code| if is_damage { EXIT_WRONG } else { code })
            .map_err(|e| unwritten(&e));
    }
    if kind == "wal" {
        let name = SegmentName::parse(&name);
        let head = segment_head(name, file.len());
        return print(&mut output, head, segment::items(name, &file, options.values)).map_err(|e| unwritten(&e));
    }
    let page = options.page.map(PageId);
    if let Some(page) = page.filter(|page| page.offset() >= file.len() as u64) {
        return Err(Refused(format!("{} has no page {}: it is {} bytes long", path.display(), page.0, file.len())));
    }
    let show = pages::Show { page, cells: options.cells, values: options.values };
    let head = Item::new("file").number("bytes", file.len());
    print(&mut output, head, pages::items(&file, show)).map_err(|e| unwritten(&e))
}

/// What a FORMAT file says.
fn format(bytes: &[u8]) -> Seen {
    let item = Item::new("format").number("bytes", bytes.len());
    let known = |item: Item| item.number("version", FORMAT_VERSION);
    match std::str::from_utf8(bytes).ok().and_then(datadir::parse_format) {
        Some(Stage::New) => Seen { item: known(item).word("stage", "new"), is_damage: false },
        Some(Stage::Started(run)) => {
            Seen { item: known(item).word("stage", "started").number("last_run", run.0), is_damage: false }
        }
        None => {
            let says = "no FORMAT file of this version of etcring: no member starts here";
            Seen { item: item.bytes("text", &bytes[..bytes.len().min(FORMAT_SHOWN_MAX)]).saying(says), is_damage: true }
        }
    }
}

fn segment_head(name: Option<SegmentName>, bytes: usize) -> Item {
    let item = Item::new("segment");
    let item = match name {
        Some(name) => item.number("run", name.wal.run.0).number("core", name.wal.core.0).number("sequence", name.sequence.0),
        None => item.saying("the file has no segment's name: its first batch says which it is"),
    };
    item.number("bytes", bytes)
}

/// Prints everything; tells whether anything was damage.
fn print<W: Write>(output: &mut Output<W>, head: Item, seen: impl Iterator<Item = Seen>) -> io::Result<u8> {
    let mut code = EXIT_CLEAN;
    output.item(&head)?;
    for Seen { item, is_damage } in seen {
        output.item(&item)?;
        if is_damage {
            code = EXIT_WRONG;
        }
    }
    output.out.flush()?;
    Ok(code)
}

fn check(arguments: &[String]) -> Result<u8, Refused> {
    let options = Options::parse(arguments, &["json", "wal-dir"])?;
    let [dir] = &options.words[..] else {
        return Err(usage("it takes one data directory"));
    };
    let files = MemberFiles::open(Path::new(dir), options.wal_dir.as_deref()).map_err(Refused)?;
    let mut printer = Printer {
        files: &files,
        output: Output { out: BufWriter::new(io::stdout().lock()), json: options.json },
        failed: None,
    };
    printer.begin(dir);
    let report = check::check(&files, &mut printer);
    let summary = summary(&report, files.is_new());
    printer.end(&report, &summary);
    match printer.failed {
        Some(error) => Err(unwritten(&error)),
        None if report.findings == 0 => Ok(EXIT_CLEAN),
        None => Ok(EXIT_WRONG),
    }
}

/// What it comes to, and what to do.
fn summary(report: &check::Report, is_new: bool) -> String {
    match (report.findings, is_new) {
        (0, true) => return "clean: nothing was ever acknowledged from here, a first start did not finish".to_owned(),
        (0, false) => return "clean: a member can start on these files".to_owned(),
        _ => {}
    }
    let count = if report.findings == 1 { "1 finding".to_owned() } else { format!("{} findings", report.findings) };
    let left_out = match &report.left_out[..] {
        [] => String::new(),
        left_out => format!("; not checked because of it: {}", left_out.join(", ")),
    };
    format!(
        "DAMAGED: {count}{left_out}. Nothing was changed. Copy the whole directory away before anything else; \
         then restore it from a backup, or find the cause (a failing disk, a file that was copied, cut or replaced)"
    )
}

struct Printer<'a, W: Write> {
    files: &'a MemberFiles,
    output: Output<W>,
    /// Why the output could not be written; the rest is then not.
    failed: Option<io::Error>,
}

impl<W: Write> Printer<'_, W> {
    fn line(&mut self, item: &Item, text: &str) {
        if self.failed.is_some() {
            return;
        }
        let written = if self.output.json {
            self.output.item(item)
        } else {
            // Each line at once: a check of a large directory takes a while.
            writeln!(self.output.out, "{text}").and_then(|()| self.output.out.flush())
        };
        self.failed = written.err();
    }

    fn begin(&mut self, dir: &str) {
        let others = self.files.others();
        self.line(&Item::new("check").word("directory", dir).number("other_files", others.len()), &format!("checking {dir}"));
        for path in others {
            let path = path.display().to_string();
            self.line(&Item::new("other").word("file", &path), &format!("  {path}: not looked at, no name of a member's file"));
        }
    }

    fn end(&mut self, report: &check::Report, summary: &str) {
        let item = Item::new("summary").flag("clean", report.findings == 0).number("findings", report.findings).saying(summary);
        self.line(&item, summary);
        if let (Err(error), None) = (self.output.out.flush(), &self.failed) {
            self.failed = Some(error);
        }
    }

    fn name(&self, place: Place) -> String {
        self.files.path(place).display().to_string()
    }
}

impl<W: Write> Listener for Printer<'_, W> {
    fn facts(&mut self, place: Place, facts: &str) {
        let name = self.name(place);
        let item = Item::new("facts").word("file", &name).saying(facts);
        self.line(&item, &format!("  {name}: {facts}"));
    }

    fn finding(&mut self, finding: &Finding) {
        let name = self.name(finding.place);
        let item = Item::new("finding").word("file", &name);
        let (item, text) = match finding.offset {
            Some(offset) => (item.number("offset", offset), format!("WRONG {name} at offset {offset}: {}", finding.what)),
            None => (item, format!("WRONG {name}: {}", finding.what)),
        };
        self.line(&item.saying(&finding.what), &text);
    }
}
