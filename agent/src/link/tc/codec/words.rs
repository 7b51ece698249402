//! Disciplines in words, as `show` prints them.

use std::fmt;

use super::Discipline;
use super::htb::TbfBurst;
use super::netem::{Loss, Netem};
use super::queues::Plug;

/// A share of 2^32 - 1 in percent.
fn percent(probability: u32) -> f64 {
    f64::from(probability) * 100.0 / f64::from(u32::MAX)
}

impl fmt::Display for Discipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Discipline::Htb(htb) if htb.default_class == 0 => {
                write!(f, "htb, the rest unshaped")
            }
            Discipline::Htb(htb) => write!(f, "htb, the rest to class {:x}", htb.default_class),
            Discipline::Tbf(tbf) => {
                write!(f, "tbf, {} bit/s", tbf.rate.saturating_mul(8))?;
                match tbf.burst {
                    TbfBurst::Bytes(bytes) => write!(f, ", burst {bytes} bytes"),
                    TbfBurst::Ticks(ticks) => write!(f, ", burst {} ns", u64::from(ticks) << 6),
                }
            }
            Discipline::Netem(netem) => write_netem(netem, f),
            Discipline::Bfifo(limit) => write!(f, "{kind}, {limit} bytes"),
            Discipline::Pfifo(limit) | Discipline::PfifoHeadDrop(limit) => {
                write!(f, "{kind}, {limit} packets")
            }
            Discipline::Codel(codel) => write!(
                f,
                "{kind}, target {} us, interval {} us, {} packets",
                codel.target_us, codel.interval_us, codel.limit_packets
            ),
            Discipline::FqCodel(fair) => write!(
                f,
                "{kind}, target {} us, interval {} us, {} packets, {} flows",
                fair.codel.target_us, fair.codel.interval_us, fair.codel.limit_packets, fair.flows
            ),
            Discipline::Pie(pie) => write!(
                f,
                "{kind}, target {} us, {} packets",
                pie.target_us, pie.limit_packets
            ),
            Discipline::Fq(fq) => write!(
                f,
                "{kind}, {} packets, horizon {} us",
                fq.limit_packets, fq.horizon_us
            ),
            Discipline::Plug(Plug::Hold) => write!(f, "{kind}, holding"),
            Discipline::Plug(Plug::Limit(limit)) => write!(f, "{kind}, {limit} bytes"),
            Discipline::Plug(Plug::Release)
            | Discipline::Ingress
            | Discipline::Clsact
            | Discipline::Foreign(_) => f.write_str(kind),
        }
    }
}

fn write_netem(netem: &Netem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "netem, delay {} ns, jitter {} ns",
        netem.delay_ns, netem.jitter_ns
    )?;
    match netem.loss {
        Loss::Random(chance) if chance.probability == 0 => {}
        Loss::Random(chance) => write!(f, ", loss {:.4} %", percent(chance.probability))?,
        Loss::GilbertElliott { enter, leave, .. } => {
            write!(
                f,
                ", loss in bursts ({:.4} % in, {:.4} % out)",
                percent(enter),
                percent(leave)
            )?;
        }
        Loss::FourStates(_) => f.write_str(", loss by four states")?,
    }
    for (name, chance) in [
        ("duplicated", netem.duplicate),
        ("corrupted", netem.corrupt),
        ("reordered", netem.reorder),
    ] {
        if chance.probability > 0 {
            write!(f, ", {:.4} % {name}", percent(chance.probability))?;
        }
    }
    write!(f, ", {} packets", netem.limit)
}
