//! Pensieve's "cooked" traces: seconds and Mbit/s, at irregular moments.
//!
//! The player of Pensieve lets a row's rate hold from the row before it until its own moment, and
//! starts again after the last. The first row is only where time begins.

use super::{
    Delimiter, Facts, ImportOptions, Importer, Missing, Quantity, RateUnit, Recording, Timeline,
    decimal_ns, direction, rate_bps, records,
};
use crate::{EndPolicy, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "pensieve",
    about: "Pensieve \"cooked\": seconds, tab, Mbit/s; one file a direction",
    most_files: 2,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    let mut lines = recording.lines().take(20).peekable();
    lines.peek().is_some()
        && lines.all(|(_, line)| {
            let mut fields = line.split('\t');
            let numbers = fields
                .by_ref()
                .take(2)
                .filter(|field| !field.is_empty() && field.trim().parse::<f64>().is_ok());
            numbers.count() == 2 && fields.next().is_none()
        })
}

/// When a direction's rate changes, and when its last row ends.
struct Steps {
    changes: Vec<(i64, u64)>,
    end_ns: i64,
}

fn read(recording: Recording<'_>) -> Result<Steps, TraceError> {
    let mut changes = Vec::new();
    let mut first_ns = None;
    let mut previous_ns = 0;
    for record in records(recording, Delimiter::Blank) {
        let time = record.cell(0, "seconds")?;
        let rate = record.cell(1, "Mbit/s")?;
        if let Some(more) = record.cells.get(2) {
            return Err(more.error("expected nothing after seconds and Mbit/s"));
        }
        let at_ns = decimal_ns(time.text, 1_000_000_000).map_err(|problem| time.error(problem))?;
        let bps = rate_bps(rate.text, RateUnit::Megabit, Missing::Never)
            .map_err(|problem| rate.error(problem))?
            .unwrap_or(0);
        match first_ns {
            None => first_ns = Some(at_ns),
            Some(_) if at_ns < previous_ns => {
                return Err(time.error("time goes back; expected rows in order of time"));
            }
            Some(_) if at_ns == previous_ns => {}
            Some(first_ns) => changes.push((previous_ns.saturating_sub(first_ns), bps)),
        }
        previous_ns = at_ns;
    }
    let end_ns = first_ns.map_or(0, |first_ns| previous_ns.saturating_sub(first_ns));
    if changes.is_empty() {
        let place = recording.end();
        return Err(place.error("expected at least two rows at different moments before this"));
    }
    Ok(Steps { changes, end_ns })
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let mut notes = vec![
        "imported from Pensieve: a row's rate holds from the row before it on, as in Pensieve"
            .to_owned(),
    ];
    let mut all = Vec::new();
    let mut end_ns = 0;
    for (direction, recording) in direction::of_pair(recordings, options) {
        let steps = read(recording)?;
        if end_ns != 0 && end_ns != steps.end_ns {
            notes.push("the directions have different lengths; the shorter one holds".to_owned());
        }
        end_ns = end_ns.max(steps.end_ns);
        let changes = steps.changes.into_iter();
        all.extend(changes.map(|(at_ns, bps)| (at_ns, Quantity::Rate(direction), bps)));
    }
    Timeline::of_steps(all, recordings)?.into_trace(
        Facts {
            format: IMPORTER.name,
            recordings,
            end: EndPolicy::Loop,
            sampled: false,
            end_ns: Some(end_ns),
            notes,
        },
        options,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Result<Trace, TraceError> {
        let recording = Recording { name: "fcc", text };
        assert!(text.is_empty() || detect(&recording) || text.contains('x'));
        import(&[recording], &ImportOptions::default())
    }

    #[test]
    fn a_rate_holds_until_its_own_moment() {
        let trace = imported("0.0\t1.022096\n1.4564\t1.065184\n3.0\t0\n").unwrap();
        let rows: Vec<_> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns, row.down.rate_bps))
            .collect();
        assert_eq!(rows, [(0, 1_065_184), (1_456_400_000, 0)]);
        assert_eq!(trace.duration_ns(), 3_000_000_000);
        assert_eq!(trace.metadata().end, EndPolicy::Loop);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_column() {
        for (text, place) in [
            ("", "fcc:1:1"),
            ("0.0\t1.0\n", "fcc:1:1"),
            ("0.0\t1.0\n1.0\tx\n", "fcc:2:5"),
            ("0.0\t1.0\n1.0\t-1\n", "fcc:2:5"),
            ("0.0\t1.0\n1.0\tNaN\n", "fcc:2:5"),
            ("2.0\t1.0\n1.0\t1.0\n", "fcc:2:1"),
        ] {
            let error = imported(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
