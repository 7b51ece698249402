//! What attenuation costs per point.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hexloop_traces::propagation::{Air, Gases, Polarization, rain_db_km};

fn propagation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("propagation");
    group.bench_function("P.676 point with its own air, target 2 us", |bencher| {
        bencher.iter(|| Gases::new(black_box(&Air::SEA_LEVEL))?.total_db_km(black_box(140.0)));
    });
    let prepared = Gases::new(&Air::SEA_LEVEL);
    group.bench_function("P.676 point in the same air, target 2 us", |bencher| {
        bencher.iter(|| {
            prepared
                .as_ref()
                .map(|gases| gases.total_db_km(black_box(140.0)))
        });
    });
    group.bench_function("P.838 point", |bencher| {
        bencher.iter(|| rain_db_km(black_box(28.0), Polarization::Horizontal, 25.0, 0.0));
    });
    group.finish();
}

criterion_group!(benches, propagation);
criterion_main!(benches);
