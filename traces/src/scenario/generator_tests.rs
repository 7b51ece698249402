use super::*;
use crate::{CapacityCurve, Direction};

fn control(shape: &str, more: &str) -> Trace {
    let text = format!(
        "name = \"x\"\nabout = \"\"\nduration = \"1 s\"\nstep = \"10 ms\"\n[control]\n\
         shape = \"{shape}\"\nrate = \"8 kbit/s\"\ndelay = \"5 ms\"\n{more}"
    );
    let scenario = Scenario::parse("x", &text).unwrap();
    scenario
        .generate(Variant::default())
        .unwrap()
        .into_trace()
        .unwrap()
}

fn bits(trace: &Trace, direction: Direction) -> u64 {
    CapacityCurve::new(trace, direction).bits_between(0, trace.duration_ns())
}

#[test]
fn controls_carry_the_bits_that_can_be_worked_out_by_hand() {
    let constant = control("constant", "uplink_rate = \"1 kbit/s\"");
    assert_eq!(constant.rows().len(), 1);
    assert_eq!(bits(&constant, Direction::Down), 8_000);
    assert_eq!(bits(&constant, Direction::Up), 1_000);
    let step = control("step", "low_rate = \"2 kbit/s\"\nperiod = \"300 ms\"");
    assert_eq!(step.rows().len(), 4);
    // 300 ms at 8, 300 at 2, 300 at 8, 100 at 2 kbit/s.
    assert_eq!(bits(&step, Direction::Down), 2_400 + 600 + 2_400 + 200);
    let tooth = control("sawtooth", "low_rate = \"0 bit/s\"\nperiod = \"100 ms\"");
    // Ten rows a tooth: 0, 800, ... 7200 bit/s, 10 ms each, ten teeth.
    assert_eq!(
        bits(&tooth, Direction::Down),
        10 * (0..10).map(|k| 8 * k).sum::<u64>()
    );
    let odd = control("sawtooth", "low_rate = \"0 bit/s\"\nperiod = \"25 ms\"");
    let moments: Vec<u64> = odd
        .rows()
        .iter()
        .take(5)
        .map(|row| row.t_ns / 1_000_000)
        .collect();
    assert_eq!(
        moments,
        [0, 10, 20, 25, 35],
        "a tooth begins at its own moment"
    );
}

#[test]
fn the_configuration_names_every_setting() {
    let trace = control(
        "constant",
        "[[events]]\nkind = \"outage\"\nat = \"1 ms\"\nlength = \"1 ms\"\n",
    );
    let configuration = &trace.metadata().configuration;
    assert_eq!(configuration["control.rate"], "8 kbit/s");
    assert_eq!(configuration["events.0.at"], "1 ms");
    assert_eq!(configuration["end"], "hold");
}
