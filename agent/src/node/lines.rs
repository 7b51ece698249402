//! Lines out of a stream of bytes, none longer than a limit.

/// A line, and whether its end was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundedLine {
    pub(crate) text: String,
    pub(crate) cut: bool,
}

/// Splits what arrives into lines. Never holds more than the limit.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    limit: usize,
    held: Vec<u8>,
    cut: bool,
}

impl LineSplitter {
    pub(crate) fn new(limit: usize) -> LineSplitter {
        LineSplitter {
            limit,
            held: Vec::new(),
            cut: false,
        }
    }

    /// Takes bytes and gives the lines that they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<BoundedLine> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.hold(&bytes[..end]);
            lines.push(self.take());
            bytes = &bytes[end + 1..];
        }
        self.hold(bytes);
        lines
    }

    /// What was written after the last line's end, if anything.
    pub(crate) fn rest(&mut self) -> Option<BoundedLine> {
        (!self.held.is_empty()).then(|| self.take())
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = self.limit - self.held.len();
        self.cut |= bytes.len() > room;
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self) -> BoundedLine {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        BoundedLine {
            text,
            cut: std::mem::take(&mut self.cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, cut: bool) -> BoundedLine {
        BoundedLine {
            text: text.to_owned(),
            cut,
        }
    }

    #[test]
    fn lines_come_out_however_the_bytes_arrive() {
        let text = b"one\n\ntwo\nrest";
        for size in 1..=text.len() {
            let mut splitter = LineSplitter::new(100);
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                lines.extend(splitter.push(chunk));
            }
            lines.extend(splitter.rest());
            let expected = ["one", "", "two", "rest"].map(|text| line(text, false));
            assert_eq!(lines, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_says_so() {
        let mut splitter = LineSplitter::new(4);
        assert_eq!(splitter.push(b"123"), []);
        assert_eq!(splitter.push(b"456789"), []);
        assert_eq!(
            splitter.push(b"\nabcd\n"),
            [line("1234", true), line("abcd", false)]
        );
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let mut splitter = LineSplitter::new(10);
        assert_eq!(splitter.push(b"\xff\xfe\n")[0].text, "\u{fffd}\u{fffd}");
    }
}
