use super::step::Making;
use super::*;
use hexloop_traces::UNLIMITED_RATE_BPS;

pub(super) fn shape(rate_bps: u64) -> Shape {
    Shape {
        state: LinkState {
            rate_bps,
            ..LinkState::TRANSPARENT
        },
        settings: LinkSettings::drop_tail(30_000),
        outage: Outage::Never,
    }
}

pub(super) fn plan(shaped: Vec<Shaped>) -> InterfacePlan {
    InterfacePlan {
        interface: "eth1".to_owned(),
        index: 7,
        ifb_address: [2, 0x68, 0x78, 0, 0, 7],
        mtu: 1500,
        longest_bytes: 65_600,
        speed_bps: Some(1_000_000_000),
        shaped,
    }
}

pub(super) fn everything(sent: Option<Shape>, received: Option<Shape>) -> Shaped {
    Shaped {
        traffic: Traffic::Everything,
        sent,
        received,
    }
}

pub(super) fn peer(address: &str, prefix_bits: u8) -> Shaped {
    Shaped {
        traffic: Traffic::Peer {
            address: address.parse().unwrap(),
            prefix_bits,
            transport: None,
            port: None,
        },
        sent: Some(shape(1_000_000)),
        received: Some(shape(2_000_000)),
    }
}

/// One with these filters that has all else.
pub(super) fn kernel(filters: FilterKind) -> Kernel {
    Kernel {
        filters,
        below_netem: BelowNetem::Counted,
        lacks: BTreeSet::new(),
    }
}

fn words(plan: &InterfacePlan) -> Vec<String> {
    let steps = steps(plan, &kernel(FilterKind::Flower)).unwrap();
    steps
        .iter()
        .map(|step| step.describe().to_owned())
        .collect()
}

#[test]
fn an_interface_as_a_whole_takes_a_tree_each_way() {
    let plan = plan(vec![everything(
        Some(shape(1_000_000)),
        Some(shape(2_000_000)),
    )]);
    assert_eq!(
        words(&plan),
        [
            "make ifb link hxi7",
            "put htb on hxi7",
            "make class 6865:1 on hxi7",
            "put bfifo below class 6865:1 on hxi7",
            "bring hxi7 up",
            "put the ingress hook on eth1",
            "send what eth1 receives from anywhere through hxi7",
            "put htb on eth1",
            "make class 6865:1 on eth1",
            "put bfifo below class 6865:1 on eth1",
        ]
    );
    let steps = steps(&plan, &kernel(FilterKind::U32)).unwrap();
    let undone: Vec<String> = steps
        .iter()
        .filter_map(|step| step.undo().map(TcUndo::describe))
        .collect();
    assert_eq!(
        undone,
        [
            "delete link hxi7",
            "delete the ingress hook of eth1",
            "delete the root discipline 6865: of eth1",
        ]
    );
}

#[test]
fn each_peer_has_a_class_and_filters_of_its_own_and_the_rest_is_left_alone() {
    let plan = plan(vec![peer("10.0.0.1", 32), peer("fd00::", 64)]);
    let words = words(&plan);
    for expected in [
        "send packets to 10.0.0.1/32 to class 6865:1 on eth1",
        "send packets to fd00::/64 to class 6865:2 on eth1",
        "send packets from fd00::/64 to class 6865:2 on hxi7",
        "send what eth1 receives from 10.0.0.1/32 through hxi7",
    ] {
        assert!(words.iter().any(|word| word == expected), "{words:#?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let refused = |plan: &InterfacePlan| {
        steps(plan, &kernel(FilterKind::Flower))
            .unwrap_err()
            .to_string()
    };
    let whole = |rate| plan(vec![everything(Some(shape(rate)), None)]);
    assert!(refused(&whole(0)).contains("at least 8 bit/s"));
    assert!(refused(&whole(2_000_000_000)).contains("1000000000 bit/s"));
    assert!(refused(&plan(Vec::new())).contains("nothing to shape"));
    let mixed = plan(vec![everything(Some(shape(9)), None), peer("10.0.0.1", 32)]);
    assert!(refused(&mixed).contains("not both"));
    assert!(refused(&plan(vec![peer("10.0.0.1", 33)])).contains("longer"));
    let mut port = peer("10.0.0.1", 32);
    port.traffic = Traffic::Peer {
        address: "10.0.0.1".parse().unwrap(),
        prefix_bits: 32,
        transport: None,
        port: Some(80),
    };
    assert!(refused(&plan(vec![port])).contains("protocol"));
    // Without a limit there is only what else is asked for.
    assert!(steps(&whole(UNLIMITED_RATE_BPS), &kernel(FilterKind::Flower)).is_ok());
}

#[test]
fn the_opposite_of_a_step_survives_the_ledger() {
    let plan = plan(vec![everything(Some(shape(9)), Some(shape(9)))]);
    for step in steps(&plan, &kernel(FilterKind::Flower)).unwrap() {
        let Some(undo) = step.undo() else { continue };
        let text = serde_json::to_string(undo).unwrap();
        assert_eq!(&serde_json::from_str::<TcUndo>(&text).unwrap(), undo);
    }
}

#[test]
fn many_single_peers_are_hashed_by_u32_and_networks_are_not() {
    let mut shaped: Vec<Shaped> = (0..17)
        .map(|number| peer(&format!("10.0.0.{number}"), 32))
        .collect();
    shaped.push(peer("10.7.0.0", 16));
    shaped.push(peer("fd00::1", 128));
    let steps = steps(&plan(shaped), &kernel(FilterKind::U32)).unwrap();
    let tables = steps
        .iter()
        .filter(|step| step.describe().contains("hash table"));
    let tables: Vec<&str> = tables.map(TcStep::describe).collect();
    // On what is sent, on what is received, and on the way to the latter.
    let [ifb, hook, sent] = ["hxi7", "eth1", "eth1"]
        .map(|interface| format!("make a hash table of IPv4 peers on {interface}"));
    assert_eq!(tables, [ifb, hook, sent]);
    let hashed = steps.iter().filter(|step| match &step.making {
        Making::Filter(filter, _) => filter.bucket.is_some(),
        _ => false,
    });
    assert_eq!(hashed.count(), 3 * 17);
}
