//! Charts, as SVG that needs nothing else.

use super::table::number;
use super::{Curve, Row, Section};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 340.0;
const BAR: f64 = 16.0;
const STEP: f64 = 26.0;
const TOP: f64 = 54.0;
const COLOURS: [&str; 4] = ["#2563eb", "#ea580c", "#16a34a", "#9333ea"];

/// How far each target is met: a bar that reaches the line meets it.
pub(super) fn targets(sections: &[&Section]) -> String {
    const WIDEST: f64 = 2.0;
    let rows = super::with_targets(sections);
    let rows: Vec<(&Row, f64)> = rows
        .iter()
        .filter_map(|row| Some((row, row.score()?)))
        .collect();
    let mut svg = Svg::new(
        "Targets: a bar that reaches the line meets its target",
        rows.len(),
    );
    let scale = (WIDTH - LABELS - 90.0) / WIDEST;
    for (at, (row, score)) in rows.iter().enumerate() {
        let colour = if row.is_met == Some(true) {
            COLOURS[2]
        } else {
            COLOURS[1]
        };
        let text = format!("{score:.2}");
        svg.bar(at, &row.what, score.min(WIDEST) * scale, colour, &text);
    }
    svg.rule(LABELS + scale, rows.len());
    svg.finish()
}

/// The rows that have the unit of the first, with their spread.
pub(super) fn bars(title: &str, rows: &[Row]) -> String {
    let unit = rows.first().map_or("", |row| row.unit.as_str());
    let shown: Vec<_> = rows
        .iter()
        .filter(|row| row.unit == unit)
        .filter_map(|row| Some((row, row.measured?)))
        .collect();
    let largest = shown
        .iter()
        .map(|(_, spread)| spread.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - 110.0) / largest;
    let mut svg = Svg::new(&format!("{title} ({unit})"), shown.len());
    for (at, (row, spread)) in shown.iter().enumerate() {
        svg.bar(
            at,
            &row.what,
            spread.median * scale,
            COLOURS[0],
            &number(spread.median),
        );
        svg.whisker(at, spread.min * scale, spread.max * scale);
    }
    svg.finish()
}

/// Curves over a common axis.
pub(super) fn lines(title: &str, x_name: &str, y_name: &str, curves: &[Curve]) -> String {
    const LEFT: f64 = 80.0;
    const HEIGHT: f64 = 300.0;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x_most = points().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let y_most = points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let x_at = |x: f64| LEFT + x / x_most * (WIDTH - LEFT - 30.0);
    let y_at = |y: f64| TOP + HEIGHT * (1.0 - y / y_most);
    let mut svg = Svg::sized(
        title,
        TOP + HEIGHT + 50.0 + STEP * 0.8 * length(curves.len()),
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (y, x) = (y_at(share * y_most), x_at(share * x_most));
        svg.line((LEFT, y), (WIDTH - 30.0, y), "#e5e7eb");
        svg.text(LEFT - 8.0, y + 4.0, "end", &number(share * y_most));
        svg.text(x, TOP + HEIGHT + 18.0, "middle", &number(share * x_most));
    }
    svg.text(WIDTH - 30.0, TOP + HEIGHT + 36.0, "end", x_name);
    svg.text(8.0, TOP - 10.0, "start", y_name);
    for (at, curve) in curves.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y)))
            .collect();
        svg.polyline(&path.join(" "), colour);
        let y = TOP + HEIGHT + 56.0 + STEP * 0.8 * length(at);
        svg.line((LEFT, y - 4.0), (LEFT + 24.0, y - 4.0), colour);
        svg.text(LEFT + 32.0, y, "start", &curve.what);
    }
    svg.finish()
}

/// Writing to a string cannot fail, so what `write!` returns is dropped throughout.
struct Svg(String);

impl Svg {
    fn new(title: &str, bars: usize) -> Self {
        Self::sized(title, TOP + STEP * length(bars) + 16.0)
    }

    fn sized(title: &str, height: f64) -> Self {
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ));
        svg.text(8.0, 24.0, "start", title);
        svg
    }

    fn bar(&mut self, at: usize, label: &str, width: f64, colour: &str, value: &str) {
        let y = TOP + STEP * length(at);
        self.text(LABELS - 10.0, y + 13.0, "end", label);
        let _ = writeln!(
            self.0,
            "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        );
        self.text(WIDTH - 8.0, y + 13.0, "end", value);
    }

    fn whisker(&mut self, at: usize, from: f64, to: f64) {
        let y = TOP + STEP * length(at) + BAR / 2.0;
        self.line((LABELS + from, y), (LABELS + to, y), "#111827");
    }

    fn rule(&mut self, x: f64, bars: usize) {
        self.line((x, TOP - 8.0), (x, TOP + STEP * length(bars)), "#111827");
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        self.polyline(
            &format!("{:.1},{:.1} {:.1},{:.1}", from.0, from.1, to.0, to.1),
            colour,
        );
    }

    fn polyline(&mut self, points: &str, colour: &str) {
        let _ = writeln!(
            self.0,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#111827\">{text}</text>"
        );
    }

    fn finish(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of bars")]
fn length(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    #[test]
    fn a_chart_has_a_bar_for_each_row_of_the_first_unit() {
        let row = |what: &str, unit| Row::new(what, unit, Spread::of([1.0, 2.0]));
        let rows = [
            row("a & b", "events/s"),
            row("c", "events/s"),
            row("d", "ms"),
        ];
        let svg = bars("Drain", &rows);
        assert_eq!(svg.matches("height=\"16\"").count(), 2);
        assert!(svg.contains("a &amp; b") && svg.contains("Drain (events/s)"));
    }

    #[test]
    fn curves_stay_within_the_frame() {
        let curve = Curve {
            what: "rate".to_owned(),
            points: vec![(0.0, 5.0), (10.0, 20.0)],
        };
        let svg = lines("Over time", "s", "events/s", &[curve]);
        assert!(svg.contains("80.0,279.0 830.0,54.0"), "{svg}");
    }
}
