//! Server-sent events out of a stream of bytes, however it is cut into chunks (HTML Living Standard,
//! section 9.2.6 "Interpreting an event stream"). Only the data of events is kept: OpenAI's interface
//! uses nothing else.

/// Why a stream is no stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamFault {
    /// An event is larger than what is taken.
    TooLarge,
    /// An event is not UTF-8.
    NotUtf8,
}

/// A stream of events under way. Never holds more than its limit.
#[derive(Debug)]
pub(super) struct EventStream {
    /// The most bytes of a line, and of the data of an event.
    limit: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    first_line: bool,
}

impl EventStream {
    pub(super) const fn new(limit: usize) -> EventStream {
        EventStream {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            first_line: true,
        }
    }

    /// Takes bytes and gives the data of the events that they complete. What a fault follows was whole.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<String>,
    ) -> Result<(), StreamFault> {
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' => self.end_line(events)?,
                b'\r' => {
                    self.after_return = true;
                    self.end_line(events)?;
                }
                byte => {
                    if self.line.len() >= self.limit {
                        return Err(StreamFault::TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<String>) -> Result<(), StreamFault> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let data = std::mem::take(&mut self.data);
                let text = String::from_utf8(data).map_err(|_invalid| StreamFault::NotUtf8)?;
                events.push(text);
            }
            return Ok(());
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line.as_slice(), &[][..]),
        };
        if name == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if self.data.len() + value.len() >= self.limit {
                return Err(StreamFault::TooLarge);
            }
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        line.clear();
        // Its memory serves the next line.
        self.line = line;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Events of bytes that come in such chunks, and how that ended.
    fn events(bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Result<(), StreamFault>) {
        let mut stream = EventStream::new(1 << 10);
        let mut found = Vec::new();
        let mut from = 0;
        let mut borders: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        borders.push(bytes.len());
        borders.sort_unstable();
        for border in borders {
            if let Err(fault) = stream.push(&bytes[from..border], &mut found) {
                return (found, Err(fault));
            }
            from = border;
        }
        (found, Ok(()))
    }

    #[test]
    fn events_are_taken_as_the_standard_says() {
        let text = "\u{feff}data: one\n\n: a comment\ndata:two\ndata\ndata:  three\nid: 5\n\r\n\
                    event: x\r\rdata: four\r\n\r\ndata: never ended\n";
        let (found, ended) = events(text.as_bytes(), &[]);
        assert_eq!(found, ["one", "two\n\n three", "four"]);
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn what_is_too_large_or_no_text_ends_the_stream_after_what_was_whole() {
        let (found, ended) = events(b"data: a\n\ndata: \xff\n\ndata: b\n\n", &[]);
        assert_eq!(
            (found.as_slice(), ended),
            (&["a".to_owned()][..], Err(StreamFault::NotUtf8))
        );
        let long = format!("data: a\n\ndata: {}", "x".repeat(2000));
        let (found, ended) = events(long.as_bytes(), &[]);
        assert_eq!((found.len(), ended), (1, Err(StreamFault::TooLarge)));
        let many = format!("data: {}\n", "x".repeat(100)).repeat(20);
        assert_eq!(events(many.as_bytes(), &[]).1, Err(StreamFault::TooLarge));
    }

    proptest! {
        #[test]
        fn chunk_borders_change_nothing(
            lines in proptest::collection::vec("(data|data:|data: |id|:)?[a-z{}\u{e9}\u{1f600}]{0,9}", 0..20),
            ends in proptest::collection::vec(0_usize..4, 20),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let mut text = String::new();
            for (line, end) in lines.iter().zip(ends) {
                text.push_str(line);
                text.push_str(["\n", "\r", "\r\n", "\n\n"][end]);
            }
            prop_assert_eq!(events(text.as_bytes(), &cuts), events(text.as_bytes(), &[]));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm_and_borders_change_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            prop_assert_eq!(events(&bytes, &cuts), events(&bytes, &[]));
        }

        #[test]
        fn what_was_written_as_events_comes_out_again(
            texts in proptest::collection::vec("[^\r\n]{1,40}", 0..10),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let written: String = texts.iter().map(|text| format!("data: {text}\n\n")).collect();
            let (found, ended) = events(written.as_bytes(), &cuts);
            prop_assert_eq!(ended, Ok(()));
            prop_assert_eq!(found, texts);
        }
    }
}
