//! What a packet costs the engine, without sockets.

use hexloop_workloads::clock;

use super::*;

const PACKETS: u64 = 300_000;

/// Nanoseconds of CPU time per packet, on a trace of 10 000 rows of 1 ms with two rates, offered
/// a third more than it carries.
fn cost_ns(settings: LinkSettings, delay_ns: u64) -> u64 {
    let rows: Vec<_> = (0..10_000)
        .map(|row| (MS, state(200_000_000 + row % 2 * 200_000_000, delay_ns)))
        .collect();
    let mut bench = bench(EndPolicy::Loop, &rows, settings);
    let Bench { shaper, books, .. } = &mut bench;
    let mut slots: Vec<u32> = (0..10_000).collect();
    let before = clock::thread_cpu_ns();
    for number in 0..PACKETS {
        let arrival_ns = number * 30_000;
        if let Arrival::Arrives { .. } = shaper.arrive(arrival_ns, books)
            && let Some(slot) = slots.pop()
        {
            let packet = Packet {
                slot,
                ip_bytes: 1500,
                arrival_ns,
                ecn_capable: true,
            };
            if shaper.enqueue(packet, books) == Admission::Dropped {
                slots.push(slot);
            }
        }
        shaper.advance(arrival_ns, books);
        while let Some(departure) = shaper.pop_due(arrival_ns) {
            slots.push(departure.slot);
        }
        while let Some(edit) = shaper.next_edit() {
            if let Edit::Discard { slot } = edit {
                slots.push(slot);
            }
        }
    }
    (clock::thread_cpu_ns() - before) / PACKETS
}

#[test]
#[ignore = "measures what a packet costs here"]
fn the_engine_takes_so_much_per_packet() {
    let codel = LinkSettings {
        discipline: QueueDiscipline::CODEL,
        ecn: true,
        ..drop_tail(300_000)
    };
    let pie = LinkSettings {
        discipline: QueueDiscipline::PIE,
        ..drop_tail(300_000)
    };
    let slots = LinkSettings {
        service: Service::Opportunities { slot_ns: MS },
        ..drop_tail(300_000)
    };
    let head = LinkSettings {
        discipline: QueueDiscipline::DropHead,
        ..drop_tail(300_000)
    };
    let all = [drop_tail(300_000), head, codel, pie, slots];
    for (name, settings) in ["drop-tail", "drop-head", "codel", "pie", "slots"]
        .iter()
        .zip(all)
    {
        for delay_ns in [0, 20 * MS] {
            println!(
                "{name}, delay {delay_ns}: {} ns",
                cost_ns(settings, delay_ns)
            );
        }
    }
}
