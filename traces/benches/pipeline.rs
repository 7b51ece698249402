//! The whole way from places to rows: one user, slots and rows of 1 ms, 18 subbands, ten other
//! users. One iteration is one slot.

use criterion::{Criterion, criterion_group, criterion_main};
use hexloop_traces::scenario::{Scenario, Variant};

const SCENARIO: &str = r#"
name = "bench"
about = "One user of an urban small cell."
duration = "24 h"
step = "1 ms"
[radio]
carrier = "3.5 GHz"
bandwidth = "20 MHz"
numerology = 0
duplex = "FDD"
base_power = "33 dBm"
background_users = 10
background_activity = "50 %"
[channel]
scenario = "umi"
[mobility]
kind = "waypoint"
start_m = [20.0, 20.0]
area_m = [100.0, 100.0]
"#;

fn slot(criterion: &mut Criterion) {
    let scenario = Scenario::parse("bench.toml", SCENARIO).expect("it is valid");
    let mut rows = scenario
        .generate(Variant::default())
        .expect("it can be generated");
    criterion.bench_function("full pipeline, one slot of 1 ms", |bencher| {
        bencher.iter(|| rows.next_row().expect("a day is long enough"));
    });
}

criterion_group!(benches, slot);
criterion_main!(benches);
