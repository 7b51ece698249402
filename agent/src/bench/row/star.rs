//! A star: many nodes, each with its namespace and its link to a hub.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use hexloop_topologies::plan::{DatapathChoice, FaultPlan};
use hexloop_workloads::clock;

use super::super::scene::{self, MS, SECOND, Wanted, state, steps};
use super::super::{BenchError, Measured, Scale, to_f64};
use crate::link::{Link, RelayEngine, interfaces};
use crate::namespace::NetworkNamespace;
use crate::process::allow_descriptors;

const PORT: u16 = 47_007;

/// Descriptors that a node and its link hold, and some.
const DESCRIPTORS_PER_NODE: u64 = 20;

/// Nodes that are built before it is looked whether there is memory for all.
const BATCH: usize = 50;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_millis(500);

/// The kernel takes namespaces away in its own time, but not for longer than this.
const LONGEST_DOWN_NS: u64 = 120 * SECOND;

/// How often it is looked whether it has.
const LOOK_NS: u64 = 5 * MS;

/// Rate and delay of the nodes' links.
const RATE_BPS: u64 = 5_000_000;
const DELAY_NS: u64 = 5 * MS;
const QUEUE_PACKETS: u64 = 20;

pub(super) fn star(scale: Scale) -> Result<Measured, BenchError> {
    let count: u16 = scale.pick(20, 1000);
    let nodes = u64::from(count);
    allow_descriptors(nodes * DESCRIPTORS_PER_NODE).map_err(|error| {
        let why = error.to_string();
        BenchError::Unavailable { why }
    })?;
    let trace = steps(&[(SECOND, state(RATE_BPS, DELAY_NS))])?;
    let mut wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    // What the allocator keeps once is not the nodes'.
    let before = Held::now();
    let watch = Watch::new(&wanted)?;

    let start = clock::now();
    // One engine serves them all, as in a run; its threads end with the last link.
    wanted.relay.engine = Some(RelayEngine::new());
    let hub = NetworkNamespace::create()?;
    let namespaces = (0..count).map(|_| NetworkNamespace::create());
    let namespaces = namespaces.collect::<Result<Vec<_>, _>>()?;
    let mut links = Vec::with_capacity(namespaces.len());
    for batch in namespaces.chunks(BATCH) {
        links.extend(build(&wanted, links.len(), batch, &hub)?);
        refuse_without_memory(&before, links.len(), namespaces.len())?;
    }
    let up_ns = clock::now() - start;
    let up = Held::now();
    let datapath = links.first().map(scene::describe);
    let reached = reached(&namespaces, &hub, &wanted)?;

    let start = clock::now();
    wanted.relay.engine = None;
    Link::take_down_all(links);
    drop((namespaces, hub));
    let gone = watch.all_gone(start + LONGEST_DOWN_NS)?;
    let down_ns = clock::now() - start;
    let after = Held::now();

    let mut measured = Measured {
        datapath: datapath.unwrap_or_default(),
        scale: format!("{count} nodes"),
        ..Measured::default()
    };
    measured.value("up", "s", to_f64(up_ns) / 1e9);
    let grown = up.pss_bytes.saturating_sub(before.pss_bytes);
    measured.value("memory_per_node", "MB", to_f64(grown) / 1e6 / to_f64(nodes));
    if gone {
        measured.value("down", "s", to_f64(down_ns) / 1e9);
    } else {
        let limit_s = LONGEST_DOWN_NS / SECOND;
        measured
            .notes
            .push(format!("the kernel was not done after {limit_s} s"));
    }
    let left = after.descriptors.saturating_sub(before.descriptors)
        + after.threads.saturating_sub(before.threads)
        + u64::from(!gone);
    measured.value("left", "descriptors, threads, namespaces", to_f64(left));
    measured.value("unreached", "nodes", to_f64(nodes - reached));
    measured.value(
        "threads_per_node",
        "",
        to_f64(up.threads - before.threads) / to_f64(nodes),
    );
    let descriptors = up.descriptors - before.descriptors;
    measured.value(
        "descriptors_per_node",
        "",
        to_f64(descriptors) / to_f64(nodes),
    );
    Ok(measured)
}

/// A link from every node to the hub.
fn build(
    wanted: &Wanted,
    first: usize,
    nodes: &[NetworkNamespace],
    hub: &NetworkNamespace,
) -> Result<Vec<Link>, BenchError> {
    let number = |place: usize| u16::try_from(first + place).unwrap_or(u16::MAX);
    let plans: Vec<_> = (0..nodes.len())
        .map(|place| scene::link_plan(number(place), wanted))
        .collect();
    let faults = FaultPlan::default();
    let specs: Vec<_> = plans
        .iter()
        .zip(nodes)
        .map(|(plan, node)| scene::specification(plan, wanted, &faults, [node, hub]))
        .collect();
    Ok(Link::build_all(&specs)?)
}

/// Ends a star that would take more memory than there is, seen by what its first nodes take.
fn refuse_without_memory(before: &Held, built: usize, asked: usize) -> Result<(), BenchError> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(available) = kib_line(&meminfo, "MemAvailable:") else {
        return Ok(());
    };
    let grown = Held::now().pss_bytes.saturating_sub(before.pss_bytes);
    let [built, asked] = [built, asked].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
    let each = grown / built.max(1);
    let missing = each.saturating_mul(asked.saturating_sub(built));
    // A fifth stays for everything else.
    if missing > available / 5 * 4 {
        let why = format!(
            "the first {built} nodes take {:.1} MB each, and {asked} would take more than the {:.0} MB \
             that are available",
            to_f64(each) / 1e6,
            to_f64(available) / 1e6
        );
        return Err(BenchError::Unavailable { why });
    }
    Ok(())
}

/// How many nodes get an answer from the hub over their link.
fn reached(
    nodes: &[NetworkNamespace],
    hub: &NetworkNamespace,
    wanted: &Wanted,
) -> Result<u64, BenchError> {
    let open_hub = || {
        let socket = UdpSocket::bind(("0.0.0.0", PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let hub = hub.run(open_hub)?;
    let hub = hub.map_err(BenchError::socket("open the hub's port"))?;
    let mut reached = 0;
    for (number, node) in (0..).zip(nodes) {
        let plan = scene::link_plan(number, wanted);
        let (own, other) = ((plan.ends[0].ipv4, 0), (plan.ends[1].ipv4, PORT));
        let ask = || {
            let socket = UdpSocket::bind(own)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(other)?;
            socket.send(&number.to_be_bytes())?;
            Ok(socket)
        };
        let socket = node.run(ask)?;
        let socket = socket.map_err(BenchError::socket("ask the hub from a node"))?;
        let mut question = [0; 2];
        let Ok((length, from)) = hub.recv_from(&mut question) else {
            continue;
        };
        // A question without an answer counts as unreached.
        let _ = hub.send_to(&question[..length], from);
        let mut answer = [0; 2];
        let answered = socket.recv(&mut answer).is_ok();
        reached += u64::from(answered && answer == number.to_be_bytes());
    }
    Ok(reached)
}

/// What this process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: u64,
    threads: u64,
    /// Its share of all memory that is mapped, that of shared pages in parts (proc(5)).
    pss_bytes: u64,
}

impl Held {
    fn now() -> Held {
        let entries = |path: &str| {
            let entries = fs::read_dir(path).map_or(0, Iterator::count);
            u64::try_from(entries).unwrap_or(0)
        };
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        Held {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            pss_bytes: kib_line(&rollup, "Pss:").unwrap_or(0),
        }
    }
}

/// A line such as `Pss:  1234 kB`, in bytes.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Sees when the kernel has taken namespaces away: it does so in the order in which they were
/// given up, with every interface in them, and a pair goes with either end.
struct Watch {
    here: NetworkNamespace,
    last: NetworkNamespace,
    plan: hexloop_topologies::plan::LinkPlan,
}

impl Watch {
    fn new(wanted: &Wanted) -> Result<Watch, BenchError> {
        let (here, last) = (NetworkNamespace::create()?, NetworkNamespace::create()?);
        let plan = scene::link_plan(u16::MAX, wanted);
        interfaces::build_bare(&plan, [&here, &last])?;
        Ok(Watch { here, last, plan })
    }

    /// Gives up the last namespace and waits until it is gone; false if that takes too long.
    fn all_gone(self, deadline: u64) -> Result<bool, BenchError> {
        drop(self.last);
        let interface = &self.plan.ends[0].interface;
        while self.here.run(|| interfaces::index_of(interface).is_ok())? {
            if clock::now() >= deadline {
                return Ok(false);
            }
            clock::sleep_until(clock::now() + LOOK_NS);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_share_is_read_in_bytes() {
        let text = "5581-7ffd [rollup]\nRss:      3000 kB\nPss:      1234 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kib_line(text, "Pss:"), Some(1234 * 1024));
        assert_eq!(kib_line("Rss: 1 kB\n", "Pss:"), None);
    }

    #[test]
    fn this_process_holds_something() {
        let held = Held::now();
        assert!(
            held.descriptors >= 3 && held.threads >= 1 && held.pss_bytes > 0,
            "{held:?}"
        );
    }
}
