use super::super::{GapPolicy, detect, importer_named};
use super::*;
use crate::{Direction, UNLIMITED_RATE_BPS};
use proptest::prelude::*;

fn recording(text: &str) -> Recording<'_> {
    Recording {
        name: "file.csv",
        text,
    }
}

fn imported(name: &str, text: &str, options: &ImportOptions) -> Result<Trace, String> {
    let importer = importer_named(name).unwrap();
    (importer.import)(&[recording(text)], options).map_err(|error| error.to_string())
}

fn detected(text: &str) -> Vec<&'static str> {
    let found = detect(&recording(text));
    found.iter().map(|importer| importer.name).collect()
}

const UCC: &str = "\
Timestamp,Longitude,Latitude,Speed,Operatorname,CellID,NetworkMode,RSRP,RSRQ,SNR,CQI,RSSI,\
DL_bitrate,UL_bitrate,State,PINGAVG,PINGMIN,RAWCELLID
2019.12.14_10.16.30,-8.4,51.8,0,B,12,5G,-96,-13,9.5,10,-,100000,2000,D,41.5,40,77
2019.12.14_10.16.30,-8.4,51.8,0,B,12,5G,-96,-13,-,-,-,300000,4000,D,-,-,77
2019.12.14_10.16.31,-8.4,51.8,0,B,12,LTE,-96,-13,4,7,-,50,-,D,-,-,78
2019.12.14_10.16.33,-8.4,51.8,0,B,12,LTE,-96,-13,4,7,-,60,70,D,-,-,78
2019.12.14_10.16.34,-8.4,51.8,0,B,12,LTE,-96,-13,4,7,-,60,70,D,-,-,78
2019.12.14_10.16.35,-8.4,51.8,0,B,12,LTE,-96,-13,4,7,-,60,70,D,-,-,78
";

#[test]
fn the_5g_production_dataset_is_known_by_its_header_and_read_in_its_units() {
    assert_eq!(detected(UCC), ["ucc-5g"]);
    let trace = imported("ucc-5g", UCC, &ImportOptions::default()).unwrap();
    let rows = trace.rows();
    // Two rows of one second are their mean; the third has no uplink, so the last one holds.
    assert_eq!(rows[0].down.rate_bps, 200_000_000);
    assert_eq!(rows[0].up.rate_bps, 3_000_000);
    assert_eq!(rows[0].down.delay_ns, 20_750_000);
    assert_eq!(rows[1].down.rate_bps, 50_000);
    assert_eq!(rows[1].up.rate_bps, 3_000_000);
    assert_eq!(rows[1].diagnostics.cell_id, Some(78));
    assert_eq!(rows[1].diagnostics.sinr_cdb, Some(400));
    let notes = trace.metadata().notes.join("\n");
    assert!(notes.contains("samples are missing"), "{notes}");
}

#[test]
fn a_long_gap_is_refused_or_becomes_what_was_told() {
    let text = UCC
        .replace("10.16.34", "10.18.00")
        .replace("10.16.35", "10.18.01");
    let problem = imported("ucc-5g", &text, &ImportOptions::default()).unwrap_err();
    assert!(problem.contains("no sample for"), "{problem}");
    let options = ImportOptions {
        gaps: GapPolicy::Outage,
        ..ImportOptions::default()
    };
    let trace = imported("ucc-5g", &text, &options).unwrap();
    assert!(trace.rows().iter().any(|row| row.down.rate_bps == 0));
}

#[test]
fn one_run_of_lumos5g_is_selected() {
    let header = "run_num,seq_num,abstractSignalStr,nrStatus,nr_ssSinr,Throughput,tower_id\n";
    let text = format!(
        "{header}1,1,4,CONNECTED,12.5,503.25,3\n1,2,4,CONNECTED,,0,3\n2,1,4,CONNECTED,1,7,3\n"
    );
    assert_eq!(detected(&text), ["lumos5g"]);
    let problem = imported("lumos5g", &text, &ImportOptions::default()).unwrap_err();
    assert!(problem.contains("--select run_num=1"), "{problem}");
    let options = ImportOptions {
        select: [("run_num".to_owned(), "1".to_owned())].into(),
        ..ImportOptions::default()
    };
    let trace = imported("lumos5g", &text, &options).unwrap();
    assert_eq!(trace.rows()[0].down.rate_bps, 503_250_000);
    assert_eq!(trace.rows()[1].down.rate_bps, 0);
    assert_eq!(trace.rows()[0].up.rate_bps, UNLIMITED_RATE_BPS);
    assert_eq!(trace.duration_ns(), 2_000_000_000);
}

#[test]
fn a_zone_holds_for_the_whole_recording_and_one_rate_may_be_the_uplink() {
    let text = "time,throughput,speed,latitude,longtitu,area_type\n\
                2023-06-01 12:00:00 CDT,100,1,2,3,urban\n2023-06-01 12:00:01 CDT,-1,1,2,3,urban\n\
                2023-06-01 12:00:02 CDT,20,1,2,3,urban\n";
    assert_eq!(detected(text), ["5gtracker"]);
    let options = ImportOptions {
        direction: Direction::Up,
        ..ImportOptions::default()
    };
    let trace = imported("5gtracker", text, &options).unwrap();
    assert_eq!(trace.rows()[0].up.rate_bps, 100_000_000);
    assert_eq!(trace.rows()[1].t_ns, 2_000_000_000, "-1 is no rate");
    let changed = text.replace("12:00:02 CDT", "12:00:02 CST");
    let problem = imported("5gtracker", &changed, &options).unwrap_err();
    assert!(problem.contains("CDT to CST"), "{problem}");
}

#[test]
fn round_trips_alone_make_delays_without_a_limit_of_rate() {
    let text = "timestamp,relative,rtt\n1700000000.000000001,0,40\n1700000000.5,0.5,-1\n\
                1700000001,1,60\n";
    assert_eq!(detected(text), ["starlink-rtt"]);
    let trace = imported("starlink-rtt", text, &ImportOptions::default()).unwrap();
    assert_eq!(trace.rows()[0].up.delay_ns, 20_000_000);
    assert_eq!(trace.rows()[1].down.delay_ns, 30_000_000);
    assert_eq!(trace.rows()[0].down.rate_bps, UNLIMITED_RATE_BPS);
    let gap = format!("{text}1700000001.5,1,60\n1700000002,1,60\n1700000009,1,60\n");
    let problem = imported("starlink-rtt", &gap, &ImportOptions::default()).unwrap_err();
    assert!(problem.contains("no sample for 7.000 s"), "{problem}");
    let text = "timestamp,rtt,uplink,downlink\n1700000000000000000,40,15,25\n\
                1700000000010000000,-1,0,0\n1700000000020000000,44,15,25\n";
    assert_eq!(detected(text), ["lens-irtt"]);
    let trace = imported("lens-irtt", text, &ImportOptions::default()).unwrap();
    assert_eq!(
        trace.rows()[1].t_ns,
        20_000_000,
        "a lost probe is no delay of 0"
    );
}

#[test]
fn any_table_is_read_by_the_columns_that_are_named() {
    let columns = [
        ("time", "t:ms"),
        ("down", "dl:Mbit/s"),
        ("delay-up", "d:us"),
        ("loss-down", "lost:%"),
    ]
    .map(|(role, text)| (role.to_owned(), text.to_owned()));
    let options = ImportOptions {
        columns: columns.into(),
        ..ImportOptions::default()
    };
    let text = "lost;d;dl;t\n1.5;2500;12;0\n0;2500;13;100\n";
    let trace = imported("table", text, &options).unwrap();
    let row = &trace.rows()[0];
    assert_eq!(row.down.rate_bps, 12_000_000);
    assert_eq!(row.down.loss_ppb, 15_000_000);
    assert_eq!(row.up.delay_ns, 2_500_000);
    let problem = imported("table", text, &ImportOptions::default()).unwrap_err();
    assert!(problem.contains("--column"), "{problem}");
    let problem = imported("table", "a,t\n1,2\n", &options).unwrap_err();
    assert!(
        problem.contains("`delay-up`") || problem.contains("is missing"),
        "{problem}"
    );
}

#[test]
fn what_cannot_be_true_is_refused_with_its_place() {
    for (from, to, expected) in [
        (",100000,", ",9e12,", "cannot be true"),
        (",100000,", ",fast,", "expected a number"),
        (
            "2019.12.14_10.16.31",
            "2019.12.14_10.16.29",
            "time goes back",
        ),
        ("2019.12.14_10.16.31", "yesterday", "expected a date"),
        ("DL_bitrate", "bitrate", "is missing"),
    ] {
        let problem =
            imported("ucc-5g", &UCC.replace(from, to), &ImportOptions::default()).unwrap_err();
        assert!(problem.contains(expected), "{to}: {problem}");
        assert!(problem.contains("file.csv"), "{problem}");
    }
    for text in ["", "\n\n", "Timestamp,DL_bitrate,UL_bitrate,NetworkMode\n"] {
        assert!(imported("ucc-5g", text, &ImportOptions::default()).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_makes_an_importer_of_tables_panic(
        text: String,
        rows in "[0-9a-zT:.,;_\\- \\n\"]{0,200}",
    ) {
        let columns = [("time", "t:s"), ("down", "r:Mbit/s"), ("rtt", "p:ms")]
            .map(|(role, text)| (role.to_owned(), text.to_owned()));
        let options = ImportOptions {
            columns: columns.into(),
            gaps: GapPolicy::Outage,
            ..ImportOptions::default()
        };
        for text in [text, format!("t,r,p\n{rows}"), format!("{UCC}{rows}")] {
            for name in ["table", "ucc-5g", "lumos5g", "5gtracker", "starlink-rtt", "lens-irtt"] {
                let _ = imported(name, &text, &options);
                let _ = imported(name, &text, &ImportOptions::default());
            }
            let _ = detect(&recording(&text));
        }
    }
}
