//! What one change of a rate costs on this machine.

use hexloop_workloads::clock;

use super::codec::htb::Htb;
use super::codec::{Class, Discipline, NEW_CLASS, NEW_QDISC, Place, Qdisc};
use super::handle::Handle;
use super::htb_class::{self, PreparedClass};
use crate::link::netlink::{Mode, Prepared};
use crate::link::{LinkError, interfaces, scheduling};
use crate::namespace::NetworkNamespace;

/// Changes that go out in one send where many are made at once.
pub const BATCH: usize = 64;

const SINGLE_CHANGES: usize = 20_000;
const BATCHES: usize = 500;

/// Measured on a class of its own, in a namespace of its own, on a thread that is real-time
/// where that is allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeCost {
    /// One change in place by a message that was built before, from the send to the kernel's
    /// answer, in nanoseconds: the median of 20 000.
    pub single_p50_ns: u64,
    /// The 99th percentile.
    pub single_p99_ns: u64,
    /// The longest.
    pub single_max_ns: u64,
    /// Changes per second where [`BATCH`] are sent at once.
    pub batched_per_s: f64,
    /// How the measuring thread was scheduled, such as `SCHED_FIFO 20 on any CPU`.
    pub scheduling: String,
}

/// Measures it; takes a second at most.
///
/// # Errors
/// No namespace can be made, or the kernel has no htb.
pub fn measure_change_cost() -> Result<ChangeCost, LinkError> {
    let failed = |source| LinkError::Namespace {
        link: "(cost of a change)".to_owned(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(failed)?;
    namespace.run(measure).map_err(failed)?
}

fn measure() -> Result<ChangeCost, LinkError> {
    let scheduling = scheduling::make_real_time(None).description;
    let mut socket = interfaces::open_socket()?;
    let index = i32::try_from(interfaces::index_of("lo")?).unwrap_or(1);
    let (root, handle) = (Handle::new(1, 0), Handle::new(1, 1));
    let htb = Discipline::Htb(Htb {
        default_class: 1,
        rate_to_quantum: 10,
        direct_queue: None,
    });
    let message = Qdisc::new(Place::new(index, root, Handle::ROOT), htb).message();
    let action = || "put htb on lo of a namespace of its own".to_owned();
    socket.order(NEW_QDISC, Mode::Create, &message, action)?;
    let place = Place::new(index, handle, root);
    let class = Class::new(place, htb_class::parameters(1_000_000, 1500));
    socket.order(NEW_CLASS, Mode::Create, &class.message(), action)?;
    let mut prepared = PreparedClass::new(place, 1_000_000, 1500);
    let refused = |source| LinkError::Netlink {
        action: "change a class of lo in a namespace of its own".to_owned(),
        source,
    };
    let rates = [1_500_000, 6_000_000, 15_000_000, 37_500_000];
    let mut took_ns = Vec::with_capacity(SINGLE_CHANGES);
    for rate in rates.into_iter().cycle().take(SINGLE_CHANGES) {
        let before = clock::now();
        prepared.set(&mut socket, rate).map_err(refused)?;
        took_ns.push(clock::now() - before);
    }
    took_ns.sort_unstable();
    let at = |share: usize| took_ns[(took_ns.len() - 1) * share / 100];
    let mut batch: Vec<Prepared> = rates
        .into_iter()
        .cycle()
        .take(BATCH)
        .map(|rate| prepared.change_to(rate).clone())
        .collect();
    let mut scratch = Vec::new();
    let before = clock::now();
    for _ in 0..BATCHES {
        socket
            .exchange_all(&mut batch, &mut scratch)
            .map_err(refused)?;
    }
    let batches_ns = clock::now() - before;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let batched_per_s = (BATCH * BATCHES) as f64 * 1e9 / batches_ns.max(1) as f64;
    Ok(ChangeCost {
        single_p50_ns: at(50),
        single_p99_ns: at(99),
        single_max_ns: at(100),
        batched_per_s,
        scheduling,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn the_cost_of_a_change_is_measured_and_printed() {
        let cost = measure_change_cost().unwrap();
        println!("{cost:?}");
        assert!(cost.single_p50_ns > 0 && cost.single_p50_ns <= cost.single_p99_ns);
        assert!(cost.batched_per_s > 0.0);
    }
}
