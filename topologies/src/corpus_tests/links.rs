//! What a file says of links and cells reaches the plan.

use super::{base, planned, resolved};
use crate::plan::RelayModePlan;
use crate::{Machine, Overrides, describe, plan};

#[test]
fn settings_and_events_of_a_link_reach_the_plan() {
    use hexloop_traces::{
        LinkChange, PlaybackChange, QueueDiscipline, QueueLimit, Service, SettingsChange,
        StateOverride,
    };
    let settings = "trace = \"street\"\nqueue = \"200 packets\"\ndiscipline = \"codel\"\n\
                    codel_interval = \"50 ms\"\necn = true\nservice = \"opportunities\"\n\
                    slot = \"62.5 us\"\nreorder = true\n";
    let events = "\n[[events]]\nname = \"b\"\nat = \"3 s\"\naction = \"set\"\n\
                  discipline = \"pie\"\nqueue_target = \"20 ms\"\n\
                  [[events]]\nname = \"a\"\nat = \"1.5 s\"\naction = \"override\"\n\
                  direction = \"up\"\nrate = \"0 bit/s\"\nloss = \"1 %\"\n";
    let text = base().replace("trace = \"street\"\n", settings) + events;
    let plan = planned(&text, &Overrides::default(), 2).plan;
    let set = plan.links[0].settings;
    assert_eq!(set.queue, QueueLimit::Packets(200));
    let codel = QueueDiscipline::Codel {
        target_ns: 5_000_000,
        interval_ns: 50_000_000,
    };
    assert_eq!(set.discipline, codel);
    assert_eq!(set.service, Service::Opportunities { slot_ns: 62_500 });
    assert!(set.ecn && set.reorder);
    let [first, second] = plan.events.as_slice() else {
        panic!("{:?}", plan.events);
    };
    let outage = StateOverride {
        rate_bps: Some(0),
        loss_ppb: Some(10_000_000),
        ..StateOverride::NONE
    };
    assert_eq!((first.at_ns, first.name.as_str()), (1_500_000_000, "a"));
    assert_eq!(
        first.change,
        LinkChange::Play(PlaybackChange::Override(outage))
    );
    assert_eq!(first.directions, [hexloop_traces::Direction::Up]);
    assert!(first.is_in("split"));
    let pie = QueueDiscipline::Pie {
        target_ns: 20_000_000,
        update_ns: 15_000_000,
    };
    let change = SettingsChange {
        discipline: Some(pie),
        ..SettingsChange::default()
    };
    assert_eq!(second.change, LinkChange::Set(change));
}

#[test]
fn a_star_of_a_thousand_nodes_gets_addresses_and_names_of_its_own_for_every_end() {
    use std::fmt::Write as _;
    let mut text = base();
    for number in 0..1100 {
        write!(
            text,
            "\n[nodes.leaf{number}]\n[[links]]\nname = \"leaf{number}\"\n\
             between = [\"edge\", \"leaf{number}\"]\ntrace = \"street\"\n"
        )
        .unwrap();
    }
    let text = text.replace(
        "layers_on_device = 2",
        "layers_on_device = 2\nlink = \"radio\"",
    );
    let planned = planned(&text, &Overrides::default(), 2);
    let ends = || planned.plan.links.iter().flat_map(|link| &link.ends);
    assert_eq!(ends().count(), 2202);
    assert!(ends().all(|end| end.interface.len() <= 15));
    let different = |key: fn(&plan::LinkEnd) -> String| {
        ends()
            .map(key)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!(different(|end| end.interface.clone()), 2202);
    assert_eq!(different(|end| end.ipv4.to_string()), 2202);
    assert_eq!(different(|end| end.ipv6.to_string()), 2202);
    assert_eq!(different(|end| format!("{:?}", end.mac)), 2202);
    let last = &planned.plan.links[1100];
    assert_eq!(last.ends[0].interface, "hx1100a");
    assert_eq!(last.ends[0].ipv4.to_string(), "198.18.17.49");
    assert_eq!(last.ends[1].ipv6.to_string(), "fd68:7865:44c::2");
    assert_eq!(last.ends[1].mac, [2, 0x68, 0x78, 4, 0x4c, 2]);
    assert!(
        planned.notes[0].starts_with("1102 nodes ask for 1102 CPUs"),
        "{:?}",
        planned.notes
    );
}

#[test]
fn cells_and_the_links_that_share_them_reach_the_plan() {
    use hexloop_traces::{CellPolicy, CellSettings};
    let seat = "trace = \"street\"\ncell = \"macro\"\nweight = 3\n";
    let cell = "\n[[cells]]\nname = \"macro\"\ntrace = \"street\"\npolicy = \"fixed-share\"\n\
                slot = \"500 us\"\n";
    let text = base().replace("trace = \"street\"\n", seat) + cell;
    let planned = planned(&text, &Overrides::default(), 2);
    let [cell] = planned.plan.cells.as_slice() else {
        panic!("{:?}", planned.plan.cells);
    };
    let settings = CellSettings {
        policy: CellPolicy::FixedShare,
        slot_ns: 500_000,
    };
    assert_eq!(cell.settings, settings);
    assert_eq!(
        cell.trace_sha256.as_ref(),
        Some(&planned.plan.links[0].trace_sha256)
    );
    assert_eq!(
        (cell.users[0].link.as_str(), cell.users[0].weight),
        ("radio", 3)
    );
    let resolved = resolved(&text, &Overrides::default());
    let words = describe(&planned.plan, &resolved.traces);
    let expected = "  macro: at most trace street in all, fixed-share in slots of 500 us, among \
                    radio (weight 3)\n";
    assert!(words.contains(expected), "{words}");
}

/// The base experiment with a trace that does nothing to packets, and its link so.
fn untouched(link: &str) -> String {
    let trace = "\n[traces.free.steps]\nrates = [\"unlimited\"]\nduration = \"1 h\"\n";
    base().replace(
        "trace = \"street\"\n",
        &format!("trace = \"free\"\n{link}\n"),
    ) + trace
}

fn mode_of(text: &str) -> RelayModePlan {
    planned(text, &Overrides::default(), 4).plan.links[0].mode
}

#[test]
fn the_plan_says_how_a_link_is_relayed() {
    assert_eq!(mode_of(&base()), RelayModePlan::Exact);
    assert_eq!(mode_of(&untouched("")), RelayModePlan::LowLatency);
    assert_eq!(
        mode_of(&untouched("mode = \"exact\"")),
        RelayModePlan::Exact
    );
    assert_eq!(mode_of(&untouched("mode = \"bulk\"")), RelayModePlan::Bulk);
    // What is to be changed while it plays must be able to act on packets.
    let event = "\n[[events]]\nname = \"e\"\nat = \"1 s\"\naction = \"pause\"\n";
    let changed = untouched("") + event;
    assert_eq!(mode_of(&changed), RelayModePlan::Exact);
}

#[test]
fn a_mode_that_passes_packets_on_is_refused_where_something_acts_on_them() {
    let event = "\n[[events]]\nname = \"e\"\nat = \"1 s\"\naction = \"pause\"\n";
    let shaped = base().replace(
        "trace = \"street\"\n",
        "trace = \"street\"\nmode = \"bulk\"\n",
    );
    let cases = [
        (shaped, "its trace limits, delays or harms packets"),
        (
            untouched("mode = \"low-latency\"") + event,
            "an event changes it while it plays",
        ),
    ];
    for (text, why) in cases {
        let resolved = resolved(&text, &Overrides::default());
        let cpus = (0..4).collect();
        let problems = plan(
            &resolved,
            &Machine {
                cpus,
                ..Machine::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert!(problems.contains(why), "{problems}");
        assert!(
            problems.contains("choose mode `exact` or `auto`"),
            "{problems}"
        );
        assert!(problems.contains("mode = "), "{problems}");
    }
}
