//! From a plan to steps. Pure.

use hexloop_traces::UNLIMITED_RATE_BPS;

use super::ifb::MadeLink;
use super::queue::below_class;
use super::step::{About, Making, signed};
use super::{
    FIRST_PRIORITY, FilterKind, InterfacePlan, Kernel, MOST_PEERS, Outage, PlanError, ROOT, Shape,
    Shaped, TcStep, TcUndo, Traffic,
};
use crate::link::tc::codec::filter::{
    Classifier, ETH_P_ALL, Filter, Match, Side, Target, ethernet_type, info,
};
use crate::link::tc::codec::htb::Htb;
use crate::link::tc::codec::queues::Plug;
use crate::link::tc::codec::table::{Bucket, Table};
use crate::link::tc::codec::{Class, Discipline, Place, Qdisc};
use crate::link::tc::handle::Handle;
use crate::link::tc::htb_class::{self, UNLIMITED_BYTES_PER_S};

/// Packets of what is not shaped that may wait for the wire.
const DIRECT_PACKETS: u32 = 10_000;

/// Queues or netem hang below the classes; their handles follow that of the root.
const FIRST_LEAF: u16 = ROOT.major() + 1;

/// Queues that hang below netem come after the leaves of all peers.
const FIRST_BELOW: u16 = FIRST_LEAF + 0x1000;
const _: () = assert!(MOST_PEERS <= 0x1000);

/// Which packets of an interface a tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

impl Way {
    const fn of(self, shaped: &Shaped) -> Option<Shape> {
        match self {
            Way::Sent => shaped.sent,
            Way::Received => shaped.received,
        }
    }
}

/// The steps that shape an interface, in order. The ones that make objects of their own carry
/// their opposite.
///
/// # Errors
/// The plan asks for something that cannot be had; the message says what.
pub fn steps(plan: &InterfacePlan, kernel: &Kernel) -> Result<Vec<TcStep>, PlanError> {
    check(plan)?;
    let mut steps = Vec::new();
    let has = |way: Way| plan.shaped.iter().any(|shaped| way.of(shaped).is_some());
    if has(Way::Received) {
        let ifb = MadeLink::of(plan);
        let name = &ifb.name;
        steps.push(TcStep {
            what: format!("make ifb link {name}"),
            interface: name.clone(),
            about: About::Made(ifb.clone()),
            making: Making::Ifb,
            undo: Some(TcUndo::RemoveLink {
                name: name.clone(),
                address: ifb.address,
            }),
        });
        tree(&mut steps, plan, Way::Received, name, None, kernel)?;
        steps.push(TcStep {
            what: format!("bring {name} up"),
            interface: name.clone(),
            about: About::Made(ifb.clone()),
            making: Making::Up,
            undo: None,
        });
        redirect(&mut steps, plan, &ifb, classifier(kernel));
    }
    if has(Way::Sent) {
        let undo = TcUndo::RemoveRoot {
            interface: plan.interface.clone(),
            index: plan.index,
        };
        let name = &plan.interface;
        tree(&mut steps, plan, Way::Sent, name, Some(undo), kernel)?;
    }
    Ok(steps)
}

const fn classifier(kernel: &Kernel) -> Classifier {
    match kernel.filters {
        FilterKind::Flower => Classifier::Flower,
        FilterKind::U32 => Classifier::U32,
    }
}

fn check(plan: &InterfacePlan) -> Result<(), PlanError> {
    let interface = plan.interface.clone();
    if interface.is_empty() || interface.len() > 15 {
        return Err(PlanError::Name(interface));
    }
    let shapes = plan.shaped.iter().flat_map(|one| [one.sent, one.received]);
    let shapes: Vec<Shape> = shapes.flatten().collect();
    if shapes.is_empty() {
        return Err(PlanError::Nothing(interface));
    }
    let everything = |one: &&Shaped| one.traffic == Traffic::Everything;
    if plan.shaped.iter().any(|one| everything(&one)) && plan.shaped.len() > 1 {
        return Err(PlanError::Mixed(interface));
    }
    if plan.shaped.len() > MOST_PEERS {
        let peers = plan.shaped.len();
        return Err(PlanError::TooManyPeers { interface, peers });
    }
    plan.shaped.iter().try_for_each(check_peer)?;
    shapes.iter().try_for_each(|shape| check_rate(plan, shape))
}

fn check_peer(shaped: &Shaped) -> Result<(), PlanError> {
    let Traffic::Peer {
        address,
        prefix_bits,
        transport,
        port,
    } = shaped.traffic
    else {
        return Ok(());
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let reason = if prefix_bits > most {
        "the prefix is longer than the address"
    } else if port.is_some() && transport.is_none() {
        "a port needs its protocol, tcp or udp"
    } else {
        return Ok(());
    };
    Err(PlanError::Peer {
        address,
        prefix_bits,
        reason,
    })
}

fn check_rate(plan: &InterfacePlan, shape: &Shape) -> Result<(), PlanError> {
    let rate_bps = shape.state.rate_bps;
    let most_bps = plan
        .speed_bps
        .unwrap_or(UNLIMITED_BYTES_PER_S * 8)
        .min(UNLIMITED_BYTES_PER_S * 8);
    let reason = if rate_bps < 8 {
        "nothing would ever pass; give at least 8 bit/s, or take the interface down".to_owned()
    } else if rate_bps != UNLIMITED_RATE_BPS && rate_bps > most_bps {
        format!("the interface has {most_bps} bit/s; give at most that, or no rate")
    } else {
        return Ok(());
    };
    Err(PlanError::Rate {
        interface: plan.interface.clone(),
        rate_bps,
        reason,
    })
}

/// Class of the peer with this number. Minor numbers start at 1.
fn class_handle(number: usize) -> Handle {
    Handle::new(ROOT.major(), u16::try_from(number + 1).unwrap_or(u16::MAX))
}

/// Root, classes, queues and filters on one interface.
fn tree(
    steps: &mut Vec<TcStep>,
    plan: &InterfacePlan,
    way: Way,
    interface: &str,
    undo: Option<TcUndo>,
    kernel: &Kernel,
) -> Result<(), PlanError> {
    let index = signed(plan.index);
    // What is received goes through a link that is made only then.
    let about = match way {
        Way::Sent => About::Existing(plan.index),
        Way::Received => About::Made(MadeLink::of(plan)),
    };
    let classifier = classifier(kernel);
    let mut push = |what: String, making: Making, undo: Option<TcUndo>| {
        steps.push(TcStep {
            what,
            interface: interface.to_owned(),
            about: about.clone(),
            making,
            undo,
        });
    };
    let whole = plan.shaped.len() == 1 && plan.shaped[0].traffic == Traffic::Everything;
    let root = Qdisc {
        overhead: Some(-14),
        ..Qdisc::new(
            Place::new(index, ROOT, Handle::ROOT),
            Discipline::Htb(Htb {
                // Without a default class what no filter claims goes straight to the wire.
                default_class: u32::from(whole),
                rate_to_quantum: 10,
                direct_queue: Some(DIRECT_PACKETS),
            }),
        )
    };
    push(format!("put htb on {interface}"), Making::Qdisc(root), undo);
    let side = match way {
        Way::Sent => Side::Destination,
        Way::Received => Side::Source,
    };
    let tables = Tables::new(plan, way, ROOT, side, classifier);
    for table in tables.all() {
        push(
            format!("make a hash table of {} on {interface}", family(table)),
            Making::Table(*table),
            None,
        );
    }
    for (number, shaped) in plan.shaped.iter().enumerate() {
        let Some(shape) = way.of(shaped) else {
            continue;
        };
        let handle = class_handle(number);
        let bytes_per_s = match shape.state.rate_bps {
            UNLIMITED_RATE_BPS => UNLIMITED_BYTES_PER_S,
            rate_bps => rate_bps / 8,
        };
        let class = Class::new(
            Place::new(index, handle, ROOT),
            htb_class::parameters(bytes_per_s, plan.mtu),
        );
        push(
            format!("make class {handle} on {interface}"),
            Making::Class(class),
            None,
        );
        let number_16 = u16::try_from(number).map_err(|_more| PlanError::TooManyPeers {
            interface: plan.interface.clone(),
            peers: number + 1,
        })?;
        let (leaf, below) = below_class(plan, &shape, kernel)?;
        let mut place = Place::new(index, Handle::new(FIRST_LEAF + number_16, 0), handle);
        let what = format!("put {} below class {handle} on {interface}", called(&leaf));
        push(what, Making::Qdisc(Qdisc::new(place, leaf)), None);
        if let Some(below) = below {
            let parent = place.handle;
            let what = format!("put {} below {parent} on {interface}", called(&below));
            let handle = Handle::new(FIRST_BELOW + number_16, 0);
            place = Place::new(index, handle, Handle::new(parent.major(), 1));
            push(what, Making::Qdisc(Qdisc::new(place, below)), None);
        }
        if shape.outage != Outage::Never {
            let plug = match shape.outage {
                Outage::Now => Plug::Hold,
                Outage::NotNow | Outage::Never => Plug::Release,
            };
            let what = format!("have class {handle} on {interface} hold packets in outages");
            let hold = Qdisc::new(place, Discipline::Plug(plug));
            push(what, Making::Hold(hold), None);
        }
        if let Some(packets) = packets(shaped.traffic, side) {
            let filter = Filter {
                place: filter_place(plan, number, ROOT, &packets, classifier),
                classifier,
                packets: Some(packets),
                target: Target::Class(handle),
                bucket: tables.bucket(&packets),
            };
            let what = format!(
                "send {} {}/{} to class {handle} on {interface}",
                if side == Side::Source {
                    "packets from"
                } else {
                    "packets to"
                },
                packets.address,
                packets.prefix_bits
            );
            push(what, Making::Filter(filter, None), None);
        }
    }
    Ok(())
}

/// A discipline's kind, with what a kernel has it by where many have it not.
fn called(discipline: &Discipline) -> &str {
    match discipline {
        Discipline::Plug(_) => "plug (CONFIG_NET_SCH_PLUG, for the outages of the trace)",
        other => other.kind(),
    }
}

fn packets(traffic: Traffic, side: Side) -> Option<Match> {
    match traffic {
        Traffic::Everything => None,
        Traffic::Peer {
            address,
            prefix_bits,
            transport,
            port,
        } => Some(Match {
            side,
            address,
            prefix_bits,
            transport,
            port,
        }),
    }
}

/// Filters of IPv4 and IPv6 have priorities of their own: one priority has one protocol.
fn filter_place(
    plan: &InterfacePlan,
    number: usize,
    parent: Handle,
    packets: &Match,
    classifier: Classifier,
) -> Place {
    let priority = FIRST_PRIORITY + u16::from(packets.address.is_ipv6());
    // flower takes any number; u32 has its own order of numbers.
    let handle = match classifier {
        Classifier::Flower => Handle::from_raw(u32::try_from(number + 1).unwrap_or(u32::MAX)),
        Classifier::U32 => Handle::NONE,
    };
    Place {
        info: info(priority, ethernet_type(packets.address)),
        ..Place::new(signed(plan.index), handle, parent)
    }
}

/// So many peers of one protocol are compared one after the other; more get a hash table.
const FEW_PEERS: usize = 16;

/// The hash tables of u32 on one hook: for IPv4 and for IPv6, where there are many peers.
struct Tables([Option<Table>; 2]);

impl Tables {
    fn new(
        plan: &InterfacePlan,
        way: Way,
        parent: Handle,
        side: Side,
        classifier: Classifier,
    ) -> Tables {
        Tables([false, true].map(|ipv6| {
            let shaped = plan.shaped.iter().filter(|one| way.of(one).is_some());
            let peers = shaped.filter_map(|one| packets(one.traffic, side));
            let hashed = peers.filter(|peer| is_single(peer) && peer.address.is_ipv6() == ipv6);
            let first = hashed.clone().next()?;
            let is_worth_it = classifier == Classifier::U32 && hashed.count() > FEW_PEERS;
            is_worth_it.then(|| Table {
                place: filter_place(plan, 0, parent, &first, classifier),
                side,
                ipv6,
            })
        }))
    }

    fn all(&self) -> impl Iterator<Item = &Table> {
        self.0.iter().flatten()
    }

    /// Where a peer's filter is; networks have none.
    fn bucket(&self, packets: &Match) -> Option<Bucket> {
        let [ipv4, ipv6] = &self.0;
        let table = if packets.address.is_ipv6() {
            ipv6
        } else {
            ipv4
        };
        let table = table.as_ref().filter(|_| is_single(packets))?;
        Some(Bucket::of(table, packets.address))
    }
}

/// Whether these are the packets of one address.
const fn is_single(packets: &Match) -> bool {
    packets.prefix_bits == if packets.address.is_ipv6() { 128 } else { 32 }
}

const fn family(table: &Table) -> &'static str {
    if table.ipv6 {
        "IPv6 peers"
    } else {
        "IPv4 peers"
    }
}

/// The hook on what the interface receives, and what sends it through the ifb.
fn redirect(steps: &mut Vec<TcStep>, plan: &InterfacePlan, ifb: &MadeLink, classifier: Classifier) {
    let interface = &plan.interface;
    let place = Place::new(signed(plan.index), Handle::INGRESS_HANDLE, Handle::INGRESS);
    steps.push(TcStep {
        what: format!("put the ingress hook on {interface}"),
        interface: interface.clone(),
        about: About::Existing(plan.index),
        making: Making::Qdisc(Qdisc::new(place, Discipline::Ingress)),
        undo: Some(TcUndo::RemoveIngress {
            interface: interface.clone(),
            index: plan.index,
        }),
    });
    let tables = Tables::new(
        plan,
        Way::Received,
        Handle::INGRESS_HANDLE,
        Side::Source,
        classifier,
    );
    for table in tables.all() {
        steps.push(TcStep {
            what: format!("make a hash table of {} on {interface}", family(table)),
            interface: interface.clone(),
            about: About::Existing(plan.index),
            making: Making::Table(*table),
            undo: None,
        });
    }
    for (number, shaped) in plan.shaped.iter().enumerate() {
        if shaped.received.is_none() {
            continue;
        }
        let packets = packets(shaped.traffic, Side::Source);
        let (classifier, place, whose) = match &packets {
            Some(packets) => (
                classifier,
                filter_place(plan, number, Handle::INGRESS_HANDLE, packets, classifier),
                format!("from {}/{}", packets.address, packets.prefix_bits),
            ),
            // u32 takes everything on every kernel.
            None => (
                Classifier::U32,
                Place {
                    info: info(FIRST_PRIORITY, ETH_P_ALL),
                    ..Place::new(signed(plan.index), Handle::NONE, Handle::INGRESS_HANDLE)
                },
                "from anywhere".to_owned(),
            ),
        };
        let filter = Filter {
            place,
            classifier,
            packets,
            target: Target::Redirect(0),
            bucket: packets.as_ref().and_then(|packets| tables.bucket(packets)),
        };
        steps.push(TcStep {
            what: format!(
                "send what {interface} receives {whose} through {}",
                ifb.name
            ),
            interface: interface.clone(),
            about: About::Existing(plan.index),
            making: Making::Filter(filter, Some(ifb.clone())),
            undo: None,
        });
    }
}
