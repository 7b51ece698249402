//! Charts as SVG: axes, lines, steps, bands. Colours come from the page's style sheet.

use std::fmt::Write;

use super::html::escape;
use crate::format::trimmed;

/// How values are laid out along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal distances for equal differences.
    Linear,
    /// Equal distances for equal ratios; what lies below the axis is drawn on its start.
    Log,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) scale: Scale,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) label: String,
}

impl Axis {
    pub(crate) fn linear(from: f64, to: f64, label: &str) -> Axis {
        let to = if to > from { to } else { from + 1.0 };
        Axis {
            scale: Scale::Linear,
            from,
            to,
            label: label.to_owned(),
        }
    }

    /// Whole decades around the values.
    pub(crate) fn log(from: f64, to: f64, label: &str) -> Axis {
        let from = 10_f64.powf(from.max(1e-9).log10().floor());
        let to = 10_f64.powf(to.max(from * 10.0).log10().ceil());
        Axis {
            scale: Scale::Log,
            from,
            to,
            label: label.to_owned(),
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => {
                let value = value.max(self.from);
                (value.log10() - self.from.log10()) / (self.to.log10() - self.from.log10())
            }
        };
        share.clamp(0.0, 1.0)
    }

    /// Values to label and grid lines without a label.
    fn ticks(&self, about: f64) -> (Vec<f64>, Vec<f64>) {
        match self.scale {
            Scale::Linear => {
                let step = nice_step((self.to - self.from) / about);
                let mut ticks = Vec::new();
                let mut index = (self.from / step).ceil();
                while index * step <= self.to + step * 1e-9 {
                    ticks.push(index * step);
                    index += 1.0;
                }
                (ticks, Vec::new())
            }
            Scale::Log => {
                let (first, last) = (self.from.log10().round(), self.to.log10().round());
                let every = if last - first > 5.0 { 2.0 } else { 1.0 };
                let (mut labelled, mut others) = (Vec::new(), Vec::new());
                let mut decade = first;
                while decade <= last {
                    let value = 10_f64.powf(decade);
                    let number = decade - first;
                    if (number / every).fract().abs() < 1e-9 {
                        labelled.push(value);
                    } else {
                        others.push(value);
                    }
                    if last - first <= 3.0 && decade < last {
                        others.extend((2..10).map(|factor| f64::from(factor) * value));
                    }
                    decade += 1.0;
                }
                (labelled, others)
            }
        }
    }
}

fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let share = rough / power;
    let factor = match share {
        share if share <= 1.0 => 1.0,
        share if share <= 2.0 => 2.0,
        share if share <= 5.0 => 5.0,
        _ => 10.0,
    };
    factor * power
}

fn tick_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1e9 {
        format!("{}G", trimmed(value / 1e9, 3))
    } else if magnitude >= 1e6 {
        format!("{}M", trimmed(value / 1e6, 3))
    } else if magnitude >= 1e4 {
        format!("{}k", trimmed(value / 1e3, 3))
    } else {
        trimmed(value, 4)
    }
}

/// Room around the plot, in pixels.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;
const BOTTOM_WITHOUT_LABEL: f64 = 20.0;

/// A chart that is being drawn.
#[derive(Debug)]
pub(crate) struct Chart {
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    y_labels: bool,
    body: String,
    description: String,
}

impl Chart {
    pub(crate) fn new(size: (f64, f64), x: Axis, y: Axis, description: &str) -> Chart {
        let (width, height) = size;
        Chart {
            width,
            height,
            x,
            y,
            y_labels: true,
            body: String::new(),
            description: description.to_owned(),
        }
    }

    /// Leaves the y axis without numbers.
    pub(crate) fn without_y_numbers(mut self) -> Chart {
        self.y_labels = false;
        self
    }

    /// Room below the plot.
    const fn bottom(&self) -> f64 {
        if self.x.label.is_empty() {
            BOTTOM_WITHOUT_LABEL
        } else {
            BOTTOM
        }
    }

    fn px(&self, x: f64) -> String {
        trimmed(LEFT + self.x.place(x) * (self.width - LEFT - RIGHT), 1)
    }

    fn py(&self, y: f64) -> String {
        trimmed(
            self.height - self.bottom() - self.y.place(y) * (self.height - TOP - self.bottom()),
            1,
        )
    }

    // Writing to a String cannot fail; the results of `write!` are dropped for that reason.

    /// Shades a stretch of the x axis over the whole height.
    pub(crate) fn band(&mut self, from: f64, to: f64, class: &str) {
        let (left, right) = (self.px(from), self.px(to));
        let bottom = trimmed(self.height - self.bottom(), 1);
        let top = trimmed(TOP, 1);
        let _ = writeln!(
            self.body,
            "<path class=\"{class}\" d=\"M{left} {top}H{right}V{bottom}H{left}Z\"/>"
        );
    }

    /// A staircase: each value holds from its `x` to the next; the last until `end`.
    pub(crate) fn steps(&mut self, points: &[(f64, f64)], end: f64, class: &str) {
        let path = self.staircase(points, end);
        let _ = writeln!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// Straight lines from point to point.
    pub(crate) fn lines(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{} {}", self.px(*x), self.py(*y));
        }
        let _ = writeln!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// The same, filled down to the x axis.
    pub(crate) fn filled_steps(&mut self, points: &[(f64, f64)], end: f64, class: &str) {
        let Some((first, _)) = points.first() else {
            return;
        };
        let path = self.staircase(points, end);
        let base = trimmed(self.height - self.bottom(), 1);
        let start = self.px(*first);
        let _ = writeln!(
            self.body,
            "<path class=\"area {class}\" d=\"{path}V{base}H{start}Z\"/>"
        );
    }

    fn staircase(&self, points: &[(f64, f64)], end: f64) -> String {
        let mut path = String::new();
        let mut last_y = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let (x, y) = (self.px(*x), self.py(*y));
            if index == 0 {
                let _ = write!(path, "M{x} {y}");
            } else if y != last_y {
                let _ = write!(path, "H{x}V{y}");
            }
            last_y = y;
        }
        if !points.is_empty() {
            let _ = write!(path, "H{}", self.px(end));
        }
        path
    }

    /// Boxes from a smallest to a largest value: from, to, smallest, largest.
    pub(crate) fn ranges(&mut self, ranges: &[(f64, f64, f64, f64)], class: &str) {
        let mut path = String::new();
        for (from, to, low, high) in ranges {
            let (from, to) = (self.px(*from), self.px(*to));
            let _ = write!(
                path,
                "M{from} {}H{to}V{}H{from}Z",
                self.py(*low),
                self.py(*high)
            );
        }
        let _ = writeln!(self.body, "<path class=\"area {class}\" d=\"{path}\"/>");
    }

    /// Horizontal strokes: from, to, y.
    pub(crate) fn strokes(&mut self, strokes: &[(f64, f64, f64)], class: &str) {
        let mut path = String::new();
        for (from, to, y) in strokes {
            let _ = write!(path, "M{} {}H{}", self.px(*from), self.py(*y), self.px(*to));
        }
        let _ = writeln!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// Short vertical marks of so many pixels, centred on the points.
    pub(crate) fn marks(&mut self, points: &[(f64, f64)], pixels: f64, class: &str) {
        let mut path = String::new();
        let (half, whole) = (trimmed(-pixels / 2.0, 1), trimmed(pixels, 1));
        for (x, y) in points {
            let _ = write!(path, "M{} {}m0 {half}v{whole}", self.px(*x), self.py(*y));
        }
        let _ = writeln!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// Crosses on the points.
    pub(crate) fn crosses(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = (self.px(*x), self.py(*y));
            let _ = write!(path, "M{x} {y}m-3 -3l6 6m0 -6l-6 6");
        }
        let _ = writeln!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// A dashed horizontal line over the whole width.
    pub(crate) fn level(&mut self, y: f64, class: &str) {
        let (from, to) = (self.x.from, self.x.to);
        self.strokes(&[(from, to, y)], class);
    }

    /// A text inside the plot, its left end at `x`, near the top.
    pub(crate) fn note(&mut self, x: f64, text: &str) {
        let _ = writeln!(
            self.body,
            "<text class=\"note\" x=\"{}\" y=\"{}\" dx=\"4\" dy=\"12\">{}</text>",
            self.px(x),
            trimmed(TOP, 1),
            escape(text)
        );
    }

    /// The finished element.
    pub(crate) fn render(self) -> String {
        let (width, height) = (trimmed(self.width, 1), trimmed(self.height, 1));
        let mut svg = String::with_capacity(self.body.len() + 4096);
        let _ = writeln!(
            svg,
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.description)
        );
        self.grid(&mut svg);
        svg.push_str(&self.body);
        let (left, right) = (trimmed(LEFT, 1), trimmed(self.width - RIGHT, 1));
        let (top, bottom) = (trimmed(TOP, 1), trimmed(self.height - self.bottom(), 1));
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>"
        );
        let middle = trimmed(LEFT + (self.width - LEFT - RIGHT) / 2.0, 1);
        let foot = trimmed(self.height - 4.0, 1);
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{middle}\" y=\"{foot}\" text-anchor=\"middle\">{}</text>",
            escape(&self.x.label)
        );
        let centre = trimmed(TOP + (self.height - TOP - self.bottom()) / 2.0, 1);
        let _ = writeln!(
            svg,
            "<text class=\"name\" transform=\"translate(12 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n</svg>",
            escape(&self.y.label)
        );
        svg
    }

    fn grid(&self, svg: &mut String) {
        let (left, right) = (trimmed(LEFT, 1), trimmed(self.width - RIGHT, 1));
        let (top, bottom) = (trimmed(TOP, 1), trimmed(self.height - self.bottom(), 1));
        let (labelled, others) = self.x.ticks((self.width - LEFT - RIGHT) / 60.0);
        for value in &others {
            let x = self.px(*value);
            let _ = writeln!(
                svg,
                "<path class=\"grid minor\" d=\"M{x} {top}V{bottom}\"/>"
            );
        }
        let below = trimmed(self.height - self.bottom() + 15.0, 1);
        for value in &labelled {
            let x = self.px(*value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x} {top}V{bottom}\"/><text x=\"{x}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
                tick_text(*value)
            );
        }
        if !self.y_labels {
            return;
        }
        let (labelled, others) = self.y.ticks((self.height - TOP - self.bottom()) / 32.0);
        for value in &others {
            let y = self.py(*value);
            let _ = writeln!(
                svg,
                "<path class=\"grid minor\" d=\"M{left} {y}H{right}\"/>"
            );
        }
        for value in &labelled {
            let y = self.py(*value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{left} {y}H{right}\"/><text x=\"{}\" y=\"{y}\" dy=\"4\" text-anchor=\"end\">{}</text>",
                trimmed(LEFT - 6.0, 1),
                tick_text(*value)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_numbers_inside_the_axis() {
        let (ticks, _) = Axis::linear(0.0, 23.0, "").ticks(6.0);
        assert_eq!(ticks, [0.0, 5.0, 10.0, 15.0, 20.0]);
    }

    #[test]
    fn a_log_axis_spans_whole_decades_and_zero_lies_on_its_start() {
        let axis = Axis::log(30.0, 2_500.0, "");
        assert!((axis.from - 10.0).abs() < 1e-9 && (axis.to - 10_000.0).abs() < 1e-6);
        assert!(axis.place(0.0).abs() < 1e-12);
        assert!((axis.place(100.0) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn labels_are_escaped() {
        let chart = Chart::new(
            (300.0, 200.0),
            Axis::linear(0.0, 1.0, "<x>"),
            Axis::linear(0.0, 1.0, "y"),
            "a \"b\"",
        );
        let svg = chart.render();
        assert!(svg.contains("&lt;x&gt;") && svg.contains("a &quot;b&quot;"));
        assert!(!svg.contains("<x>"));
    }
}
