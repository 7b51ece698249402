//! What the physical layer costs per slot and user.

#![expect(
    clippy::cast_possible_truncation,
    reason = "slots of a benchmark fit any width"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hexloop_traces::phy::{
    BlockCode, Combined, Combining, DuplexPattern, GROUPS, LinkAdapter, McsTable, Numerology,
    RadioSettings, SharedCell, SharingSettings, linear,
};
use hexloop_traces::{CounterRng, Direction};

const SUBBANDS: usize = 18;
const MOMENTS: usize = 1024;

/// Frequency-selective Rayleigh fading around 14 dB that keeps 0.99 from slot to slot.
fn moments() -> Vec<[f64; SUBBANDS]> {
    let rng = CounterRng::new(1, "bench", "fading");
    let draw = |index: usize| rng.normal_pair(index as u64);
    let mut gains: [[f64; 2]; SUBBANDS] = std::array::from_fn(draw);
    let (keep, change) = (0.99, libm::sqrt(1.0 - 0.99 * 0.99));
    let mut moment = |moment: usize| {
        for (at, gain) in gains.iter_mut().enumerate() {
            let [re, im] = draw((moment + 1) * SUBBANDS + at);
            *gain = [keep * gain[0] + change * re, keep * gain[1] + change * im];
        }
        gains.map(|[re, im]| linear(14.0) * 0.5 * (re * re + im * im))
    };
    (0..MOMENTS).map(&mut moment).collect()
}

fn link() -> LinkAdapter {
    let (Ok(numerology), Ok(pattern)) = (
        Numerology::new(0),
        DuplexPattern::time_division("DDDSU", 10, 2),
    ) else {
        unreachable!("constants of this file");
    };
    let settings = RadioSettings::new(Direction::Down, numerology, pattern);
    let Ok(link) = LinkAdapter::new(settings, CounterRng::new(1, "bench", "link")) else {
        unreachable!("default settings");
    };
    link
}

fn benches(criterion: &mut Criterion) {
    let moments = moments();
    let adapter = link();
    let mut at = 0;
    let mut scheme = 10;
    criterion.bench_function("SINR of 18 subbands to MCS", |bench| {
        bench.iter(|| {
            at = (at + 1) % MOMENTS;
            let (_, allowed) = adapter.inner_loop(scheme, black_box(&moments[at]));
            scheme = allowed;
            allowed
        });
    });

    let rng = CounterRng::new(1, "bench", "outcome");
    let codes: Vec<BlockCode> = McsTable::Qam256
        .schemes()
        .filter_map(|scheme| BlockCode::of(scheme, 30_216).ok())
        .collect();
    let mut slot = 0_u64;
    criterion.bench_function("outcome of a block", |bench| {
        bench.iter(|| {
            slot += 1;
            let code = &codes[slot as usize % codes.len()];
            let sinr = black_box(moments[slot as usize % MOMENTS][0]);
            let combined = Combined::default().with(code, Combining::Chase, sinr);
            rng.uniform(slot) < code.failure(&combined)
        });
    });

    let mut adapter = link();
    let mut slot = 0_u64;
    criterion.bench_function("slot of a link", |bench| {
        bench.iter(|| {
            slot += 1;
            adapter
                .step(slot, black_box(&moments[slot as usize % MOMENTS]), 1.0)
                .bits
        });
    });

    let Ok(mut cell) = SharedCell::new(SharingSettings::full_buffer(10), 1, "bench") else {
        unreachable!("default settings");
    };
    cell.report(Direction::Down, [4.0; GROUPS]);
    let mut slot = 0_u64;
    criterion.bench_function("slot of a cell with 10 background users", |bench| {
        bench.iter(|| {
            slot += 1;
            cell.advance(black_box(slot));
            cell.grant(Direction::Down)
        });
    });
}

criterion_group!(phy, benches);
criterion_main!(phy);
