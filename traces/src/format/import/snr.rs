//! A recording of signal-to-noise ratios of one's own: our link adaptation makes rates, delays and
//! losses of it.
//!
//! The user has all of one carrier: 100 MHz at 30 kHz with the pattern `DDDSU`, unless the options
//! set another ([`super::snr_radio`]). Each value holds until the next, in all subbands alike.

use super::snr_radio::{self, Radio};
use super::{
    Delimiter, Facts, GapPolicy, ImportOptions, Importer, Missing, Place, Quantity, Recording,
    Table, Timeline, decimal_ns, number,
};
use crate::phy::linear;
use crate::{Diagnostics, Direction, EndPolicy, Trace, TraceError};

/// The length of the rows, unless the options give one.
const ROW_NS: u64 = 100_000_000;
/// Slots of 0.5 ms over a day.
const MOST_SLOTS: u64 = 172_800_000;
/// Ratios beyond this are no decibels.
const LARGEST_DB: f64 = 100.0;

pub(super) const IMPORTER: Importer = Importer {
    name: "snr",
    about: "table with the columns time_s and snr_db, and snr_up_db where the uplink has its own: \
            link adaptation makes rows of --step (100 ms) of it, of a 100 MHz NR carrier unless \
            --set radio.KEY=VALUE says otherwise",
    most_files: 1,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    Table::new(*recording, Delimiter::Comma)
        .is_ok_and(|table| table.find("time_s").is_some() && table.find("snr_db").is_some())
}

/// The linear ratios of both directions from a moment on; nothing where nothing was measured.
struct Piece {
    from_ns: i64,
    ratios: Option<[f64; 2]>,
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let Some(&recording) = recordings.first() else {
        let nothing = Recording { name: "", text: "" };
        return Err(nothing.end().error("expected a file"));
    };
    let table = Table::new(recording, Delimiter::Comma)?;
    let (pieces, end_ns) = pieces(&table, options)?;
    let place = table.end();
    let (Some(first), true) = (pieces.first(), end_ns > i64::MIN) else {
        return Err(place.error("there is no sample before this; expected rows of data"));
    };
    let carrier = snr_radio::carrier(&options.settings).map_err(|problem| place.error(problem))?;
    let mut radio = Radio::new(&carrier).map_err(|problem| place.error(problem))?;
    let length_ns = end_ns.abs_diff(first.from_ns);
    if length_ns / radio.slot_ns > MOST_SLOTS {
        return Err(place.error("the recording is longer than a day; import a part of it"));
    }
    let row_ns = options.step_ns.unwrap_or(ROW_NS).max(radio.slot_ns);
    let slots_per_row = (row_ns / radio.slot_ns).max(1);
    let mut timeline = Timeline::new();
    let mut rest = pieces.as_slice();
    let mut ratios = None;
    let mut slot = 0_u64;
    while slot.saturating_mul(radio.slot_ns) < length_ns {
        let mut row = Sums::default();
        let from_ns = moment(first.from_ns, slot, radio.slot_ns);
        for _ in 0..slots_per_row {
            let at_ns = moment(first.from_ns, slot, radio.slot_ns);
            while let Some((piece, later)) = rest.split_first() {
                if piece.from_ns > at_ns {
                    break;
                }
                if ratios.is_none() != piece.ratios.is_none() {
                    radio.reset();
                }
                ratios = piece.ratios;
                rest = later;
            }
            row.slots += 1;
            if let Some(ratios) = ratios {
                row.serve(&mut radio, slot, ratios);
            }
            slot += 1;
        }
        timeline.moment(from_ns, place)?;
        row.note(&mut timeline, radio.slot_ns, options.delay_ns);
    }
    let facts = Facts {
        format: IMPORTER.name,
        recordings: &recordings[..1],
        end: EndPolicy::Loop,
        sampled: false,
        end_ns: Some(end_ns),
        notes: notes(&table, &snr_radio::in_words(&carrier)),
    };
    // The rows have the length that was asked for already.
    let options = ImportOptions {
        step_ns: None,
        ..options.clone()
    };
    let trace = timeline.into_trace(facts, &options)?;
    Ok(trace.with_said(|metadata| snr_radio::tell(&carrier, metadata)))
}

fn notes(table: &Table<'_>, carrier: &str) -> Vec<String> {
    let mut notes = vec![format!(
        "rates, delays and losses are computed from the recorded ratios by link adaptation of NR: \
         {carrier}, the whole carrier for one user; ratios are taken to be flat over frequency"
    )];
    if table.find("snr_up_db").is_none() {
        notes.push("the uplink is taken to have the downlink's ratio".to_owned());
    }
    notes
}

/// The values with their moments, gaps as the options say, and the end.
fn pieces(table: &Table<'_>, options: &ImportOptions) -> Result<(Vec<Piece>, i64), TraceError> {
    let time = table.column("time_s")?;
    let down = table.column("snr_db")?;
    let up = table.find("snr_up_db");
    let mut samples: Vec<(i64, Option<[f64; 2]>, Place<'_>)> = Vec::new();
    for record in table.records() {
        let moment = record.cell(time, "time_s")?;
        let at_ns = decimal_ns(moment.text, 1_000_000_000).map_err(|why| moment.error(why))?;
        if samples.last().is_some_and(|(last, ..)| at_ns < *last) {
            return Err(moment.error("time goes back; expected rows in order of time"));
        }
        let ratio = |index: usize, name: &str| {
            let cell = record.cell(index, name)?;
            let value = number(cell.text, Missing::Dash).map_err(|why| cell.error(why))?;
            match value {
                Some(db) if db.abs() > LARGEST_DB => {
                    Err(cell.error("cannot be true; expected -100 to 100 dB"))
                }
                value => Ok(value.map(linear)),
            }
        };
        let first = ratio(down, "snr_db")?;
        let second = match up {
            Some(index) => ratio(index, "snr_up_db")?,
            None => first,
        };
        let both = first.zip(second).map(|(first, second)| [first, second]);
        samples.push((at_ns, both, record.place));
    }
    samples.retain(|(_, ratios, _)| ratios.is_some());
    let moments: Vec<i64> = samples.iter().map(|(at_ns, ..)| *at_ns).collect();
    let usual_ns = super::gaps::usual_distance_ns(&moments)
        .unwrap_or(1_000_000_000)
        .max(1);
    let usual = i64::try_from(usual_ns).unwrap_or(i64::MAX);
    let limit_ns = options
        .longest_hold_ns
        .unwrap_or(usual_ns.saturating_mul(3));
    let mut pieces = Vec::with_capacity(samples.len());
    let mut before: Option<i64> = None;
    for (at_ns, ratios, place) in samples {
        if let Some(last) = before.filter(|last| last.abs_diff(at_ns) > limit_ns) {
            match options.gaps {
                GapPolicy::Hold => {}
                GapPolicy::Outage => pieces.push(Piece {
                    from_ns: last.saturating_add(usual).min(at_ns),
                    ratios: None,
                }),
                GapPolicy::Refuse => {
                    return Err(place.error(format!(
                        "there is no value for {} ns before this one, where values are {usual_ns} \
                         ns apart; say whether such gaps hold the last value or are outages",
                        last.abs_diff(at_ns)
                    )));
                }
            }
        }
        pieces.push(Piece {
            from_ns: at_ns,
            ratios,
        });
        before = Some(at_ns);
    }
    Ok((
        pieces,
        before.map_or(i64::MIN, |last| last.saturating_add(usual)),
    ))
}

fn moment(begin_ns: i64, slot: u64, slot_ns: u64) -> i64 {
    let since = i64::try_from(slot.saturating_mul(slot_ns)).unwrap_or(i64::MAX);
    begin_ns.saturating_add(since)
}

/// What the slots of a row brought.
#[derive(Default)]
struct Sums {
    slots: u64,
    served: u64,
    bits: [u64; 2],
    delay_ns: [u64; 2],
    jitter_ns: [u64; 2],
    loss_ppb: [u64; 2],
    mcs: Option<u8>,
    ratio: Option<f64>,
}

impl Sums {
    fn serve(&mut self, radio: &mut Radio, slot: u64, ratios: [f64; 2]) {
        self.served += 1;
        for (index, service) in radio.step(slot, ratios).into_iter().enumerate() {
            self.bits[index] += service.bits;
            self.delay_ns[index] = self.delay_ns[index].max(service.delay_ns);
            self.jitter_ns[index] = self.jitter_ns[index].max(service.jitter_ns);
            self.loss_ppb[index] += u64::from(service.loss_ppb);
            if index == 0 {
                self.mcs = Some(service.mcs);
                self.ratio = Some(ratios[0]);
            }
        }
    }

    fn note(&self, timeline: &mut Timeline, slot_ns: u64, delay_ns: u64) {
        let length_ns = u128::from(self.slots) * u128::from(slot_ns);
        for (index, direction) in [Direction::Down, Direction::Up].into_iter().enumerate() {
            let bits = u128::from(self.bits[index]) * 1_000_000_000;
            let rate = u64::try_from(bits / length_ns.max(1)).unwrap_or(0);
            timeline.sample(Quantity::Rate(direction), rate);
            if let Some(loss_ppb) = self.loss_ppb[index].checked_div(self.served) {
                let delay = self.delay_ns[index].saturating_add(delay_ns);
                timeline.sample(Quantity::Delay(direction), delay);
                timeline.sample(Quantity::Jitter(direction), self.jitter_ns[index]);
                timeline.sample(Quantity::Loss(direction), loss_ppb);
            }
        }
        timeline.diagnostics(Diagnostics {
            sinr_cdb: self
                .ratio
                .and_then(|ratio| super::dataset::hundredths(crate::phy::decibel(ratio))),
            mcs: self.mcs,
            ..Diagnostics::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::detect as detect_any;
    use super::*;
    use proptest::prelude::*;

    fn imported(text: &str, gaps: GapPolicy) -> Result<Trace, String> {
        let recording = Recording {
            name: "snr.csv",
            text,
        };
        let options = ImportOptions {
            gaps,
            delay_ns: 5_000_000,
            ..ImportOptions::default()
        };
        import(&[recording], &options).map_err(|error| error.to_string())
    }

    fn mean_rate(trace: &Trace, from_s: u64, to_s: u64) -> f64 {
        let curve = crate::CapacityCurve::new(trace, Direction::Down);
        let second = 1_000_000_000;
        let bits = curve.bits_between(from_s * second, to_s * second);
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let rate = bits as f64 / (to_s - from_s) as f64;
        rate
    }

    #[test]
    fn a_better_ratio_makes_a_faster_link() {
        let rows: Vec<String> = (0..9_usize)
            .map(|second| {
                format!(
                    "{second},{}
",
                    [0, 10, 25][second / 3]
                )
            })
            .collect();
        let text = format!(
            "time_s,snr_db
{}",
            rows.concat()
        );
        let recording = Recording {
            name: "snr.csv",
            text: &text,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["snr"]);
        let trace = imported(&text, GapPolicy::Refuse).unwrap();
        assert_eq!(trace.duration_ns(), 9_000_000_000);
        let [low, middle, high] = [0, 3, 6].map(|from| mean_rate(&trace, from + 1, from + 3));
        assert!(
            low > 1e7 && middle > 2.0 * low && high > 2.0 * middle,
            "{low} {middle} {high}"
        );
        assert!(high < 1.5e9);
        let last = trace.rows().last().unwrap();
        assert_eq!(last.diagnostics.sinr_cdb, Some(2500));
        assert!(last.down.delay_ns > 5_000_000 && last.up.delay_ns > last.down.delay_ns);
        assert_eq!(
            trace,
            imported(&text, GapPolicy::Refuse).unwrap(),
            "nothing is left to chance"
        );
    }

    fn with(settings: &[(&str, &str)]) -> Result<Trace, String> {
        let text = "time_s,snr_db\n0,25\n1,25\n2,25\n";
        let recording = Recording {
            name: "snr.csv",
            text,
        };
        let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let options = ImportOptions {
            settings: settings.iter().map(own).collect(),
            ..ImportOptions::default()
        };
        import(&[recording], &options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_carrier_is_what_the_options_say_and_the_trace_tells_it() {
        let usual = with(&[]).unwrap();
        let narrow = with(&[("radio.bandwidth", "20 MHz"), ("radio.carrier", "7 GHz")]).unwrap();
        let ratio = mean_rate(&usual, 1, 3) / mean_rate(&narrow, 1, 3);
        assert!((4.5..6.0).contains(&ratio), "273 blocks over 51: {ratio}");
        let radio = narrow.metadata().provenance.radio.clone().unwrap();
        assert_eq!(
            (radio.carrier_hz, radio.bandwidth_hz),
            (7_000_000_000, Some(20_000_000))
        );
        assert_eq!(narrow.metadata().configuration["radio.bandwidth"], "20 MHz");
        assert!(narrow.metadata().notes[0].contains("20 MHz at 30 kHz"));
        let one = with(&[("radio.downlink_layers", "1")]).unwrap();
        let ratio = mean_rate(&usual, 1, 3) / mean_rate(&one, 1, 3);
        assert!(ratio > 1.2, "two layers carry more than one: {ratio}");
        let wide = with(&[("radio.numerology", "3"), ("radio.carrier", "28 GHz")]).unwrap();
        assert!(wide.rows()[0].down.delay_ns < usual.rows()[0].down.delay_ns);
    }

    #[test]
    fn what_no_carrier_can_be_or_what_changes_nothing_is_refused() {
        for (key, value, expected) in [
            ("radio.numerology", "9", "numerology"),
            ("radio.bandwidth", "5 GHz", "bandwidth"),
            ("radio.bandwidth", "wide", "bandwidth"),
            (
                "radio.base_power",
                "40 dBm",
                "the recording has the ratio already",
            ),
            ("radio.colour", "1", "colour"),
            ("channel.scenario", "uma", "radio.KEY"),
        ] {
            let problem = with(&[(key, value)]).unwrap_err();
            assert!(problem.contains(expected), "{key}={value}: {problem}");
        }
    }

    #[test]
    fn gaps_are_refused_held_or_outages() {
        let text = "time_s,snr_db\n0,20\n1,20\n2,-\n3,20\n4,20\n5,20\n20,20\n21,20\n";
        let problem = imported(text, GapPolicy::Refuse).unwrap_err();
        assert!(problem.contains("no value for 15000000000 ns"), "{problem}");
        let held = imported(text, GapPolicy::Hold).unwrap();
        assert!(mean_rate(&held, 8, 19) > 1e8);
        let outage = imported(text, GapPolicy::Outage).unwrap();
        assert!(mean_rate(&outage, 7, 19) < 1.0);
        assert!(
            mean_rate(&outage, 2, 3) > 1e8,
            "a single missing second is held"
        );
    }

    #[test]
    fn what_is_no_table_of_ratios_is_refused() {
        for text in [
            "",
            "time_s,snr_db\n",
            "time_s,snr_db\n0,2000\n",
            "time_s,snr_db\n0,NaN\n",
            "time_s,snr_db\n1,2\n0,2\n",
            "time_s,snr\n1,2\n",
            "time_s,snr_db\n0,1\n1,1\n99999999,1\n",
        ] {
            assert!(imported(text, GapPolicy::Hold).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_text_makes_it_panic(text: String, rows in "([0-9]{1,2}\\.?[0-9]?,-?[0-9.]{1,3}\\n){0,5}") {
            for text in [text, format!("time_s,snr_db\n{rows}")] {
                let _ = imported(&text, GapPolicy::Outage);
            }
        }
    }
}
