//! Families in Prometheus' text format (version 0.0.4), with numbers as Go's client library writes them.

use super::buckets::Total;
use super::names::{HistogramRow, Scale, Type};
use std::fmt::Write;

/// One family: its head and its series.
pub(super) struct Family {
    pub(super) name: &'static str,
    text: String,
}

impl Family {
    pub(super) fn new(name: &'static str, declared: Type, help: &str) -> Family {
        debug_assert!(!help.is_empty() && !help.contains(['\n', '\\']), "help of {name} needs no escapes");
        Family { name, text: format!("# HELP {name} {help}\n# TYPE {name} {}\n", declared.as_str()) }
    }

    /// A family with one series without labels.
    pub(super) fn single(name: &'static str, declared: Type, help: &str, value: f64) -> Family {
        let mut family = Family::new(name, declared, help);
        family.series(&[], value);
        family
    }

    pub(super) fn series(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, value);
    }

    /// Buckets, sum and count of a histogram.
    pub(super) fn histogram(&mut self, scale: Scale, labels: &[(&str, &str)], total: &Total) {
        let mut below = 0;
        for (place, count) in total.counts.iter().enumerate().take(scale.bounds) {
            below += count;
            let bound = go_float((u128::from(scale.first) << place) as f64 / scale.per_unit as f64);
            self.bucket(labels, &bound, below);
        }
        self.bucket(labels, "+Inf", total.count());
        self.line("_sum", labels, total.sum as f64 / scale.per_unit as f64);
        self.line("_count", labels, total.count() as f64);
    }

    fn bucket(&mut self, labels: &[(&str, &str)], bound: &str, count: u64) {
        let mut labels = labels.to_vec();
        labels.push(("le", bound));
        self.line("_bucket", &labels, count as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (place, (name, value)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            write!(self.text, "{name}=\"{}\"", escaped(value)).expect("a String takes everything");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {}", go_float(value)).expect("a String takes everything");
    }

    /// A family of one histogram without labels.
    pub(super) fn of_histogram(row: &HistogramRow, total: &Total) -> Family {
        let mut family = Family::new(row.name, Type::Histogram, row.help);
        family.histogram(row.scale, &[], total);
        family
    }
}

/// All families as one text, in the order of their names.
pub(super) fn join(mut families: Vec<Family>) -> String {
    families.sort_by_key(|f| f.name);
    let mut text = String::with_capacity(families.iter().map(|f| f.text.len()).sum());
    families.iter().for_each(|f| text.push_str(&f.text));
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// From this exponent on Go's `%g` writes shortest floats with an exponent (`fmtE` in strconv's ftoa.go: six digits, however many there are).
const GO_EXPONENT_FROM: i32 = 6;

/// Go's `strconv.FormatFloat(f, 'g', -1, 64)`: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust's form of an exponent");
    let exponent: i32 = exponent.parse().expect("a whole exponent");
    if value == 0.0 || (-4..GO_EXPONENT_FROM).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_gos_library_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (2.704e-6, "2.704e-06"),
            (8.192, "8.192"),
            (20000.0, "20000"),
            (524288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (1.79525405859e9, "1.79525405859e+09"),
            (u64::MAX as f64, "1.8446744073709552e+19"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut family = Family::new("f", Type::Gauge, "h");
        family.series(&[("a", "x\"\\\ny"), ("b", "")], 1.5);
        assert_eq!(join(vec![family]), "# HELP f h\n# TYPE f gauge\nf{a=\"x\\\"\\\\\\ny\",b=\"\"} 1.5\n");
    }
}
