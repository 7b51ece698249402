//! Who is dropped or marked, and when: one face for all queue disciplines.

use hexloop_traces::{QueueDiscipline, stream};

use super::codel::{Action, Codel};
use super::line::{Packet, WaitingLine};
use super::pie::Pie;

#[derive(Debug)]
pub(super) enum Discipline {
    DropTail,
    DropHead,
    Codel(Codel),
    Pie(Box<Pie>),
}

impl Discipline {
    /// The discipline as it is with an empty queue at `now_ns`.
    pub(super) fn new(
        asked: QueueDiscipline,
        mtu: u32,
        now_ns: u64,
        seed: u64,
        purpose: &str,
    ) -> Discipline {
        match asked {
            QueueDiscipline::DropTail => Discipline::DropTail,
            QueueDiscipline::DropHead => Discipline::DropHead,
            QueueDiscipline::Codel {
                target_ns,
                interval_ns,
            } => Discipline::Codel(Codel::new(target_ns, interval_ns, mtu)),
            QueueDiscipline::Pie {
                target_ns,
                update_ns,
            } => {
                let random = stream(seed, &format!("{purpose} pie"));
                Discipline::Pie(Box::new(Pie::new(
                    target_ns, update_ns, mtu, now_ns, random,
                )))
            }
        }
    }

    /// What happens to a packet that comes and for which there is room.
    pub(super) fn on_arrival(
        &mut self,
        packet: &Packet,
        waiting_bytes: u64,
        ecn: bool,
    ) -> Option<Action> {
        let Discipline::Pie(pie) = self else {
            return None;
        };
        pie.drops(waiting_bytes).then(|| {
            if ecn && packet.ecn_capable && pie.marks() {
                Action::Mark
            } else {
                Action::Drop
            }
        })
    }

    /// A packet came and there was no room.
    pub(super) fn on_overflow(&mut self) {
        if let Discipline::Pie(pie) = self {
            pie.found_full();
        }
    }

    /// The next packet to be served at `now_ns`; what becomes of others goes to `act`.
    pub(super) fn take(
        &mut self,
        now_ns: u64,
        line: &mut WaitingLine,
        ecn: bool,
        act: &mut impl FnMut(Action, Packet),
    ) -> Option<Packet> {
        match self {
            Discipline::DropTail | Discipline::DropHead => line.pop(),
            Discipline::Codel(codel) => codel.take(now_ns, line, ecn, act),
            Discipline::Pie(pie) => {
                pie.update_until(now_ns);
                let packet = line.pop()?;
                let sojourn_ns = now_ns.saturating_sub(packet.arrival_ns);
                pie.departed(sojourn_ns, line.bytes());
                Some(packet)
            }
        }
    }

    /// The link is ready for a packet and there is none.
    pub(super) const fn on_idle(&mut self) {
        if let Discipline::Codel(codel) = self {
            codel.found_nothing();
        }
    }

    /// Does what was due by `to_ns` whether packets came or not.
    pub(super) fn update_until(&mut self, to_ns: u64) {
        if let Discipline::Pie(pie) = self {
            pie.update_until(to_ns);
        }
    }
}
