//! A picture of ratios: bars to the left and right of one, on a logarithmic scale.

use std::fmt::Write;

/// One ratio.
pub struct Bar {
    /// What is divided by what; bars of one group stand under one heading.
    pub group: String,
    pub label: String,
    pub ratio: f64,
    pub is_more_better: bool,
    /// The ratio to be reached.
    pub aim: Option<f64>,
}

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 480.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 20.0;
const BETTER: &str = "#0072b2";
const WORSE: &str = "#d55e00";

/// The picture, as SVG.
pub fn svg(bars: &[Bar]) -> String {
    let groups = bars.chunk_by(|a, b| a.group == b.group).count();
    let height = LINE * (bars.len() as f64 + 2.0 * groups as f64 + 3.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"{LINE}\"><tspan fill=\"{BETTER}\">blue: better</tspan>, <tspan fill=\"{WORSE}\">orange: worse</tspan>; \
         a black line: the aim; the scale is logarithmic</text>\n"
    );
    let exponents = bars.iter().flat_map(|bar| [Some(bar.ratio), bar.aim]).flatten().map(f64::log10);
    let (low, high) = exponents.fold((-0.1f64, 0.1f64), |(low, high), exponent| (low.min(exponent), high.max(exponent)));
    let x = |ratio: f64| LABELS + (ratio.log10() - low) / (high - low) * (WIDTH - LABELS - RIGHT);
    let mut y = LINE;
    for group in bars.chunk_by(|a, b| a.group == b.group) {
        y += 2.0 * LINE;
        writeln!(svg, "<text x=\"10\" y=\"{y}\" font-size=\"14\" font-weight=\"bold\">{}</text>", escaped(&group[0].group))
            .expect("it grows");
        for bar in group {
            y += LINE;
            bar.draw(&mut svg, y, x);
        }
        let (top, one) = (y - LINE * (group.len() as f64 - 0.25), x(1.0));
        writeln!(svg, "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{top}\" y2=\"{}\" stroke=\"#888\"/>", y + 4.0)
            .expect("it grows");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Bar {
    fn draw(&self, svg: &mut String, y: f64, x: impl Fn(f64) -> f64) {
        let is_better = if self.is_more_better { self.ratio >= 1.0 } else { self.ratio <= 1.0 };
        let colour = if is_better { BETTER } else { WORSE };
        let (from, to) = (x(self.ratio.min(1.0)), x(self.ratio.max(1.0)));
        let digits = if self.ratio < 10.0 { 2 } else { 0 };
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y}\" fill=\"{colour}\">{:.digits$} ×</text>",
            LABELS - 60.0,
            escaped(&self.label),
            y - 10.0,
            to - from,
            to + 6.0,
            self.ratio
        )
        .expect("it grows");
        if let Some(aim) = self.aim {
            let at = x(aim);
            writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"black\" stroke-width=\"2\"/>",
                y - 12.0,
                y + 4.0
            )
            .expect("it grows");
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_away_from_one_and_tell_better_from_worse() {
        let bar = |ratio: f64, is_more_better: bool| Bar {
            group: "b ÷ a".to_owned(),
            label: "x < y".to_owned(),
            ratio,
            is_more_better,
            aim: Some(2.0),
        };
        let svg = svg(&[bar(5.0, true), bar(0.2, true), bar(0.2, false)]);
        let fills = |colour: &str| svg.matches(&format!("height=\"12\" fill=\"{colour}\"")).count();
        assert_eq!((fills(BETTER), fills(WORSE), svg.matches("stroke=\"black\"").count()), (2, 1, 3));
        assert!(svg.contains("x &lt; y") && !svg.contains("NaN") && svg.ends_with("</svg>\n"));
    }
}
