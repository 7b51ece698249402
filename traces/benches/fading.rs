//! What fading costs per moment: TDL-A is 23 taps of 20 sinusoids.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hexloop_traces::CounterRng;
use hexloop_traces::fading::{FadingSettings, Profile, TappedDelayLine};

fn fading(criterion: &mut Criterion) {
    let settings = FadingSettings {
        bandwidth_hz: 100e6,
        subbands: 18,
        ..FadingSettings::new(Profile::TdlA, Some(100e-9), 50.0)
    };
    let random = CounterRng::new(1, "bench", "fading");
    let Ok(mut line) = TappedDelayLine::new(&settings, random) else {
        return;
    };
    let mut group = criterion.benchmark_group("fading");
    let mut slot = 0_u32;
    group.bench_function("TDL-A time sample, target 0.8 us", |bencher| {
        bencher.iter(|| {
            slot += 1;
            black_box(line.tap_gains(f64::from(slot) * 1e-3).len())
        });
    });
    let mut powers = [0.0; 18];
    group.bench_function("TDL-A in 18 subbands", |bencher| {
        bencher.iter(|| {
            slot += 1;
            line.power_per_subband(f64::from(slot) * 1e-3, &mut powers);
            black_box(powers[0])
        });
    });
    group.finish();
}

criterion_group!(benches, fading);
criterion_main!(benches);
