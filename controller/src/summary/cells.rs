//! What the links of a cell got in bulk phases, beside what the cell's policy gives them: its
//! scheduler replayed on the traces alone, without the books of whoever shaped the packets.

use std::collections::BTreeMap;

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{CellPlan, Plan, TrafficJob, TrafficPlan};
use hexloop_traces::{
    CapacityCurve, Carried, CellPolicy, CellScheduler, Direction, Schedule, SlotShare, Trace,
};

use super::{CellSummary, CellUserSummary};
use crate::format::{length, ratio};
use crate::results::{PhaseResults, Results};

/// Most slots of a phase, times links, that are replayed: some seconds of computing.
const MOST_STEPS: u64 = 50_000_000;

pub(super) fn summaries(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Vec<CellSummary> {
    let mut summaries = Vec::new();
    for phase in &plan.traffic {
        let TrafficJob::Bulk { directions } = &phase.job else {
            continue;
        };
        let Some(recorded) = results.phase(&phase.name) else {
            continue;
        };
        for cell in &plan.cells {
            let filled = filled(cell, phase);
            if !filled.contains(&true) {
                continue;
            }
            for &direction in directions {
                let replay = Replay::new(plan, traces, (cell, &filled), direction);
                summaries.push(summary(phase, cell, (&filled, direction), recorded, replay));
            }
        }
    }
    summaries
}

/// Which links of the cell the phase fills, in the order of its users.
fn filled(cell: &CellPlan, phase: &TrafficPlan) -> Vec<bool> {
    let is_filled = |link: &str| phase.links().any(|(name, _)| name == link);
    cell.users
        .iter()
        .map(|user| is_filled(&user.link))
        .collect()
}

fn summary(
    phase: &TrafficPlan,
    cell: &CellPlan,
    (filled, direction): (&[bool], Direction),
    recorded: &PhaseResults,
    replay: Option<Replay<'_>>,
) -> CellSummary {
    let users = cell.users.iter().zip(filled).enumerate();
    let users = users.filter(|(_, (_, filled))| **filled);
    let users: Vec<_> = users.map(|(index, (user, _))| (index, user)).collect();
    let windows: Vec<BTreeMap<u64, &LinkWindow>> = users
        .iter()
        .map(|(_, user)| {
            let of_user = recorded
                .windows
                .iter()
                .filter(|window| window.link == user.link && window.direction == direction);
            of_user.map(|window| (window.start_ns, window)).collect()
        })
        .collect();
    // Window by its start: how long it is, where everybody had something waiting in it.
    let of_first = windows.first().into_iter().flatten();
    let common = of_first.filter(|(start_ns, _)| {
        windows.iter().all(|of_user| {
            of_user
                .get(start_ns)
                .is_some_and(|window| window.backlogged)
        })
    });
    let common: BTreeMap<u64, u64> = common
        .map(|(start_ns, window)| (*start_ns, window.length_ns))
        .collect();
    let asked = replay.and_then(|replay| replay.bytes_in(&common, phase.duration_ns));
    let got: Vec<u64> = windows
        .iter()
        .map(|of_user| {
            let bytes = common.keys().filter_map(|start_ns| of_user.get(start_ns));
            bytes.map(|window| window.delivered_bytes).sum()
        })
        .collect();
    let all_got: u64 = got.iter().sum();
    let asked_of = |index: usize| asked.as_ref()?.get(index).copied();
    let all_asked = users
        .iter()
        .map(|(index, _)| asked_of(*index))
        .sum::<Option<u64>>();
    CellSummary {
        phase: phase.name.clone(),
        cell: cell.name.clone(),
        policy: cell.settings.to_string(),
        direction: direction.name().to_owned(),
        windows: windows.first().map_or(0, length_of),
        backlogged_windows: length_of(&common),
        users: users
            .iter()
            .zip(got)
            .map(|((index, user), delivered_bytes)| {
                let asked_bytes = asked_of(*index);
                CellUserSummary {
                    link: user.link.clone(),
                    weight: (cell.settings.policy == CellPolicy::FixedShare).then_some(user.weight),
                    delivered_bytes,
                    asked_bytes,
                    delivered_share: ratio(delivered_bytes, all_got),
                    asked_share: asked_bytes
                        .zip(all_asked)
                        .and_then(|(asked, all)| ratio(asked, all)),
                    delivered_over_asked: asked_bytes
                        .and_then(|asked| ratio(delivered_bytes, asked)),
                }
            })
            .collect(),
    }
}

fn length_of<K, V>(map: &BTreeMap<K, V>) -> u64 {
    length(&map.keys().collect::<Vec<_>>())
}

/// One direction of a cell, with users who always have something to send, or never.
struct Replay<'a> {
    cell: &'a CellPlan,
    /// By user: what it could carry alone, and whether it sends.
    users: Vec<(Schedule, bool)>,
    /// What the cell carries at most.
    most: Option<Schedule>,
}

impl<'a> Replay<'a> {
    /// `None` where a trace is missing.
    fn new(
        plan: &Plan,
        traces: &BTreeMap<String, Trace>,
        (cell, filled): (&'a CellPlan, &[bool]),
        direction: Direction,
    ) -> Option<Replay<'a>> {
        let schedule = |trace: &str| {
            let trace = traces.get(trace)?;
            Some(Schedule::new(CapacityCurve::new(trace, direction)))
        };
        let users = cell.users.iter().zip(filled).map(|(user, filled)| {
            let link = plan.link(&user.link)?;
            Some((schedule(&link.trace)?, *filled))
        });
        let most = match &cell.trace {
            Some(trace) => Some(schedule(trace)?),
            None => None,
        };
        Some(Replay {
            cell,
            users: users.collect::<Option<_>>()?,
            most,
        })
    }

    /// Bytes that each user gets in the windows, given by their starts and lengths: those of a
    /// slot arrive at its end, a delay later. `None` where that would take too long to compute.
    fn bytes_in(&self, windows: &BTreeMap<u64, u64>, until_ns: u64) -> Option<Vec<u64>> {
        let slot_ns = self.cell.settings.slot_ns.max(1);
        let slots = until_ns / slot_ns;
        if slots.saturating_mul(length(&self.users)) > MOST_STEPS {
            return None;
        }
        let weights: Vec<u32> = self.cell.users.iter().map(|user| user.weight).collect();
        let mut scheduler = CellScheduler::new(self.cell.settings, &weights);
        let mut shares = vec![SlotShare::default(); self.users.len()];
        let mut bits = vec![Carried::default(); self.users.len()];
        for slot in 0..slots {
            let (start_ns, end_ns) = (slot * slot_ns, (slot + 1) * slot_ns);
            let carried = |schedule: &Schedule| {
                schedule
                    .carried_by(end_ns)
                    .since(schedule.carried_by(start_ns))
            };
            let most = self.most.as_ref().map(carried);
            for ((schedule, sends), share) in self.users.iter().zip(&mut shares) {
                let channel = carried(schedule);
                *share = SlotShare {
                    channel: most.map_or(channel, |most| channel.min(most)),
                    backlog: Carried::of_bits(if *sends { u64::MAX } else { 0 }),
                    granted: Carried::default(),
                };
            }
            scheduler.divide(&mut shares);
            for (((schedule, _), share), bits) in self.users.iter().zip(&shares).zip(&mut bits) {
                let arrives_ns = end_ns.saturating_add(schedule.state_at(end_ns).delay_ns);
                let window = windows.range(..arrives_ns).next_back();
                if window.is_some_and(|(start_ns, long_ns)| arrives_ns <= start_ns + long_ns) {
                    *bits = bits.and(share.granted);
                }
            }
        }
        Some(bits.iter().map(|bits| bits.whole_bits() / 8).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use hexloop_topologies::plan::{BesidePlan, CellUserPlan};
    use hexloop_traces::CellSettings;
    use hexloop_traces::generate::control;

    const WINDOW_NS: u64 = 100_000_000;

    /// A cell of links at so many bytes per millisecond, in a phase of a second that fills all of
    /// them but the last, and a window every 100 ms in which each gets so many bytes.
    fn summary_of(policy: CellPolicy, users: &[(u32, u64)], got: &[u64]) -> CellSummary {
        let mut plan = fixture::plan();
        let (mut traces, mut recorded) = (BTreeMap::new(), PhaseResults::default());
        let links: Vec<String> = (0..users.len()).map(|n| format!("link-{n}")).collect();
        let radio = plan.links.remove(0);
        for (name, (_, bytes)) in links.iter().zip(users) {
            let mut link = radio.clone();
            (link.name, link.trace) = (name.clone(), name.clone());
            plan.links.push(link);
            let trace = control::constant(bytes * 8000, 2_000_000, 0, 1 << 40).unwrap();
            traces.insert(name.clone(), trace);
        }
        plan.cells = vec![CellPlan {
            name: "macro".to_owned(),
            trace: None,
            trace_sha256: None,
            settings: CellSettings::new(policy),
            users: links
                .iter()
                .zip(users)
                .map(|(link, (weight, _))| CellUserPlan {
                    link: link.clone(),
                    weight: *weight,
                })
                .collect(),
        }];
        let address = ([198, 18, 0, 2], 1).into();
        plan.traffic = vec![TrafficPlan {
            name: "bulk".to_owned(),
            job: TrafficJob::Bulk {
                directions: vec![Direction::Up],
            },
            link: links[0].clone(),
            address,
            beside: links[1..links.len() - 1]
                .iter()
                .map(|link| BesidePlan {
                    link: link.clone(),
                    address,
                })
                .collect(),
            load: false,
            duration_ns: 1_000_000_000,
        }];
        for (link, bytes) in links.iter().zip(got) {
            recorded.windows.extend((0..10).map(|number| LinkWindow {
                link: link.clone(),
                direction: Direction::Up,
                start_ns: number * WINDOW_NS,
                length_ns: WINDOW_NS,
                trace_bytes: *bytes,
                delivered_bytes: *bytes,
                delivered_packets: 1,
                // Nothing can have arrived everywhere before the delay is over.
                backlogged: number > 0,
                queue_bytes: 1,
                dropped_packets: 0,
                lost_packets: 0,
                marked_packets: 0,
                duplicated_packets: 0,
                corrupted_packets: 0,
            }));
        }
        let (phase, cell) = (&plan.traffic[0], &plan.cells[0]);
        let filled = filled(cell, phase);
        let replay = Replay::new(&plan, &traces, (cell, &filled), Direction::Up);
        summary(phase, cell, (&filled, Direction::Up), &recorded, replay)
    }

    fn asked(summary: &CellSummary) -> Vec<u64> {
        let users = summary.users.iter();
        users.map(|user| user.asked_bytes.unwrap()).collect()
    }

    #[test]
    fn a_policy_is_replayed_over_the_windows_in_which_everybody_waits() {
        // The third link is idle: its weight and its channel count for nothing.
        let users = [(1, 1000), (3, 2000), (5, 9000)];
        let of = |policy| summary_of(policy, &users, &[22_500, 150_000, 0]);
        let fixed = of(CellPolicy::FixedShare);
        assert_eq!((fixed.windows, fixed.backlogged_windows), (10, 9));
        // 900 slots, of which one gets a quarter and the other three.
        assert_eq!(asked(&fixed), [225_000, 1_350_000]);
        assert_eq!(fixed.users[0].delivered_bytes, 9 * 22_500);
        assert_eq!(fixed.users[0].delivered_over_asked, Some(0.9));
        assert_eq!(fixed.users[1].weight, Some(3));
        let robin = of(CellPolicy::RoundRobin);
        assert_eq!(asked(&robin), [450_000, 900_000]);
        assert_eq!(robin.users[1].asked_share, Some(0.666_666_667));
        assert_eq!(robin.users[1].weight, None);
        // In proportion to the channel, each gets half of the time.
        let fair = asked(&of(CellPolicy::PROPORTIONAL_FAIR));
        assert!(fair[0].abs_diff(450_000) < 9_000, "{fair:?}");
        assert!(fair[1].abs_diff(900_000) < 18_000, "{fair:?}");
    }
}
