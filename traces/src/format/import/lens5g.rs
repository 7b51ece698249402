//! RxPacketTrace of 5G-LENA: one line per transport block.

use super::{Delimiter, Facts, ImportOptions, Importer, Quantity, Recording, Table, Timeline};
use super::{Missing, decimal_ns, number};
use crate::{Diagnostics, Direction, EndPolicy, Trace, TraceError};

/// The length of the windows over which blocks are added up, unless the options give one.
const WINDOW_NS: u64 = 10_000_000;
/// A transport block has fewer bytes than this (TS 38.214 allows about 10^7 bits).
const LARGEST_BLOCK_BYTES: u64 = 100_000_000;

pub(super) const IMPORTER: Importer = Importer {
    name: "5g-lena",
    about: "RxPacketTrace of 5G-LENA or ns3-mmwave: bytes of undamaged transport blocks per \
            --step (10 ms); select one user with --select rnti=N",
    most_files: 1,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    Table::new(*recording, Delimiter::Blank).is_ok_and(|table| {
        ["Time", "rnti", "tbSize", "corrupt"]
            .iter()
            .all(|name| table.find(name).is_some())
    })
}

/// What was received of one window.
#[derive(Default)]
struct Window {
    bytes: [u64; 2],
    known: Diagnostics,
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let Some(&recording) = recordings.first() else {
        let nothing = Recording { name: "", text: "" };
        return Err(nothing.end().error("expected a file"));
    };
    let table = Table::new(recording, Delimiter::Blank)?;
    let time = table.column("Time")?;
    let user = table.column("rnti")?;
    let size = table.column("tbSize")?;
    let corrupt = table.column("corrupt")?;
    let direction = table.find("direction").or_else(|| table.find("dir"));
    let sinr = table.find("SINR(dB)").or_else(|| table.find("sinr"));
    let scheme = table.find("mcs");
    let cell = table.find("cellId");
    let mut selected = Vec::new();
    for (name, value) in &options.select {
        selected.push((table.column(name)?, value.as_str()));
    }
    let window_ns = options.step_ns.unwrap_or(WINDOW_NS).max(1);
    let window_signed = i64::try_from(window_ns).unwrap_or(i64::MAX);
    let mut timeline = Timeline::new();
    let mut open: Option<(i64, Window)> = None;
    let mut first_user: Option<&str> = None;
    let mut damaged = 0_u64;
    for record in table.records() {
        let is_selected = selected.iter().all(|(index, value)| {
            let cell = record.cells.get(*index);
            cell.is_some_and(|cell| cell.text == *value)
        });
        if !is_selected {
            continue;
        }
        let moment = record.cell(time, "Time")?;
        let at_ns = decimal_ns(moment.text, 1_000_000_000).map_err(|why| moment.error(why))?;
        let who = record.cell(user, "rnti")?;
        let first = *first_user.get_or_insert(who.text);
        if first != who.text {
            return Err(who.error(format!(
                "the file holds several users, the first of which is {first}; select one, as in \
                 --select rnti={first}"
            )));
        }
        let way = match direction {
            None => options.direction,
            Some(index) => {
                let cell = record.cell(index, "direction")?;
                match cell.text {
                    "DL" => Direction::Down,
                    "UL" => Direction::Up,
                    _ => return Err(cell.error("expected DL or UL")),
                }
            }
        };
        let bytes = record.cell(size, "tbSize")?;
        let count: u64 = bytes
            .text
            .parse()
            .ok()
            .filter(|count| *count <= LARGEST_BLOCK_BYTES)
            .ok_or_else(|| bytes.error("expected the bytes of a transport block"))?;
        let is_damaged = match record.cell(corrupt, "corrupt")?.text {
            "0" => false,
            "1" => true,
            _ => return Err(record.cell(corrupt, "corrupt")?.error("expected 0 or 1")),
        };
        let number_of = at_ns.div_euclid(window_signed);
        match &open {
            Some((current, _)) if *current == number_of => {}
            Some((current, _)) if number_of < *current => {
                return Err(moment.error("time goes back; expected rows in order of time"));
            }
            _ => {
                if let Some((before, window)) = open.take() {
                    let (end, place) = (before.saturating_add(1), record.place);
                    close(&mut timeline, before, &window, window_ns, place)?;
                    if end < number_of {
                        close(&mut timeline, end, &Window::default(), window_ns, place)?;
                    }
                }
                open = Some((number_of, Window::default()));
            }
        }
        let Some((_, window)) = &mut open else {
            continue;
        };
        damaged += u64::from(is_damaged);
        if !is_damaged {
            let slot = usize::from(way == Direction::Up);
            window.bytes[slot] = window.bytes[slot].saturating_add(count);
        }
        if way == Direction::Down {
            let value = |index: Option<usize>| index.and_then(|index| record.cells.get(index));
            let decibel = value(sinr).and_then(|cell| number(cell.text, Missing::Dash).ok()?);
            window.known = Diagnostics {
                sinr_cdb: decibel.and_then(super::dataset::hundredths),
                mcs: value(scheme).and_then(|cell| cell.text.parse().ok()),
                cell_id: value(cell).and_then(|cell| cell.text.parse().ok()),
                ..Diagnostics::default()
            };
        }
    }
    let end = open.as_ref().map(|(number, _)| number.saturating_add(1));
    if let Some((number, window)) = &open {
        close(&mut timeline, *number, window, window_ns, table.end())?;
    }
    let facts = Facts {
        format: IMPORTER.name,
        recordings: &recordings[..1],
        end: EndPolicy::Loop,
        sampled: false,
        end_ns: end.and_then(|end| end.checked_mul(window_signed)),
        notes: vec![format!(
            "rates are the undamaged transport blocks of {window_ns} ns each, headers of MAC and \
             RLC included; {damaged} damaged blocks carry nothing; windows without blocks are \
             outages"
        )],
    };
    timeline.into_trace(facts, options)
}

/// Notes the rates of a window in both directions.
fn close(
    timeline: &mut Timeline,
    number: i64,
    window: &Window,
    window_ns: u64,
    place: super::Place<'_>,
) -> Result<(), TraceError> {
    let at_ns = i64::try_from(window_ns)
        .ok()
        .and_then(|window_ns| number.checked_mul(window_ns))
        .ok_or_else(|| place.error("the moment is too far away"))?;
    timeline.moment(at_ns, place)?;
    for (direction, bytes) in [Direction::Down, Direction::Up]
        .into_iter()
        .zip(window.bytes)
    {
        let bits = u128::from(bytes) * 8 * 1_000_000_000;
        let rate = u64::try_from(bits / u128::from(window_ns))
            .ok()
            .filter(|rate| *rate <= 1_000_000_000_000)
            .ok_or_else(|| place.error("a window carries more than 1 Tbit/s; use a longer step"))?;
        timeline.sample(Quantity::Rate(direction), rate);
    }
    if window.known != Diagnostics::default() {
        timeline.diagnostics(window.known.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::detect as detect_any;
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "\
Time\tdirection\tframe\tsubF\tslot\t1stSym\tnSymbol\tcellId\tbwpId\trnti\ttbSize\tmcs\trank\trv\tSINR(dB)\tCQI\tcorrupt\tTBler
0.4000\tDL\t40\t0\t0\t1\t12\t2\t0\t1\t1000\t20\t1\t0\t21.5\t13\t0\t0.01
0.4010\tUL\t40\t1\t0\t1\t12\t2\t0\t1\t250\t20\t1\t0\t11.5\t13\t0\t0.01
0.4020\tDL\t40\t2\t0\t1\t12\t2\t0\t1\t1000\t20\t1\t0\t21.5\t13\t1\t0.01
0.4120\tDL\t41\t2\t0\t1\t12\t2\t0\t1\t2000\t27\t1\t0\t25\t15\t0\t0.01
0.4520\tDL\t45\t2\t0\t1\t12\t2\t0\t1\t3000\t27\t1\t0\t25\t15\t0\t0.01
";

    fn imported(text: &str, options: &ImportOptions) -> Result<Trace, String> {
        let recording = Recording {
            name: "rx.txt",
            text,
        };
        import(&[recording], options).map_err(|error| error.to_string())
    }

    #[test]
    fn undamaged_blocks_are_added_up_per_window() {
        let recording = Recording {
            name: "rx.txt",
            text: TRACE,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["5g-lena"]);
        let trace = imported(TRACE, &ImportOptions::default()).unwrap();
        let rows: Vec<(u64, u64, u64)> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns / 1_000_000, row.down.rate_bps, row.up.rate_bps))
            .collect();
        let expected = [
            (0, 800_000, 200_000),
            (10, 1_600_000, 0),
            (20, 0, 0),
            (50, 2_400_000, 0),
        ];
        assert_eq!(rows, expected);
        assert_eq!(trace.duration_ns(), 60_000_000);
        assert_eq!(trace.rows()[0].diagnostics.mcs, Some(20));
        assert_eq!(trace.rows()[0].diagnostics.sinr_cdb, Some(2150));
    }

    #[test]
    fn several_users_and_wrong_fields_are_refused() {
        let two = format!("{TRACE}0.46\tDL\t45\t2\t0\t1\t12\t2\t0\t9\t3\t27\t1\t0\t25\t15\t0\t0\n");
        let problem = imported(&two, &ImportOptions::default()).unwrap_err();
        assert!(problem.contains("--select rnti=1"), "{problem}");
        let options = ImportOptions {
            select: [("rnti".to_owned(), "9".to_owned())].into(),
            ..ImportOptions::default()
        };
        assert!(imported(&two, &options).is_ok());
        for (from, to) in [
            ("\tDL\t40\t0", "\tSL\t40\t0"),
            ("\t1000\t", "\tmany\t"),
            ("0.4120", "0.3"),
            ("tbSize", "size"),
        ] {
            assert!(imported(&TRACE.replace(from, to), &ImportOptions::default()).is_err());
        }
        assert!(imported("", &ImportOptions::default()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, rows in "[0-9DUL.\\t\\n -]{0,200}", step: u64) {
            let options = ImportOptions { step_ns: Some(step), ..ImportOptions::default() };
            for text in [text, format!("{TRACE}{rows}")] {
                let _ = imported(&text, &ImportOptions::default());
                let _ = imported(&text, &options);
            }
        }
    }
}
