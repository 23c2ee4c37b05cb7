//! Medians of many runs, side by side: `etcring bench table`.
//!
//! Which figures, under which names, is written in a file (benches/compare.table), so that a new figure is a line there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::options::TableOptions;
use super::ratios;

/// A table: its rows are figures, its columns servers; ratios are to the first column.
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// A figure of a load.
pub struct Row {
    is_in_readme: bool,
    load: String,
    /// Where in the run's JSON it is (RFC 6901).
    pointer: String,
    pub label: String,
    unit: Unit,
    pub is_more_better: bool,
    pub aim: Option<Aim>,
}

/// What is to be reached: at least, where more is better, else at most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Aim {
    /// So many times the first column's.
    Ratio(f64),
    /// So much, in the row's unit.
    Value(f64),
}

/// What a figure is told in, and by what the JSON's seconds and bytes are multiplied for it.
struct Unit {
    name: String,
    scale: f64,
}

/// The runs' JSON by load and column.
type Results = BTreeMap<(String, String), Vec<Value>>;

/// Makes the table and writes it where it is wanted.
///
/// # Errors
/// A file that cannot be read, understood or written.
pub fn command(options: &TableOptions) -> Result<(), String> {
    let mut tables = parse(&read(&options.figures)?).map_err(|error| format!("{}: {error}", options.figures.display()))?;
    let results = collect(&options.results)?;
    tables.iter_mut().for_each(|table| table.leave_out_what_was_not_run(&results));
    tables.retain(|table| !table.rows.is_empty());
    let names: BTreeMap<String, String> = options.name.iter().cloned().collect();
    let document = document(&tables, &results, &names, &read(&options.about)?, options);
    print!("{document}");
    if let Some(path) = &options.markdown {
        write(path, &document)?;
    }
    if let Some(path) = &options.svg {
        let bars = tables.iter().flat_map(|table| table.bars(&results, &names)).collect::<Vec<_>>();
        write(path, &ratios::svg(&bars))?;
    }
    if let Some(path) = &options.readme {
        let block = readme_block(&tables, &results, &names, options);
        let text = replace_block(&read(path)?, &block).map_err(|error| format!("{}: {error}", path.display()))?;
        write(path, &text)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads the file that says which figures there are.
fn parse(text: &str) -> Result<Vec<Table>, String> {
    let mut tables: Vec<Table> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let error = |what: &str| format!("line {}: {what}: {line}", number + 1);
        match (line.strip_prefix('='), tables.last_mut()) {
            (Some(head), _) => {
                let (title, columns) = head.split_once('|').ok_or_else(|| error("a title, | and columns are wanted"))?;
                let columns = columns.split(',').map(|column| column.trim().to_owned()).collect();
                tables.push(Table { title: title.trim().to_owned(), columns, rows: Vec::new() });
            }
            (None, Some(table)) => table.rows.push(Row::parse(line).map_err(|what| error(&what))?),
            (None, None) => return Err(error("a row before the first title")),
        }
    }
    Ok(tables)
}

impl Row {
    fn parse(line: &str) -> Result<Row, String> {
        let (is_in_readme, line) = match line.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [load, pointer, label, unit, better, aim] = fields[..] else {
            return Err("load, place, label, unit, more or less, and aim are wanted".to_owned());
        };
        let is_more_better = match better {
            "more" => true,
            "less" => false,
            _ => return Err(format!("more or less is wanted in place of {better:?}")),
        };
        let number = |text: &str| text.parse().map_err(|_| format!("a number is wanted in place of {text:?}"));
        let aim = match (aim, aim.strip_suffix('x')) {
            ("", _) => None,
            (_, Some(ratio)) => Some(Aim::Ratio(number(ratio)?)),
            (value, None) => Some(Aim::Value(number(value)?)),
        };
        Ok(Row {
            is_in_readme,
            load: load.to_owned(),
            pointer: pointer.to_owned(),
            label: label.to_owned(),
            unit: Unit::parse(unit)?,
            is_more_better,
            aim,
        })
    }

    /// The figure in every round of a column, in the row's unit.
    fn values(&self, results: &Results, column: &str) -> Vec<f64> {
        let runs = results.get(&(self.load.clone(), column.to_owned())).into_iter().flatten();
        runs.filter_map(|run| run.pointer(&self.pointer)?.as_f64()).map(|value| value * self.unit.scale).collect()
    }

    fn aim(&self, ratio: Option<f64>, value: f64) -> String {
        let (aim, found, sign) = match self.aim {
            None => return String::new(),
            Some(Aim::Ratio(aim)) => (aim, ratio, " ×"),
            Some(Aim::Value(aim)) => (aim, Some(value), ""),
        };
        let Some(found) = found else { return String::new() };
        let is_met = if self.is_more_better { found >= aim } else { found <= aim };
        format!(
            "{} {}{sign}: {}",
            if self.is_more_better { "≥" } else { "≤" },
            digits(aim),
            if is_met { "met" } else { "missed" }
        )
    }
}

impl Unit {
    fn parse(name: &str) -> Result<Unit, String> {
        let scale = match name {
            "/s" | "s" | "cores" | "" => 1.0,
            "%" | "% of a core" => 1e2,
            "ms" => 1e3,
            "µs" => 1e6,
            "MB" => 1e-6,
            _ => return Err(format!("no unit is called {name:?}")),
        };
        Ok(Unit { name: name.to_owned(), scale })
    }
}

impl Table {
    fn leave_out_what_was_not_run(&mut self, results: &Results) {
        let columns = &self.columns;
        self.rows.retain(|row| columns.iter().any(|column| !row.values(results, column).is_empty()));
    }

    /// Its lines; the first is the head.
    fn lines(&self, results: &Results, names: &BTreeMap<String, String>, is_readme: bool) -> Vec<Vec<String>> {
        let mut head = vec!["what".to_owned(), "unit".to_owned()];
        for (i, column) in self.columns.iter().enumerate() {
            head.push(names.get(column).unwrap_or(column).clone());
            head.extend((i > 0).then(|| "ratio".to_owned()));
        }
        if !is_readme {
            head.push("aim".to_owned());
        }
        let mut lines = vec![head];
        for row in self.rows.iter().filter(|row| row.is_in_readme || !is_readme) {
            let mut line = vec![row.label.clone(), row.unit.name.clone()];
            let base = median(&row.values(results, &self.columns[0]));
            let mut aims = Vec::new();
            for (i, column) in self.columns.iter().enumerate() {
                let values = row.values(results, column);
                line.push(cell(&values, !is_readme));
                let ratio =
                    median(&values).zip(base).filter(|(_, base)| i > 0 && *base > 0.0).map(|(value, base)| value / base);
                if i > 0 {
                    line.push(ratio.map_or("–".to_owned(), |ratio| format!("{} ×", digits(ratio))));
                }
                // What is not set against anything has its aims all the same.
                if i > 0 || self.columns.len() == 1 {
                    aims.extend(median(&values).map(|value| row.aim(ratio, value)));
                }
            }
            if !is_readme {
                aims.dedup();
                line.push(aims.join("; "));
            }
            lines.push(line);
        }
        lines
    }

    /// The ratios, for the picture.
    fn bars(&self, results: &Results, names: &BTreeMap<String, String>) -> Vec<ratios::Bar> {
        let name = |column: &String| names.get(column).unwrap_or(column).clone();
        let mut bars = Vec::new();
        for row in &self.rows {
            let Some(base) = median(&row.values(results, &self.columns[0])).filter(|base| *base > 0.0) else { continue };
            for column in &self.columns[1..] {
                let Some(value) = median(&row.values(results, column)).filter(|value| *value > 0.0) else { continue };
                let aim = match row.aim {
                    Some(Aim::Ratio(aim)) => Some(aim),
                    _ => None,
                };
                let group = format!("{} ÷ {}", name(column), name(&self.columns[0]));
                let (label, is_more_better) = (row.label.clone(), row.is_more_better);
                bars.push(ratios::Bar { group, label, ratio: value / base, is_more_better, aim });
            }
        }
        // What is divided by the same stands together, in the rows' order.
        bars.sort_by_key(|bar| self.columns.iter().position(|column| bar.group.starts_with(&name(column))));
        bars
    }
}

/// The runs in a directory.
fn collect(directory: &Path) -> Result<Results, String> {
    let error = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut paths = Vec::new();
    for item in fs::read_dir(directory).map_err(error)? {
        paths.push(item.map_err(error)?.path());
    }
    paths.sort();
    let mut results = Results::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let [load, column, _round, "json"] = name.split('.').collect::<Vec<_>>()[..] else { continue };
        let run = serde_json::from_str(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        results.entry((load.to_owned(), column.to_owned())).or_default().push(run);
    }
    Ok(results)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// The median, and how far the rounds were apart.
fn cell(values: &[f64], with_spread: bool) -> String {
    let Some(median) = median(values) else { return "–".to_owned() };
    let (low, high) = values.iter().fold((median, median), |(low, high), value| (low.min(*value), high.max(*value)));
    if with_spread && values.len() > 1 {
        format!("{} ({} – {})", digits(median), digits(low), digits(high))
    } else {
        digits(median)
    }
}

/// A number to three digits, whole from a hundred on, with commas.
fn digits(value: f64) -> String {
    let size = if value.abs() < 1e-3 { -3 } else { value.abs().log10().floor() as i32 };
    let text = format!("{value:.*}", usize::try_from(2 - size).unwrap_or(0));
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { out } else { format!("{out}.{fraction}") }
}

/// Lines as a table of Markdown whose columns stand below each other.
fn markdown(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").expect("it grows");
        }
        text.push_str("|\n");
        if i == 0 {
            widths.iter().for_each(|width| write!(text, "| {} ", "-".repeat(*width)).expect("it grows"));
            text.push_str("|\n");
        }
    }
    text
}

fn document(
    tables: &[Table],
    results: &Results,
    names: &BTreeMap<String, String>,
    about: &str,
    options: &TableOptions,
) -> String {
    let mut text =
        "# Measured\n\nWritten by benches/compare.sh; [performance.md](performance.md) says what the rows mean.\n\n".to_owned();
    about.lines().for_each(|line| writeln!(text, "- {line}").expect("it grows"));
    for table in tables {
        write!(text, "\n## {}\n\n{}", table.title, markdown(&table.lines(results, names, false))).expect("it grows");
    }
    if let Some(name) = options.svg.as_ref().and_then(|path| path.file_name()) {
        write!(text, "\n![The ratios as bars]({})\n", name.to_string_lossy()).expect("it grows");
    }
    let failures = failures(results, names);
    if !failures.is_empty() {
        write!(text, "\n## Requests that failed\n\n{failures}").expect("it grows");
    }
    text
}

/// What went wrong in the runs, line by line: figures of such a run are to be read with it in mind.
fn failures(results: &Results, names: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for ((load, column), runs) in results {
        for (i, run) in runs.iter().enumerate() {
            let mut add = |what: &str| {
                let name = names.get(column).unwrap_or(column);
                writeln!(text, "- {load}, {name}, round {}: {what}", i + 1).expect("it grows");
            };
            for (error, count) in run["errors"].as_object().into_iter().flatten() {
                add(&format!("{count} × {error}"));
            }
            if let Some(count) = run["unanswered"].as_u64().filter(|count| *count > 0) {
                add(&format!("{count} without an answer"));
            }
            let (expected, delivered) = (run["watches"]["expected"].as_u64(), run["watches"]["delivered"].as_u64());
            if let Some((expected, delivered)) = expected.zip(delivered).filter(|(expected, delivered)| expected != delivered) {
                add(&format!("{delivered} of {expected} events delivered"));
            }
        }
    }
    text
}

const BEGIN: &str = "<!-- benches/compare.sh writes what is between these lines -->";
const END: &str = "<!-- benches/compare.sh: end -->";

fn readme_block(tables: &[Table], results: &Results, names: &BTreeMap<String, String>, options: &TableOptions) -> String {
    let mut text = String::new();
    for table in tables {
        let lines = table.lines(results, names, true);
        if lines.len() > 1 {
            writeln!(text, "{}", markdown(&lines)).expect("it grows");
        }
    }
    if let Some(path) = &options.markdown {
        let path = path.display();
        writeln!(text, "The machine, the command and all figures: [{path}]({path}).").expect("it grows");
    }
    text
}

fn replace_block(text: &str, block: &str) -> Result<String, String> {
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| format!("no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}\n\n{block}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FIGURES: &str = "# comment\n\
        = One against the other | a, b\n\
        *puts | /server/rate | puts | /s | more | 5x\n\
        puts | /kinds/put/latency/p99.9 | p99.9 | ms | less | 10\n\
        gets | /x | gets | MB | less |\n";

    fn results() -> Results {
        let run = |rate: f64, p: f64| json!({ "server": { "rate": rate }, "kinds": { "put": { "latency": { "p99.9": p } } } });
        let key = |column: &str| ("puts".to_owned(), column.to_owned());
        let a = vec![run(1000.0, 0.05), run(900.0, 0.02), run(9999.0, 0.03)];
        BTreeMap::from([(key("a"), a), (key("b"), vec![run(5500.0, 0.0123)])])
    }

    fn tables() -> Vec<Table> {
        let mut tables = parse(FIGURES).expect("it is right");
        tables.iter_mut().for_each(|table| table.leave_out_what_was_not_run(&results()));
        tables
    }

    #[test]
    fn a_table_has_medians_spreads_ratios_and_aims() {
        let names = BTreeMap::from([("a".to_owned(), "the first".to_owned())]);
        let lines = tables()[0].lines(&results(), &names, false);
        assert_eq!(lines.len(), 3, "what was not run has no row");
        assert_eq!(lines[0], ["what", "unit", "the first", "b", "ratio", "aim"]);
        assert_eq!(lines[1], ["puts", "/s", "1,000 (900 – 9,999)", "5,500", "5.5 ×", "≥ 5 ×: met"]);
        assert_eq!(lines[2], ["p99.9", "ms", "30 (20 – 50)", "12.3", "0.41 ×", "≤ 10: missed"]);
        let readme = tables()[0].lines(&results(), &names, true);
        assert_eq!(readme[1..], [["puts", "/s", "1,000", "5,500", "5.5 ×"]]);
    }

    #[test]
    fn one_column_alone_has_aims_and_no_ratios() {
        let mut tables = parse("= By itself | a\nputs | /server/rate | puts | /s | more | 2000\n").expect("it is right");
        tables[0].leave_out_what_was_not_run(&results());
        let lines = tables[0].lines(&results(), &BTreeMap::new(), false);
        assert_eq!(lines[1], ["puts", "/s", "1,000 (900 – 9,999)", "≥ 2,000: missed"]);
        assert!(tables[0].bars(&results(), &BTreeMap::new()).is_empty());
    }

    #[test]
    fn columns_of_markdown_stand_below_each_other() {
        let lines = [["what", "×"], ["a", "12"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(markdown(&lines), "| what | ×  |\n| ---- | -- |\n| a    | 12 |\n");
    }

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let texts = [0.0, 0.004_12, 0.41, 1.0, 12.34, 123.4, 52_134.2, 1_234_567.0].map(digits);
        assert_eq!(texts, ["0", "0.00412", "0.41", "1", "12.3", "123", "52,134", "1,234,567"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, what) in [
            ("puts | /x | puts | /s | more |", "before the first title"),
            ("= t | a, b\nputs | /x | puts | yards | more |", "line 2: no unit is called \"yards\""),
            ("= t | a, b\nputs | /x | puts | /s | more | many", "a number is wanted in place of \"many\""),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(what)), "{text}");
        }
    }

    #[test]
    fn failures_are_told_beside_the_figures() {
        let run =
            json!({ "errors": { "code 14: timed out": 3 }, "unanswered": 1, "watches": { "expected": 5, "delivered": 4 } });
        let results = BTreeMap::from([(("watch".to_owned(), "a".to_owned()), vec![json!({}), run])]);
        let text = failures(&results, &BTreeMap::new());
        for what in ["round 2: 3 × code 14: timed out", "1 without an answer", "4 of 5 events delivered"] {
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn only_the_block_of_a_readme_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace_block(&text, "new\n").expect("it has a block");
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace_block(&new, "new\n"), Ok(new.clone()));
        assert!(replace_block("none", "new").is_err());
    }
}
