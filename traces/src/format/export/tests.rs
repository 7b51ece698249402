use super::*;
use crate::format::TraceRows;
use crate::format::import::{ImportOptions, Recording, importer_named};
use crate::format::mahimahi as recordings;
use crate::generate::control::{self, Link};
use crate::{CapacityCurve, Direction, LinkState, Trace, TraceRow, UNLIMITED_RATE_BPS};
use proptest::prelude::*;

const PACKET_BITS: u64 = 12_000;

fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let rate = prop_oneof![Just(0), 1_u64..2_000_000_000];
    prop::collection::vec((1_u64..30_000_000, rate), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_mahimahi_file_is_never_a_packet_away_from_the_trace(mut steps in steps()) {
        // Something is carried, and the trace ends with a millisecond.
        steps.push((1_000_000, 30_000_000));
        let total: u64 = steps.iter().map(|(length_ns, _)| length_ns).sum();
        steps.push((1_000_000 - total % 1_000_000, 5_000_000));
        let trace = control::step(Link::new(0, 0, 0), &steps).unwrap();
        let mut file = Vec::new();
        let exported = mahimahi(TraceRows::new(&trace), Direction::Up, &mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        let lines: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        prop_assert_eq!(u64::try_from(lines.len()).unwrap(), exported.entries);
        let curve = CapacityCurve::new(&trace, Direction::Up);
        let period_ms = trace.duration_ns() / 1_000_000;
        prop_assert_eq!(lines.last(), Some(&period_ms));
        let mut delivered = 0;
        let mut lines = lines.into_iter().peekable();
        for ms in 1..=period_ms {
            while lines.next_if_eq(&ms).is_some() {
                delivered += PACKET_BITS;
            }
            let carried = curve.bits_between(0, ms * 1_000_000);
            if ms < period_ms {
                prop_assert!(delivered <= carried && carried - delivered < PACKET_BITS);
            } else {
                prop_assert!(delivered.abs_diff(carried) <= PACKET_BITS);
            }
        }
    }
}

#[test]
fn a_mahimahi_file_that_was_imported_is_exported_again_line_by_line() {
    let text = "1\n1\n3\n7\n7\n7\n12\n";
    let settings = recordings::ImportSettings {
        scenario: "x".to_owned(),
        delay_ns: 0,
        queue_bytes: 0,
    };
    let trace = recordings::parse(text, None, &settings).unwrap();
    let mut file = Vec::new();
    let exported = mahimahi(TraceRows::new(&trace), Direction::Down, &mut file).unwrap();
    assert_eq!(String::from_utf8(file).unwrap(), text);
    assert_eq!(exported.warnings, Vec::<String>::new());
    let up = mahimahi(TraceRows::new(&trace), Direction::Up, &mut Vec::new());
    assert!(up.unwrap_err().to_string().contains("unlimited"));
}

#[test]
fn a_fast_link_and_an_end_without_a_packet_are_told() {
    let trace = control::step(
        Link::new(0, 5, 0),
        &[(2_000_000, 2_000_000_000), (5_000_000, 0)],
    );
    let mut file = Vec::new();
    let exported = mahimahi(TraceRows::new(&trace.unwrap()), Direction::Down, &mut file).unwrap();
    let told = exported.warnings.join("\n");
    for part in ["1 Gbit/s", "added at 7 ms", "mm-delay"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(String::from_utf8(file).unwrap().ends_with("\n7\n"));
    let nothing = control::step(Link::new(0, 0, 0), &[(5_000_000, 0)]).unwrap();
    assert!(mahimahi(TraceRows::new(&nothing), Direction::Down, &mut Vec::new()).is_err());
}

fn lively() -> Trace {
    let state = LinkState {
        rate_bps: 12_000_000,
        delay_ns: 5_000_000,
        jitter_ns: 1732,
        loss_ppb: 500_000_000,
        loss_burst_milli: 1000,
        dup_ppb: 250_000_000,
        corrupt_ppb: 0,
        queue_bytes: 15_000,
    };
    let free = LinkState {
        rate_bps: UNLIMITED_RATE_BPS,
        ..state
    };
    let rows = [(0, state), (1_000_500, free), (3_000_000, state)];
    let rows = rows.map(|(t_ns, down)| TraceRow {
        t_ns,
        down,
        up: down,
        diagnostics: crate::Diagnostics::default(),
    });
    let mut metadata = control::constant(1, 0, 0, 4_000_000)
        .unwrap()
        .metadata()
        .clone();
    metadata.scenario = "two\nlines".to_owned();
    Trace::new(metadata, rows.to_vec()).unwrap()
}

#[test]
fn a_theaterq_file_reads_back_with_times_in_whole_microseconds() {
    let trace = lively();
    for (form, jitter) in [(TheaterqForm::Simple, 0), (TheaterqForm::Extended, 1732)] {
        let mut file = Vec::new();
        let exported = theaterq(TraceRows::new(&trace), Direction::Down, form, &mut file).unwrap();
        assert_eq!(exported.entries, 3);
        let text = String::from_utf8(file).unwrap();
        let recording = Recording {
            name: "t",
            text: &text,
        };
        let importer = importer_named("theaterq").unwrap();
        assert!((importer.detect)(&recording));
        let read = (importer.import)(&[recording], &ImportOptions::default()).unwrap();
        let times: Vec<u64> = read.rows().iter().map(|row| row.t_ns).collect();
        assert_eq!(times, [0, 1_000_000, 3_000_000]);
        let (wrote, found) = (trace.rows()[0].down, read.rows()[0].down);
        assert_eq!(found.jitter_ns, jitter);
        assert_eq!(
            (found.rate_bps, found.delay_ns),
            (wrote.rate_bps, wrote.delay_ns)
        );
        assert_eq!(
            (found.loss_ppb, found.queue_bytes),
            (wrote.loss_ppb, wrote.queue_bytes)
        );
        assert_eq!(read.rows()[1].down.rate_bps, UNLIMITED_RATE_BPS);
    }
}

#[test]
fn a_netem_script_quotes_its_interface_and_has_a_row_for_each() {
    let mut file = Vec::new();
    let exported = netem(TraceRows::new(&lively()), Direction::Down, &mut file).unwrap();
    let text = String::from_utf8(file).unwrap();
    assert!(
        text.starts_with("#!/bin/sh\n") && text.contains("# two lines, downlink\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "\nrow 12000000 5000.000 1.732 50.0000000 25.0000000 0.0000000 15 0.001000500\n"
        ),
        "{text}"
    );
    assert!(!text.contains(" $DEV") && exported.warnings.len() == 1);
    assert_eq!(exported.entries, 3);
}

#[test]
#[ignore = "needs root, netem"]
fn a_netem_script_sets_what_the_kernel_then_shows() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let steps = [(1_000_000_000, 10_000_000), (500_000_000, 0)];
    let plain = control::step(Link::new(0, 20_000_000, 30_000), &steps).unwrap();
    let mut rows = plain.rows().to_vec();
    rows[0].down.jitter_ns = 5_000_000;
    rows[0].down.loss_ppb = 10_000_000;
    let trace = Trace::new(plain.metadata().clone(), rows).unwrap();
    let mut file = std::fs::File::create(place.join("play.sh")).unwrap();
    netem(TraceRows::new(&trace), Direction::Down, &mut file).unwrap();
    // Instead of waiting, each row tells what the kernel has.
    let sleep = "#!/bin/sh\necho \"row for $1\"\ntc class show dev hx0\ntc qdisc show dev hx0\n";
    let stage = "ip link add hx0 type veth peer name hx1 && ip link set hx0 up && \
                 cp tell sleep && chmod +x sleep && PATH=\"$PWD:$PATH\" sh play.sh hx0 && \
                 echo after && tc qdisc show dev hx0";
    std::fs::write(place.join("tell"), sleep).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", stage])
        .current_dir(place)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{output:?}");
    let (first, rest) = told.split_once("row for 0.5").unwrap();
    assert!(first.contains("row for 1.0"), "{first}");
    for part in [
        "rate 10Mbit ceil 10Mbit",
        "limit 37 delay 20ms",
        " 5ms loss 1%",
    ] {
        assert!(first.contains(part), "{part} is not in:\n{first}");
    }
    let (second, after) = rest.split_once("after").unwrap();
    assert!(second.contains("delay 20ms loss 100%"), "{second}");
    assert!(!after.contains("netem"), "nothing is left: {after}");
}

#[test]
fn a_netem_script_is_what_a_posix_shell_understands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("play.sh");
    let mut file = std::fs::File::create(&path).unwrap();
    netem(TraceRows::new(&lively()), Direction::Up, &mut file).unwrap();
    let status = std::process::Command::new("sh")
        .arg("-n")
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
}
