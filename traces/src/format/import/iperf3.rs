//! The JSON of iperf3: the rate of each interval.

use serde_json::Value;

use super::{Facts, ImportOptions, Importer, Quantity, Recording, Timeline};
use crate::{Direction, EndPolicy, Trace, TraceError};

const LARGEST_RATE_BPS: f64 = 1e12;
/// Ten years.
const LONGEST_S: f64 = 3.2e8;

pub(super) const IMPORTER: Importer = Importer {
    name: "iperf3",
    about: "JSON of iperf3: the rate of each interval; with --reverse it is the downlink's; two \
            files make down and up",
    most_files: 2,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    let text = recording.content().trim_start();
    text.starts_with('{') && text.contains("\"intervals\"") && text.contains("\"bits_per_second\"")
}

/// One interval, in ns since the start.
struct Interval {
    start_ns: i64,
    end_ns: i64,
    rate_bps: u64,
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let mut all: Vec<(i64, Direction, u64)> = Vec::new();
    let mut end_ns: Option<i64> = None;
    let mut directions: Vec<Direction> = Vec::new();
    let mut notes = vec![
        "rates are those of the payload of TCP or UDP; IP packets take a few per cent more"
            .to_owned(),
    ];
    for recording in recordings {
        let (direction, intervals) = read(*recording, options)?;
        if directions.contains(&direction) {
            let place = recording.place(1, 1);
            return Err(place.error(format!(
                "both files are of the {}link; expected one with and one without --reverse",
                direction.name()
            )));
        }
        directions.push(direction);
        let mut last_end: Option<i64> = None;
        let mut longest_ns = 0;
        for interval in &intervals {
            // What is between two intervals was not measured: it carried nothing.
            if let Some(last) = last_end.filter(|last| interval.start_ns - last > 1_000_000) {
                longest_ns = longest_ns.max(interval.start_ns - last);
                all.push((last, direction, 0));
            }
            all.push((interval.start_ns, direction, interval.rate_bps));
            last_end = Some(interval.end_ns);
        }
        if longest_ns > 0 {
            notes.push(format!(
                "{}link: times of up to {longest_ns} ns between intervals are outages",
                direction.name()
            ));
        }
        end_ns = end_ns.max(last_end);
    }
    all.sort_by_key(|(at_ns, ..)| *at_ns);
    let mut timeline = Timeline::new();
    for (at_ns, direction, rate_bps) in all {
        let place = recordings.first().map_or_else(
            || Recording { name: "", text: "" }.end(),
            |recording| recording.place(1, 1),
        );
        timeline.moment(at_ns, place)?;
        timeline.sample(Quantity::Rate(direction), rate_bps);
    }
    let facts = Facts {
        format: IMPORTER.name,
        recordings,
        end: EndPolicy::Loop,
        sampled: false,
        end_ns,
        notes,
    };
    timeline.into_trace(facts, options)
}

/// The direction of a file, as seen from the client, and its intervals in order.
fn read(
    recording: Recording<'_>,
    options: &ImportOptions,
) -> Result<(Direction, Vec<Interval>), TraceError> {
    let document: Value = serde_json::from_str(recording.content()).map_err(|error| {
        let place = recording.place(error.line().max(1), error.column().max(1));
        place.error(format!("not the JSON of iperf3: {error}"))
    })?;
    let place = recording.place(1, 1);
    let reverse = document
        .pointer("/start/test_start/reverse")
        .and_then(Value::as_u64);
    let direction = match reverse {
        Some(0) => Direction::Up,
        Some(_) => Direction::Down,
        None => options.direction,
    };
    let intervals = document
        .get("intervals")
        .and_then(Value::as_array)
        .filter(|intervals| !intervals.is_empty())
        .ok_or_else(|| place.error("there are no intervals; record with `iperf3 --json`"))?;
    let mut read = Vec::with_capacity(intervals.len());
    let mut before_ns = 0_i64;
    for (index, interval) in intervals.iter().enumerate() {
        let number = |field: &str, least: f64, most: f64| {
            interval
                .get("sum")
                .and_then(|sum| sum.get(field))
                .and_then(Value::as_f64)
                .filter(|value| (least..=most).contains(value))
                .ok_or_else(|| {
                    place.error(format!(
                        "interval {}: sum.{field} is missing or cannot be true; expected a number \
                         from {least} to {most}",
                        index + 1
                    ))
                })
        };
        let start_ns = nanoseconds(number("start", 0.0, LONGEST_S)?);
        let end_ns = nanoseconds(number("end", 0.0, LONGEST_S)?);
        let rate = number("bits_per_second", 0.0, LARGEST_RATE_BPS)?;
        // Ends and starts differ by rounding.
        if start_ns + 1_000_000 < before_ns || end_ns <= start_ns {
            return Err(place.error(format!(
                "interval {}: time goes back; expected intervals in order of time",
                index + 1
            )));
        }
        before_ns = end_ns;
        read.push(Interval {
            start_ns,
            end_ns,
            rate_bps: whole(rate),
        });
    }
    Ok((direction, read))
}

#[expect(clippy::cast_possible_truncation, reason = "at most ten years")]
fn nanoseconds(seconds: f64) -> i64 {
    libm::round(seconds * 1e9) as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 10^12"
)]
fn whole(rate: f64) -> u64 {
    libm::round(rate) as u64
}

#[cfg(test)]
mod tests {
    use super::super::detect as detect_any;
    use super::*;
    use proptest::prelude::*;

    fn document(reverse: u8, intervals: &[(f64, f64, f64)]) -> String {
        let intervals: Vec<String> = intervals
            .iter()
            .map(|(start, end, rate)| {
                format!(
                    "{{\"streams\":[],\"sum\":{{\"start\":{start},\"end\":{end},\"bytes\":1,\
                     \"bits_per_second\":{rate},\"omitted\":false}}}}"
                )
            })
            .collect();
        format!(
            "{{\"start\":{{\"test_start\":{{\"protocol\":\"TCP\",\"reverse\":{reverse}}}}},\
             \"intervals\":[{}],\"end\":{{}}}}",
            intervals.join(",")
        )
    }

    fn imported(texts: &[String]) -> Result<Trace, String> {
        let recordings: Vec<Recording<'_>> = texts
            .iter()
            .map(|text| Recording {
                name: "run.json",
                text,
            })
            .collect();
        import(&recordings, &ImportOptions::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn intervals_are_rows_and_the_pause_between_two_is_an_outage() {
        let text = document(
            1,
            &[(0.0, 1.0, 9.5e7), (1.000_02, 2.0, 1e8), (3.0, 4.0, 5e7)],
        );
        let recording = Recording {
            name: "run.json",
            text: &text,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["iperf3"]);
        let trace = imported(&[text]).unwrap();
        let rows: Vec<(u64, u64)> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns / 1_000_000, row.down.rate_bps))
            .collect();
        assert_eq!(
            rows,
            [
                (0, 95_000_000),
                (1000, 100_000_000),
                (2000, 0),
                (3000, 50_000_000)
            ]
        );
        assert_eq!(trace.duration_ns(), 4_000_000_000);
    }

    #[test]
    fn two_files_are_down_and_up() {
        let down = document(1, &[(0.0, 1.0, 1e8)]);
        let up = document(0, &[(0.0, 1.0, 1e7)]);
        let trace = imported(&[up.clone(), down]).unwrap();
        assert_eq!(trace.rows()[0].down.rate_bps, 100_000_000);
        assert_eq!(trace.rows()[0].up.rate_bps, 10_000_000);
        assert!(imported(&[up.clone(), up]).unwrap_err().contains("uplink"));
    }

    #[test]
    fn what_is_no_iperf3_is_refused() {
        for text in [
            String::new(),
            "{}".to_owned(),
            document(1, &[]),
            document(1, &[(0.0, 1.0, -5.0)]),
            document(1, &[(0.0, 1.0, 5e15)]),
            document(1, &[(2.0, 1.0, 5.0)]),
            document(1, &[(0.0, 5.0, 5.0), (1.0, 2.0, 5.0)]),
            "[".repeat(100_000),
        ] {
            assert!(imported(&[text]).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, start: f64, end: f64, rate: f64) {
            let _ = imported(&[text]);
            let _ = imported(&[document(1, &[(start, end, rate), (end, start, rate)])]);
        }
    }
}
