//! A picture of a run: throughput and latency over time, and how latencies are distributed.

use std::fmt::Write;

use super::load::Outcome;
use super::options::Workload;

const WIDTH: f64 = 900.0;
const PANEL_HEIGHT: f64 = 200.0;
const MARGIN: f64 = 70.0;
const GAP: f64 = 60.0;
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A line of a panel, from left to right.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Panel {
    title: &'static str,
    x: &'static str,
    is_log: bool,
    lines: Vec<Line>,
    /// Marks of the x axis, where they are not numbers of their own.
    marks: Vec<(f64, String)>,
}

/// The picture, as SVG.
pub fn svg(workload: &Workload, outcome: &Outcome) -> String {
    let panels = [throughput(outcome), latency(outcome), distribution(outcome)];
    let height = MARGIN + panels.len() as f64 * (PANEL_HEIGHT + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let common = workload.common();
    let title = format!("{}, {} connections, {} clients", workload.name(), common.connections, common.clients());
    writeln!(svg, "<text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{title}</text>").expect("it grows");
    for (i, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, MARGIN + i as f64 * (PANEL_HEIGHT + GAP));
    }
    svg.push_str("</svg>\n");
    svg
}

fn throughput(outcome: &Outcome) -> Panel {
    let samples = outcome.meter.samples();
    let points = samples.iter().map(|s| (s.at.as_secs_f64(), s.count as f64 / s.length.as_secs_f64().max(1e-9))).collect();
    let lines = vec![Line { name: "answers/s".to_owned(), points }];
    Panel { title: "answers per second", x: "s", is_log: false, lines, marks: Vec::new() }
}

fn latency(outcome: &Outcome) -> Panel {
    let samples = outcome.meter.samples();
    let lines = ["p50", "p99", "max"].iter().enumerate().map(|(i, name)| {
        let points = samples.iter().filter(|s| s.count > 0).map(|s| (s.at.as_secs_f64(), s.latency[i] as f64 / 1e6));
        Line { name: (*name).to_owned(), points: points.collect() }
    });
    Panel { title: "latency in ms", x: "s", is_log: true, lines: lines.collect(), marks: Vec::new() }
}

/// Quantiles by their number of nines.
fn distribution(outcome: &Outcome) -> Panel {
    let steps: Vec<f64> = (0..=40).map(|i| f64::from(i) / 10.0).collect();
    let lines = outcome.meter.kinds().map(|(kind, histogram)| {
        let point = |nines: &f64| (*nines, histogram.value_at_quantile(1.0 - 10f64.powf(-nines)).max(1) as f64 / 1e6);
        Line { name: kind.to_owned(), points: steps.iter().map(point).collect() }
    });
    let marks = [(0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9"), (4.0, "p99.99")];
    let marks = marks.map(|(at, name)| (at, name.to_owned())).to_vec();
    Panel { title: "latency in ms, by quantile", x: "", is_log: true, lines: lines.collect(), marks }
}

impl Panel {
    fn draw(&self, svg: &mut String, top: f64) {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let right = points().map(|p| p.0).fold(1e-9, f64::max);
        let highest = points().map(|p| p.1).fold(1e-3, f64::max);
        let lowest = if self.is_log { points().map(|p| p.1).fold(highest, f64::min).max(1e-4) } else { 0.0 };
        let (low, high) = if self.is_log { (lowest.log10().floor(), highest.log10().ceil()) } else { (0.0, nice(highest)) };
        let high = if high > low { high } else { low + 1.0 };
        let width = WIDTH - 2.0 * MARGIN;
        let x = |value: f64| MARGIN + value / right * width;
        let y = |value: f64| {
            let value = if self.is_log { value.max(1e-4).log10() } else { value };
            top + PANEL_HEIGHT - (value - low) / (high - low) * PANEL_HEIGHT
        };
        writeln!(svg, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", top - 8.0, self.title).expect("it grows");
        for value in self.heights(low, high) {
            let at = y(value);
            writeln!(
                svg,
                "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - MARGIN,
                MARGIN - 6.0,
                at + 4.0,
                number(value)
            )
            .expect("it grows");
        }
        let marks = if self.marks.is_empty() {
            (0..=5).map(|i| right * f64::from(i) / 5.0).map(|v| (v, format!("{v:.0} {}", self.x))).collect()
        } else {
            self.marks.clone()
        };
        for (value, name) in marks {
            let (at, below) = (x(value), top + PANEL_HEIGHT + 16.0);
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{name}</text>").expect("it grows");
        }
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let path: Vec<String> = line.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
            writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>", path.join(" "))
                .expect("it grows");
            let at = WIDTH - MARGIN + 4.0;
            writeln!(svg, "<text x=\"{at}\" y=\"{}\" fill=\"{colour}\">{}</text>", top + 12.0 + 14.0 * i as f64, line.name)
                .expect("it grows");
        }
    }

    fn heights(&self, low: f64, high: f64) -> Vec<f64> {
        if self.is_log {
            return (low as i32..=high as i32).map(|exponent| 10f64.powi(exponent)).collect();
        }
        (0..=4).map(|i| high * f64::from(i) / 4.0).collect()
    }
}

/// The next of 1, 2, 4, 5, 10, … times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.3, 1.0, 17.0, 43_000.0, 99_000.0].map(nice), [0.4, 1.0, 20.0, 50_000.0, 100_000.0]);
    }
}
