//! Samples of a GPU, recorded or made up, that the library plays back by the clock.
//!
//! The file is CSV. Lines that start with `#` say where it comes from, one `key: value` each:
//! `source` is `recorded` or `synthetic`, then what is known of `gpu`, `driver`, `date`, `load` and
//! `rate_hz`. The header names the columns; `at_ms` is needed, and any of `counter_mj`,
//! `instant_mw`, `average_mw`, `temperature_c`, `sm_clock_mhz`, `memory_clock_mhz`,
//! `throttle_reasons`, `busy_percent` may follow. A cell is empty where the call failed.

use std::collections::BTreeMap;

/// A recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Where it comes from.
    pub about: BTreeMap<String, String>,
    columns: Vec<String>,
    /// Moments in milliseconds, rising, with the other columns' values.
    rows: Vec<(u64, Vec<Option<u64>>)>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// What is wrong with it, with the number of the line.
    pub fn parse(text: &str) -> Result<Recording, String> {
        let mut recording = Recording::default();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: &str| format!("line {number}: {what}: {line:?}");
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((key, value)) = comment.split_once(':') {
                    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                    recording.about.insert(key, value);
                }
            } else if recording.columns.is_empty() {
                recording.columns = line.split(',').map(str::to_owned).collect();
                if recording.columns.first().is_none_or(|name| name != "at_ms") {
                    return Err(wrong("the first column must be at_ms"));
                }
            } else if !line.is_empty() {
                let mut cells = line.split(',').map(|cell| match cell {
                    "" => Ok(None),
                    cell => cell.parse::<u64>().map(Some),
                });
                let at_ms = match cells.next() {
                    Some(Ok(Some(at_ms))) => at_ms,
                    _ => return Err(wrong("no moment")),
                };
                let values: Result<Vec<Option<u64>>, _> = cells.collect();
                let values = values.map_err(|error| wrong(&error.to_string()))?;
                if values.len() + 1 != recording.columns.len() {
                    return Err(wrong("as many cells as columns are expected"));
                }
                if recording.rows.last().is_some_and(|last| last.0 > at_ms) {
                    return Err(wrong("time goes back"));
                }
                recording.rows.push((at_ms, values));
            }
        }
        if !recording.about.contains_key("source") {
            return Err("it does not say its `# source: recorded` or `synthetic`".to_owned());
        }
        if recording.rows.is_empty() {
            return Err("it holds no sample".to_owned());
        }
        Ok(recording)
    }

    /// What a column showed at a moment: its last sample until then, or its first. `Err` where the
    /// call failed then; `None` where the recording has no such column.
    #[must_use]
    pub fn at(&self, column: &str, at_ms: u64) -> Option<Result<u64, ()>> {
        let place = self
            .columns
            .iter()
            .skip(1)
            .position(|name| name == column)?;
        let after = self.rows.partition_point(|row| row.0 <= at_ms);
        let (_, values) = self.rows.get(after.saturating_sub(1))?;
        Some(values.get(place).copied().flatten().ok_or(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# source: synthetic\n# gpu: none\nat_ms,counter_mj,instant_mw\n\
                        0,1000,70000\n100,1007,\n200,1014,90000\n";

    #[test]
    fn the_last_sample_holds_and_a_failed_call_stays_one() {
        let recording = Recording::parse(TEXT).unwrap();
        assert_eq!(recording.about["source"], "synthetic");
        assert_eq!(recording.at("counter_mj", 0), Some(Ok(1_000)));
        assert_eq!(recording.at("counter_mj", 199), Some(Ok(1_007)));
        assert_eq!(recording.at("counter_mj", 9_999), Some(Ok(1_014)));
        assert_eq!(recording.at("instant_mw", 150), Some(Err(())));
        assert_eq!(recording.at("temperature_c", 0), None);
    }

    #[test]
    fn a_recording_without_provenance_or_with_time_that_goes_back_is_refused() {
        for (text, why) in [
            ("at_ms,instant_mw\n0,1\n", "# source"),
            ("# source: recorded\nat_ms\n", "no sample"),
            ("# source: recorded\nms\n0\n", "the first column"),
            ("# source: recorded\nat_ms,a\n0,1\n0\n", "as many cells"),
            ("# source: recorded\nat_ms,a\n5,1\n4,1\n", "time goes back"),
            ("# source: recorded\nat_ms,a\n5,x\n", "invalid digit"),
        ] {
            let error = Recording::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
