//! The text of `ping -D`: round-trip times with moments, and probes without an answer.

use super::{
    Facts, ImportOptions, Importer, Missing, Place, Recording, Timeline, decimal_ns, delay_ns,
};
use crate::{EndPolicy, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "ping",
    about: "text of `ping -D`: half the round trip is the delay of each direction; no rates; time \
            without answers is a gap",
    most_files: 1,
    detect,
    import,
};

/// A probe's answer.
struct Answer<'a> {
    at_ns: i64,
    round_trip_ns: u64,
    place: Place<'a>,
}

fn detect(recording: &Recording<'_>) -> bool {
    recording
        .lines()
        .take(20)
        .any(|(_, line)| line.starts_with('[') && line.contains("icmp_seq=") && has_time(line))
}

fn has_time(line: &str) -> bool {
    line.contains(" time=")
}

/// The answer on a line; lines that tell of no answer (headings, summaries, "no answer yet") are
/// none.
fn answer<'a>(
    recording: Recording<'a>,
    number: usize,
    line: &str,
) -> Result<Option<Answer<'a>>, TraceError> {
    if !has_time(line) || !line.contains("icmp_seq=") {
        return Ok(None);
    }
    let place = recording.place(number, 1);
    let moment = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(moment, _)| moment)
        .ok_or_else(|| place.error("the line has no moment in brackets; record with `ping -D`"))?;
    let at_ns = decimal_ns(moment, 1_000_000_000).map_err(|why| place.error(why))?;
    let time = line
        .split_once(" time=")
        .map(|(_, rest)| rest.split_whitespace())
        .and_then(|mut words| Some((words.next()?, words.next()?)));
    let Some((value, "ms")) = time else {
        return Err(place.error("expected a round-trip time such as time=23.4 ms"));
    };
    let round_trip_ns = delay_ns(value, 1_000_000, Missing::Never)
        .map_err(|why| place.error(why))?
        .unwrap_or_default();
    Ok(Some(Answer {
        at_ns,
        round_trip_ns,
        place,
    }))
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let Some(&recording) = recordings.first() else {
        let nothing = Recording { name: "", text: "" };
        return Err(nothing.end().error("expected a file"));
    };
    let mut answers = Vec::new();
    for (number, line) in recording.lines() {
        answers.extend(answer(recording, number, line)?);
    }
    let mut timeline = Timeline::new();
    for answer in &answers {
        timeline.moment(answer.at_ns, answer.place)?;
        timeline.round_trip(answer.round_trip_ns);
    }
    let facts = Facts {
        format: IMPORTER.name,
        recordings: &recordings[..1],
        end: EndPolicy::Loop,
        sampled: true,
        end_ns: None,
        notes: vec!["each direction has half the round-trip time".to_owned()],
    };
    timeline.into_trace(facts, options)
}

#[cfg(test)]
mod tests {
    use super::super::{GapPolicy, detect as detect_any};
    use super::*;
    use crate::UNLIMITED_RATE_BPS;
    use proptest::prelude::*;

    const PING: &str = "\
PING 1.1.1.1 (1.1.1.1) 56(84) bytes of data.
[1700000000.000000] 64 bytes from 1.1.1.1: icmp_seq=1 ttl=57 time=40.0 ms
[1700000000.500000] 64 bytes from 1.1.1.1: icmp_seq=2 ttl=57 time=60.5 ms
[1700000001.000000] no answer yet for icmp_seq=3
[1700000001.500000] 64 bytes from 1.1.1.1: icmp_seq=4 ttl=57 time=41 ms
[1700000006.500000] 64 bytes from 1.1.1.1: icmp_seq=14 ttl=57 time=42 ms
[1700000007.000000] 64 bytes from 1.1.1.1: icmp_seq=15 ttl=57 time=42 ms
[1700000007.500000] 64 bytes from 1.1.1.1: icmp_seq=16 ttl=57 time=42 ms
[1700000008.000000] 64 bytes from 1.1.1.1: icmp_seq=17 ttl=57 time=42 ms

--- 1.1.1.1 ping statistics ---
14 packets transmitted, 4 received, rtt min/avg/max/mdev = 40/45/60/1 ms
";

    fn imported(text: &str, gaps: GapPolicy) -> Result<Trace, String> {
        let recording = Recording {
            name: "ping.txt",
            text,
        };
        let options = ImportOptions {
            gaps,
            ..ImportOptions::default()
        };
        import(&[recording], &options).map_err(|error| error.to_string())
    }

    #[test]
    fn half_the_round_trip_is_each_direction_s_delay() {
        let recording = Recording {
            name: "ping.txt",
            text: PING,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["ping"]);
        let trace = imported(PING, GapPolicy::Hold).unwrap();
        let delays: Vec<(u64, u64)> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns / 1_000_000, row.up.delay_ns / 1000))
            .collect();
        assert_eq!(
            delays,
            [(0, 20_000), (500, 30_250), (1500, 20_500), (6500, 21_000)]
        );
        assert!(
            trace
                .rows()
                .iter()
                .all(|row| row.down.rate_bps == UNLIMITED_RATE_BPS)
        );
    }

    #[test]
    fn time_without_answers_is_refused_or_an_outage() {
        let problem = imported(PING, GapPolicy::Refuse).unwrap_err();
        assert!(problem.contains("has no sample for 5.000 s"), "{problem}");
        let trace = imported(PING, GapPolicy::Outage).unwrap();
        let rates: Vec<(u64, bool)> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns / 1_000_000, row.down.rate_bps == 0))
            .collect();
        assert_eq!(
            rates,
            [
                (0, false),
                (500, false),
                (1500, false),
                (2000, true),
                (6500, false)
            ]
        );
    }

    #[test]
    fn what_is_no_ping_with_moments_is_refused() {
        assert!(imported("", GapPolicy::Hold).is_err());
        let without = PING.replace('[', "(").replace(']', ")");
        assert!(
            imported(&without, GapPolicy::Hold)
                .unwrap_err()
                .contains("ping -D")
        );
        assert!(imported(&PING.replace("60.5 ms", "60.5 s"), GapPolicy::Hold).is_err());
        assert!(imported(&PING.replace("time=41 ", "time=-41 "), GapPolicy::Hold).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text: String,
            lines in "(\\[[0-9.]{0,22}\\] icmp_seq=[0-9] time=[0-9.]{0,6} ms\\n){0,6}",
        ) {
            for text in [text, format!("{PING}{lines}"), lines] {
                for gaps in [GapPolicy::Hold, GapPolicy::Outage, GapPolicy::Refuse] {
                    let _ = imported(&text, gaps);
                }
            }
        }
    }
}
