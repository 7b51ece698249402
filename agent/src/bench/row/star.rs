//! A star: many nodes, each with its first process, its namespaces and its link to a hub.

use std::fs;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hexloop_topologies::plan::{DatapathChoice, FaultPlan};
use hexloop_workloads::clock;

use super::super::scene::{self, MS, SECOND, Wanted, state, steps};
use super::super::{BenchError, Measured, Scale, to_f64};
use crate::descriptors;
use crate::link::together::side_by_side;
use crate::link::{Link, RelayEngine, interfaces};
use crate::namespace::NetworkNamespace;
use crate::node::{Node, NodeMessage, Shown};
use crate::process::SelfCommand;

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

/// What the nodes' processes hold is read for so long at most.
const LONGEST_READ_NS: u64 = 20 * SECOND;

/// Rate and delay of the nodes' links.
const RATE_BPS: u64 = 5_000_000;
const DELAY_NS: u64 = 5 * MS;
const QUEUE_PACKETS: u64 = 20;

pub(super) fn star(scale: Scale) -> Result<Measured, BenchError> {
    let count: u16 = scale.pick(20, 1000);
    let nodes = u64::from(count);
    descriptors::allow(nodes * DESCRIPTORS_PER_NODE).map_err(|error| {
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
    let (mut crowd, mut links) = (Crowd::new(), Vec::with_capacity(usize::from(count)));
    let mut each_process = None;
    while links.len() < usize::from(count) {
        let batch = crowd.grow(BATCH.min(usize::from(count) - links.len()))?;
        links.extend(build(&wanted, links.len(), batch, &hub)?);
        // Those that come later share pages with more others, and take a little less.
        let each = each_process.get_or_insert_with(|| {
            Ok::<_, String>(proportional_bytes(batch)? / to_count(batch.len()).max(1))
        });
        if let Ok(each) = each {
            let processes = *each * to_count(links.len());
            refuse_without_memory(&before, processes, links.len(), usize::from(count))?;
        }
    }
    let up_ns = clock::now() - start;
    let up = Held::now();
    let processes = proportional_bytes(&crowd.nodes);
    let datapath = links.first().map(scene::describe);
    let reached = reached(&crowd.nodes, &hub, &wanted)?;

    let start = clock::now();
    wanted.relay.engine = None;
    Link::take_down_all(links);
    let left_processes = crowd.take_down()?;
    drop(hub);
    let gone = watch.all_gone(start + LONGEST_DOWN_NS)?;
    let down_ns = clock::now() - start;
    let after = Held::now();

    let mut measured = Measured {
        datapath: datapath.unwrap_or_default(),
        scale: format!("{count} nodes"),
        ..Measured::default()
    };
    measured.value("up", "s", to_f64(up_ns) / 1e9);
    let each = |bytes: u64| to_f64(bytes) / 1e6 / to_f64(nodes);
    match processes.and_then(|processes| Ok((processes, up.grown_since(&before, processes)?))) {
        Ok((processes, grown)) => {
            measured.value("memory_per_node", "MB", each(grown));
            measured.value("first_process_memory", "MB", each(processes));
        }
        Err(why) => measured
            .notes
            .push(format!("memory_per_node is not known: {why}")),
    }
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
        + left_processes
        + u64::from(!gone);
    let what = "descriptors, threads, processes, namespaces";
    measured.value("left", what, to_f64(left));
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
    nodes: &[Node],
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
        .map(|(plan, node)| scene::specification(plan, wanted, &faults, [&node.namespace, hub]))
        .collect();
    Ok(Link::build_all(&specs)?)
}

/// The nodes, and what their first processes say.
struct Crowd {
    nodes: Vec<Node>,
    sender: Sender<NodeMessage>,
    messages: Receiver<NodeMessage>,
}

impl Crowd {
    fn new() -> Crowd {
        let (sender, messages) = channel();
        Crowd {
            nodes: Vec::new(),
            sender,
            messages,
        }
    }

    /// Starts so many more and sets them up as a run does; returns them.
    fn grow(&mut self, count: usize) -> Result<&[Node], BenchError> {
        let first = self.nodes.len();
        let program = SelfCommand::hexloop();
        let sender = &self.sender;
        let started = side_by_side(count, |number| {
            let place = first + number;
            Node::start(&program, &format!("star{place}"), place, sender.clone())
        })?;
        for node in started {
            self.nodes.push(node?);
        }
        for (place, node) in self.nodes.iter_mut().enumerate().skip(first) {
            node.set_up(place, &self.messages, Shown::default(), None)?;
        }
        Ok(&self.nodes[first..])
    }

    /// Ends them all; how many processes are left.
    fn take_down(self) -> Result<u64, BenchError> {
        let nodes: Vec<Mutex<Node>> = self.nodes.into_iter().map(Mutex::new).collect();
        let left = side_by_side(nodes.len(), |number| {
            let node = nodes[number].lock();
            let mut node = node.unwrap_or_else(PoisonError::into_inner);
            node.take_down()
        })?;
        Ok(to_count(left.into_iter().flatten().count()))
    }
}

/// The share that the nodes' first processes have of all memory that is mapped, that of shared pages in parts.
///
/// # Errors
/// Why it is not known.
fn proportional_bytes(nodes: &[Node]) -> Result<u64, String> {
    let until = clock::now() + LONGEST_READ_NS;
    let mut sum = 0;
    for (number, node) in nodes.iter().enumerate() {
        if clock::now() >= until {
            let (all, limit_s) = (nodes.len(), LONGEST_READ_NS / SECOND);
            return Err(format!(
                "what {number} of {all} first processes hold was read within {limit_s} s"
            ));
        }
        sum += pss_bytes(&node.process.pid.to_string())?;
    }
    Ok(sum)
}

/// The proportional share of one process (proc(5)).
///
/// # Errors
/// The kernel does not tell it.
fn pss_bytes(process: &str) -> Result<u64, String> {
    let path = format!("/proc/{process}/smaps_rollup");
    let rollup =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    kib_line(&rollup, "Pss:").ok_or_else(|| format!("{path} has no line Pss"))
}

/// Ends a star that would take more memory than there is, seen by what its first nodes take: those of this process, and
/// what their own hold.
fn refuse_without_memory(
    before: &Held,
    processes: u64,
    built: usize,
    asked: usize,
) -> Result<(), BenchError> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let grown = Held::now().grown_since(before, processes);
    let (Some(available), Ok(grown)) = (kib_line(&meminfo, "MemAvailable:"), grown) else {
        return Ok(());
    };
    let [built, asked] = [built, asked].map(to_count);
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
fn reached(nodes: &[Node], hub: &NetworkNamespace, wanted: &Wanted) -> Result<u64, BenchError> {
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
        let socket = node.namespace.run(ask)?;
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
#[derive(Debug, Clone)]
struct Held {
    descriptors: u64,
    threads: u64,
    /// Its share of all memory that is mapped, that of shared pages in parts, or why it is not known.
    pss_bytes: Result<u64, String>,
}

impl Held {
    fn now() -> Held {
        let entries = |path: &str| to_count(fs::read_dir(path).map_or(0, Iterator::count));
        Held {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            pss_bytes: pss_bytes("self"),
        }
    }

    /// What memory has grown by since then, with what other processes hold now: pages of the program that they share
    /// were all of this one's before.
    fn grown_since(&self, before: &Held, others: u64) -> Result<u64, String> {
        let (now, then) = (self.pss_bytes.clone()?, before.pss_bytes.clone()?);
        Ok((now + others).saturating_sub(then))
    }
}

fn to_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
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
            held.descriptors >= 3
                && held.threads >= 1
                && held.pss_bytes.is_ok_and(|bytes| bytes > 0)
        );
        assert!(
            pss_bytes("none")
                .unwrap_err()
                .contains("/proc/none/smaps_rollup")
        );
    }

    #[test]
    fn what_processes_of_the_nodes_hold_is_part_of_the_growth() {
        let held = |pss_bytes| Held {
            descriptors: 0,
            threads: 0,
            pss_bytes,
        };
        let (before, now) = (held(Ok(50)), held(Ok(40)));
        assert_eq!(now.grown_since(&before, 100), Ok(90));
        let unknown = held(Err("why".to_owned()));
        assert_eq!(unknown.grown_since(&before, 100), Err("why".to_owned()));
    }
}
