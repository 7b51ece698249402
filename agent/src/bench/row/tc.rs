//! What a change of the kernel's queueing disciplines costs.

use super::super::{BenchError, Measured, to_f64};
use crate::link::measure_change_cost;
use crate::node::with_causes;

pub(super) fn change() -> Result<Measured, BenchError> {
    let cost = measure_change_cost().map_err(|error| BenchError::Unavailable {
        why: with_causes(&error),
    })?;
    let mut measured = Measured {
        datapath: format!("htb over rtnetlink, {}", cost.scheduling),
        scale: "20000 changes one by one, 32000 in batches".to_owned(),
        ..Measured::default()
    };
    measured.value("single_p50", "us", to_f64(cost.single_p50_ns) / 1e3);
    measured.value("batched", "1000/s", cost.batched_per_s / 1e3);
    measured.value("single_p99", "us", to_f64(cost.single_p99_ns) / 1e3);
    measured.value("single_largest", "us", to_f64(cost.single_max_ns) / 1e3);
    Ok(measured)
}
