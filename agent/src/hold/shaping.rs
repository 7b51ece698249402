//! The steps that shape a real interface: htb on what it sends; what it receives goes through an
//! ifb link of its own, with htb on that.

use hexloop_traces::{LinkState, QueueLimit, UNLIMITED_RATE_BPS};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage,
    TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use nix::net::if_::if_nametoindex;

use super::HoldOrder;
use crate::change::Step;
use crate::link::LinkError;
use crate::link::netlink::{Mode, RouteSocket};
use crate::undo::{HANDLE, IngressKind, InterfaceIdentity, PRIORITIES, Undo};

const TCA_OPTIONS: u16 = 2;
const TCA_STAB: u16 = 8;

/// One tick of the packet scheduler is 64 ns (PSCHED_SHIFT is 6).
const TICK_SHIFT: u32 = 6;

/// htb sends up to this much at once: what a timer that wakes late misses.
const BURST_NS: u64 = 200_000;

/// What this builder cannot do; the message is for the user.
pub(super) fn refuse_unsupported(order: &HoldOrder) -> Result<(), String> {
    for (name, state) in [("down", &order.down), ("up", &order.up)] {
        let asks = state.delay_ns > 0
            || state.jitter_ns > 0
            || state.loss_ppb > 0
            || state.dup_ppb > 0
            || state.corrupt_ppb > 0;
        if asks {
            return Err(format!(
                "{name}: delay, jitter and loss of a real interface are not supported yet"
            ));
        }
    }
    if order.down.rate_bps == UNLIMITED_RATE_BPS && order.up.rate_bps == UNLIMITED_RATE_BPS {
        return Err("there is nothing to shape".to_owned());
    }
    Ok(())
}

/// The name of the link that carries what an interface receives.
pub(crate) fn ifb_name(index: u32) -> String {
    format!("hxi{index}")
}

/// Every step, in order.
pub(super) fn steps(order: &HoldOrder, interface: &InterfaceIdentity, mtu: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    if order.down.rate_bps != UNLIMITED_RATE_BPS {
        let ifb = ifb_name(interface.index);
        steps.push(make_ifb(interface, &ifb));
        steps.push(bring_up(&ifb));
        steps.extend(htb(&ifb, None, &order.down, order, mtu));
        steps.push(open_ingress(interface));
        steps.push(redirect(interface, &ifb));
    }
    if order.up.rate_bps != UNLIMITED_RATE_BPS {
        let name = interface.name.clone();
        let undo = Undo::RemoveRootQdisc {
            interface: interface.clone(),
        };
        steps.extend(htb(&name, Some(undo), &order.up, order, mtu));
    }
    steps
}

fn step(
    what: String,
    undo: Option<Undo>,
    apply: impl FnOnce(&mut RouteSocket, String) -> Result<(), LinkError> + 'static,
) -> Step {
    let action = what.clone();
    Step {
        what,
        undo,
        apply: Box::new(move |socket| apply(socket, action)),
    }
}

fn make_ifb(interface: &InterfaceIdentity, ifb: &str) -> Step {
    let undo = Undo::RemoveLink {
        namespace: interface.namespace,
        name: ifb.to_owned(),
        kind: InfoKind::Ifb.to_string(),
    };
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(ifb.to_owned()));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
    step(
        format!("make ifb link {ifb}"),
        Some(undo),
        |socket, what| socket.request(RouteNetlinkMessage::NewLink(message), Mode::Create, || what),
    )
}

fn index_of(name: &str) -> Result<u32, LinkError> {
    if_nametoindex(name).map_err(|source| LinkError::Netlink {
        action: format!("find interface {name}"),
        source: source.into(),
    })
}

fn signed(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn bring_up(ifb: &str) -> Step {
    let name = ifb.to_owned();
    step(format!("bring {ifb} up"), None, move |socket, what| {
        let message = rtnetlink::LinkUnspec::new_with_index(index_of(&name)?)
            .up()
            .build();
        socket.request(RouteNetlinkMessage::SetLink(message), Mode::Plain, || what)
    })
}

fn open_ingress(interface: &InterfaceIdentity) -> Step {
    let kind = IngressKind::Ingress;
    let undo = Undo::RemoveIngress {
        interface: interface.clone(),
        kind,
    };
    let index = interface.index;
    let what = format!("put qdisc {} on {}", kind.name(), interface.name);
    step(what, Some(undo), move |socket, what| {
        let mut message = TcMessage::with_index(signed(index));
        message.header.handle = INGRESS;
        message.header.parent = TcHandle::INGRESS;
        message
            .attributes
            .push(TcAttribute::Kind(kind.name().to_owned()));
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        socket.request(request, Mode::Create, || what)
    })
}

const INGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

/// Every protocol, as `ETH_P_ALL` in network order.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

fn redirect(interface: &InterfaceIdentity, ifb: &str) -> Step {
    let undo = Undo::RemoveFilters {
        interface: interface.clone(),
        parent: INGRESS.into(),
        priority: *PRIORITIES.start(),
    };
    let (index, to) = (interface.index, ifb.to_owned());
    let what = format!("send what {} receives through {ifb}", interface.name);
    step(what, Some(undo), move |socket, what| {
        let mut message = TcMessage::with_index(signed(index));
        message.header.parent = INGRESS;
        message.header.info = (u32::from(*PRIORITIES.start()) << 16) | ALL_PROTOCOLS;
        message
            .attributes
            .push(TcAttribute::Kind(TcFilterU32::KIND.to_owned()));
        let options = vec![
            TcOption::U32(TcFilterU32Option::Selector(everything())),
            TcOption::U32(TcFilterU32Option::Action(vec![redirection(index_of(&to)?)])),
        ];
        message.attributes.push(TcAttribute::Options(options));
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        socket.request(request, Mode::Create, || what)
    })
}

fn everything() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    selector
}

fn redirection(index: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic = TcActionGeneric::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = index;
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    action
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Root, class and queue on an interface by name.
fn htb(
    name: &str,
    undo: Option<Undo>,
    state: &LinkState,
    order: &HoldOrder,
    mtu: u32,
) -> [Step; 3] {
    let class = TcHandle { minor: 1, ..HANDLE };
    let leaf = TcHandle {
        major: HANDLE.major + 1,
        minor: 0,
    };
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
    let root_options = attribute(2, &words(&[3, 10, 1, 0, 0]));
    let rate = state.rate_bps / 8;
    let class_options = htb_class_options(rate, mtu);
    let queue = match (state.queue_bytes, order.queue) {
        (0, limit) => limit,
        (bytes, _) => QueueLimit::Bytes(u64::from(bytes)),
    };
    let (kind, limit) = match queue {
        QueueLimit::Bytes(bytes) => ("bfifo", u32::try_from(bytes).unwrap_or(u32::MAX)),
        QueueLimit::Packets(packets) => ("pfifo", packets),
    };
    let root = put(
        name,
        undo,
        (HANDLE, TcHandle::ROOT, "htb"),
        root_options,
        true,
    );
    let leaf = put(name, None, (leaf, class, kind), words(&[limit]), false);
    let class = put_class(name, class, class_options);
    [root, class, leaf]
}

fn htb_class_options(rate: u64, mtu: u32) -> Vec<u8> {
    let rate = rate.max(1);
    // struct tc_ratespec: cell_log, linklayer (u8), overhead, cell_align, mpu (u16), rate (u32).
    let mut rates = vec![0, 1, 0, 0, 0, 0, 0, 0];
    rates.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    let burst_bytes = u64::from(mtu) * 2 + rate / 1_000_000 * BURST_NS / 1000;
    let burst_ns = u128::from(burst_bytes) * 1_000_000_000 / u128::from(rate);
    let ticks = u32::try_from(burst_ns >> TICK_SHIFT).unwrap_or(u32::MAX);
    // struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio.
    let mut parameters = [rates.as_slice(), rates.as_slice()].concat();
    parameters.extend(words(&[ticks, ticks, mtu * 2, 0, 0]));
    let mut options = attribute(1, &parameters); // TCA_HTB_PARMS
    options.extend(attribute(6, &rate.to_ne_bytes())); // TCA_HTB_RATE64
    options.extend(attribute(7, &rate.to_ne_bytes())); // TCA_HTB_CEIL64
    options
}

fn tc_message(
    name: &str,
    (handle, parent, kind): (TcHandle, TcHandle, &str),
    options: Vec<u8>,
) -> Result<TcMessage, LinkError> {
    let mut message = TcMessage::with_index(signed(index_of(name)?));
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
        .attributes
        .push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options)));
    Ok(message)
}

fn put(
    name: &str,
    undo: Option<Undo>,
    (handle, parent, kind): (TcHandle, TcHandle, &'static str),
    options: Vec<u8>,
    sized: bool,
) -> Step {
    let interface = name.to_owned();
    step(
        format!("put {kind} on {name}"),
        undo,
        move |socket, what| {
            let mut message = tc_message(&interface, (handle, parent, kind), options)?;
            if sized {
                // struct tc_sizespec: rates count IP bytes, the Ethernet header comes off.
                let mut sizes = vec![0; 4];
                sizes.extend((-14_i32).to_ne_bytes());
                sizes.extend(words(&[1, 0, 0, 0]));
                let sizes = attribute(1, &sizes);
                let sizes = TcAttribute::Other(DefaultNla::new(TCA_STAB, sizes));
                message.attributes.push(sizes);
            }
            let request = RouteNetlinkMessage::NewQueueDiscipline(message);
            socket.request(request, Mode::Create, || what)
        },
    )
}

fn put_class(name: &str, class: TcHandle, options: Vec<u8>) -> Step {
    let interface = name.to_owned();
    step(
        format!("set the rate of {name}"),
        None,
        move |socket, what| {
            let message = tc_message(&interface, (class, HANDLE, "htb"), options)?;
            let request = RouteNetlinkMessage::NewTrafficClass(message);
            socket.request(request, Mode::Create, || what)
        },
    )
}
