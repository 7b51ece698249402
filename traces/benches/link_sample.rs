//! What one link costs per slot: path loss, line of sight, shadowing, walls and blockers.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hexloop_traces::tr38901::large_scale::LargeScale;
use hexloop_traces::tr38901::los::{LineOfSight, Vegetation};
use hexloop_traces::tr38901::path_loss::{Geometry, PathLoss};
use hexloop_traces::tr38901::track::{Blockers, LargeScaleTrack, Sight};
use hexloop_traces::tr38901::{Condition, Scenario, SpecVersion};

const STEP_M: f64 = 0.001;

/// From 100 m to 200 m, again and again.
fn next(d2d_m: f64) -> f64 {
    if d2d_m < 200.0 { d2d_m + STEP_M } else { 100.0 }
}

fn link_sample(criterion: &mut Criterion) {
    let scenario = Scenario::Umi;
    let mut geometry = Geometry::new(scenario, 100.0, 10.0, 1.5);
    let model = PathLoss::new(scenario, 7.0);
    let spec = SpecVersion::V19_4;
    let parameters = LargeScale::new(scenario, Condition::Nlos, spec, 7.0, None);
    let Ok(parameters) = parameters else {
        return;
    };
    let mut track = LargeScaleTrack::new(parameters, 1, "bench");
    let mut sight = Sight::new(scenario, None, 1, "bench");
    let visible = LineOfSight::new(scenario, 10.0, 1.5, None, Vegetation::None);
    let mut blockers = Blockers::new((scenario, Condition::Los), 4, 1.0, None, (1, "bench"));
    let mut group = criterion.benchmark_group("link_sample");
    group.bench_function("shadowing", |bencher| {
        bencher.iter(|| track.advance_shadowing_db(black_box(STEP_M), &geometry));
    });
    let prepared = model.prepare(&geometry);
    group.bench_function("path_loss", |bencher| {
        bencher.iter(|| {
            geometry.d2d_m = next(geometry.d2d_m);
            prepared.both_db(black_box(geometry.d2d_m))
        });
    });
    group.bench_function("scalar_link_sample", |bencher| {
        bencher.iter(|| {
            geometry.d2d_m = next(geometry.d2d_m);
            let loss_db = prepared.los_db(black_box(geometry.d2d_m));
            loss_db - track.advance_shadowing_db(STEP_M, &geometry)
        });
    });
    group.bench_function("line_of_sight", |bencher| {
        bencher.iter(|| {
            sight.advance(black_box(STEP_M));
            sight.is_los(visible.probability(black_box(geometry.d2d_m)))
        });
    });
    group.bench_function("large_scale_parameters", |bencher| {
        bencher.iter(|| {
            track.advance(black_box(STEP_M));
            track.sample(&geometry)
        });
    });
    group.bench_function("four_blockers", |bencher| {
        bencher.iter(|| {
            blockers.advance(black_box(STEP_M), 0.001);
            blockers.loss_db(0.043, 40.0, 90.0)
        });
    });
    group.finish();
}

criterion_group!(benches, link_sample);
criterion_main!(benches);
