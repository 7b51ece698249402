//! ERRANT's logs: which profile was in force from which moment on.
//!
//! A scenario file of ERRANT (operator, country, rat, quality, duration, period) names profiles
//! and holds no rates; the log of a run does.

use std::collections::BTreeSet;

use super::{
    Delimiter, Facts, ImportOptions, Importer, Missing, Quantity, RateUnit, Recording, Table,
    Timeline, civil_ns, decimal_ns, delay_ns, rate_bps,
};
use crate::{Direction, EndPolicy, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "errant",
    about: "ERRANT's log: time, operator, country, technology, quality, download, upload (kbit/s), rtt (ms)",
    most_files: 1,
    detect,
    import,
};

const WORDS: [&str; 4] = ["operator", "country", "technology", "quality"];

fn detect(recording: &Recording<'_>) -> bool {
    Table::new(*recording, Delimiter::Comma).is_ok_and(|table| {
        ["time", "operator", "download", "upload", "rtt"]
            .iter()
            .all(|name| table.find(name).is_some())
    })
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let recording = Recording::first(recordings);
    let table = Table::new(recording, Delimiter::Comma)?;
    if table.find("rat").is_some() && table.find("duration").is_some() {
        return Err(recording.place(1, 1).error(
            "this is a scenario of ERRANT, which names profiles but holds no rates; import the \
             log of its run",
        ));
    }
    let time = table.column("time")?;
    let down = table.column("download")?;
    let up = table.column("upload")?;
    let rtt = table.column("rtt")?;
    let mut chosen = Vec::new();
    for (name, value) in &options.select {
        chosen.push((table.column(name)?, name.as_str(), value.as_str()));
    }
    let mut timeline = Timeline::new();
    let mut profiles = BTreeSet::new();
    for record in table.records() {
        let mut skip = false;
        for (index, name, value) in &chosen {
            skip |= record.cell(*index, name)?.text != *value;
        }
        if skip {
            continue;
        }
        let cell = record.cell(time, "time")?;
        let at_ns = decimal_ns(cell.text, 1_000_000_000)
            .or_else(|problem| {
                civil_ns(cell.text)
                    .map(|(at_ns, _)| at_ns)
                    .map_err(|_civil| problem)
            })
            .map_err(|problem| cell.error(problem))?;
        timeline.moment(at_ns, cell.place)?;
        for (index, name, direction) in [
            (down, "download", Direction::Down),
            (up, "upload", Direction::Up),
        ] {
            let cell = record.cell(index, name)?;
            let bps = rate_bps(cell.text, RateUnit::Kilobit, Missing::Never)
                .map_err(|problem| cell.error(problem))?;
            if let Some(bps) = bps {
                timeline.sample(Quantity::Rate(direction), bps);
            }
        }
        let cell = record.cell(rtt, "rtt")?;
        let rtt_ns = delay_ns(cell.text, 1_000_000, Missing::Never)
            .map_err(|problem| cell.error(problem))?;
        if let Some(rtt_ns) = rtt_ns {
            timeline.round_trip(rtt_ns);
        }
        let words = WORDS.iter().filter_map(|word| {
            let cell = record.cells.get(table.find(word)?)?;
            Some(cell.text)
        });
        if profiles.len() < 20 {
            profiles.insert(words.collect::<Vec<_>>().join(" "));
        }
    }
    let profiles: Vec<String> = profiles.into_iter().collect();
    let notes = vec![
        format!("imported from ERRANT; profiles: {}", profiles.join("; ")),
        "each direction's delay is half the round trip".to_owned(),
    ];
    timeline.into_trace(
        Facts {
            format: IMPORTER.name,
            recordings,
            end: EndPolicy::Hold,
            sampled: false,
            end_ns: None,
            notes,
        },
        options,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "time,operator,country,technology,quality,download,upload,rtt\n\
                       0,telia,norway,3g,good,5000,1000,60\n\
                       5,telia,norway,3g,medium,2500.5,800,80\n\
                       10,other,norway,3g,bad,1,1,1\n";

    #[test]
    fn a_log_becomes_rates_and_half_round_trips() {
        let recording = Recording {
            name: "log.csv",
            text: LOG,
        };
        assert!(detect(&recording));
        let trace = import(&[recording], &ImportOptions::default()).unwrap();
        let second = &trace.rows()[1];
        assert_eq!(
            (second.t_ns, second.down.rate_bps),
            (5_000_000_000, 2_500_500)
        );
        assert_eq!(second.up.delay_ns, 40_000_000);
        let mut options = ImportOptions::default();
        options
            .select
            .insert("operator".to_owned(), "telia".to_owned());
        let trace = import(&[recording], &options).unwrap();
        assert_eq!(trace.rows().len(), 2);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_column() {
        let scenario = "operator,country,rat,quality,duration,period\ntelia,norway,3g,good,5,-\n";
        for (text, place, problem) in [
            (scenario.to_owned(), "l:1:1", "holds no rates"),
            (
                LOG.replace("rtt", "ping"),
                "l:1:1",
                "column `rtt` is missing",
            ),
            (LOG.replace("2500.5", "many"), "l:3:26", "expected a number"),
            (LOG.replace("\n5,", "\n-5,"), "l:3:1", "time goes back"),
            (String::new(), "l:1:1", "empty"),
        ] {
            let recording = Recording {
                name: "l",
                text: &text,
            };
            let error = import(&[recording], &ImportOptions::default())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(place) && error.contains(problem),
                "{error}"
            );
        }
    }
}
