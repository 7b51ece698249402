//! Energy of a radio link by published models. Nothing here is measured: what comes out is an
//! estimate, with a lower and an upper bound, and is never added to what meters counted.
//!
//! - The user equipment: 3GPP TR 38.840 (16.0.0), clause 8.1, gives relative power per slot of a
//!   reference device (FR1, 100 MHz, 30 kHz, 4 antennas): 45 in micro sleep, 100 while it only
//!   monitors the control channel, 300 while it receives data, 250 while it sends at 0 dBm, 700 at
//!   23 dBm. It gives no watts: [`UNIT_W`] is this project's assumption. The figures were compared
//!   with the table as a thesis on handovers repeats it (repository bjoluc/5g-handover-optimization, 2.2.2).
//! - The base station: EARTH's linear model (Auer et al., "How much energy is needed to run a
//!   wireless network?", IEEE Wireless Communications 18(5), 2011, table 2), a micro cell with two
//!   transceivers: `56 W + 2.6 x 6.3 W x load` each, 39 W each asleep. TR 38.864 has a model of
//!   networks in relative power as well; it is not used, for its tables could not be compared with a
//!   second source, and it gives no watts either.
//!
//! A link's record says how many bytes crossed it in a window and how many its trace would have
//! allowed: their ratio is the share of slots in use. How the idle slots were spent it does not
//! say. The upper bound has the device monitor the control channel in each of them and the base
//! station awake; the lower bound has both asleep.

use hexloop_proto::LinkWindow;
use hexloop_traces::Direction;

use crate::format::count_to_f64;

/// Watts per unit of TR 38.840: a device that receives then draws 3 W, of the order of what
/// modems were measured to draw. An assumption, not part of the report.
pub const UNIT_W: f64 = 0.01;

/// TR 38.840, clause 8.1.
const MICRO_SLEEP: f64 = 45.0;
const MONITORING: f64 = 100.0;
const RECEIVING: f64 = 300.0;
const SENDING_23_DBM: f64 = 700.0;

/// EARTH, micro cell.
const TRANSCEIVERS: f64 = 2.0;
const AWAKE_W: f64 = 56.0;
const SLOPE: f64 = 2.6;
const HIGHEST_OUTPUT_W: f64 = 6.3;
const ASLEEP_W: f64 = 39.0;

/// What it is called wherever its figures stand.
pub const MODEL: &str = "TR 38.840 slot model at an assumed 10 mW per unit, sending at 23 dBm; EARTH micro \
     cell; slots in use = bytes over the trace's bytes";

/// An estimate of one link's radio over some time, in joules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RadioEnergy {
    /// Of the user equipment, at least: idle slots asleep.
    pub device_least_j: f64,
    /// Of the user equipment, at most: idle slots monitoring.
    pub device_most_j: f64,
    /// Of the base station, at least.
    pub base_least_j: f64,
    /// Of the base station, at most.
    pub base_most_j: f64,
    /// Share of time in which data crossed the link downwards and upwards.
    pub active: (f64, f64),
}

/// The radio of one link over all windows given; `None` without windows of both directions.
pub fn radio_energy<'a>(
    link: &str,
    windows: impl IntoIterator<Item = &'a LinkWindow>,
) -> Option<RadioEnergy> {
    // Per direction, down and up: seconds, and seconds in use.
    let (mut length_s, mut active_s) = ([0.0; 2], [0.0; 2]);
    for window in windows.into_iter().filter(|window| window.link == link) {
        let place = match window.direction {
            Direction::Down => 0,
            Direction::Up => 1,
        };
        let seconds = count_to_f64(window.length_ns) / 1e9;
        // What arrives in a window may have been sent before it: no more than all of it is in use.
        let share = match (window.delivered_bytes, window.trace_bytes) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            (delivered, allowed) => (count_to_f64(delivered) / count_to_f64(allowed)).min(1.0),
        };
        length_s[place] += seconds;
        active_s[place] += seconds * share;
    }
    let all_s = length_s[0].max(length_s[1]);
    if length_s.contains(&0.0) {
        return None;
    }
    let [down_s, up_s] = active_s;
    // Sending and receiving may coincide (FDD); idle is what neither fills at least.
    let idle_s = (all_s - down_s - up_s).max(0.0);
    let device = |idle: f64| UNIT_W * (down_s * RECEIVING + up_s * SENDING_23_DBM + idle_s * idle);
    let awake = |seconds: f64| TRANSCEIVERS * AWAKE_W * seconds;
    let output = TRANSCEIVERS * SLOPE * HIGHEST_OUTPUT_W * down_s;
    // A base station that receives is awake, and does not put out power.
    let busy_s = all_s - idle_s;
    Some(RadioEnergy {
        device_least_j: device(MICRO_SLEEP),
        device_most_j: device(MONITORING),
        base_least_j: output + awake(busy_s) + TRANSCEIVERS * ASLEEP_W * idle_s,
        base_most_j: output + awake(all_s),
        active: (down_s / all_s, up_s / all_s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(direction: Direction, delivered_bytes: u64, trace_bytes: u64) -> LinkWindow {
        LinkWindow {
            link: "radio".to_owned(),
            direction,
            start_ns: 0,
            length_ns: 1_000_000_000,
            trace_bytes,
            delivered_bytes,
            delivered_packets: 0,
            backlogged: false,
            queue_bytes: 0,
            dropped_packets: 0,
            lost_packets: 0,
            marked_packets: 0,
            duplicated_packets: 0,
            corrupted_packets: 0,
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn an_idle_second_is_bounded_by_sleep_and_by_monitoring() {
        let windows = [
            window(Direction::Down, 0, 1_000),
            window(Direction::Up, 0, 1_000),
        ];
        let energy = radio_energy("radio", &windows).unwrap();
        close(energy.device_least_j, 0.45);
        close(energy.device_most_j, 1.0);
        close(energy.base_least_j, 78.0);
        close(energy.base_most_j, 112.0);
    }

    #[test]
    fn slots_in_use_cost_what_the_tables_say() {
        // Half of a second down, a quarter up.
        let windows = [
            window(Direction::Down, 500, 1_000),
            window(Direction::Up, 250, 1_000),
        ];
        let energy = radio_energy("radio", &windows).unwrap();
        close(energy.active.0, 0.5);
        close(energy.active.1, 0.25);
        close(energy.device_most_j, 0.01 * (150.0 + 175.0 + 25.0));
        let output = 2.0 * 2.6 * 6.3 * 0.5;
        close(energy.base_most_j, 112.0 + output);
        close(energy.base_least_j, 112.0 * 0.75 + 78.0 * 0.25 + output);
    }

    #[test]
    fn bytes_that_were_late_fill_no_more_than_the_window_and_an_outage_is_no_free_ride() {
        let windows = [
            window(Direction::Down, 3_000, 1_000),
            window(Direction::Up, 10, 0),
        ];
        let energy = radio_energy("radio", &windows).unwrap();
        close(energy.active.0, 1.0);
        close(energy.active.1, 1.0);
        close(energy.device_least_j, energy.device_most_j);
    }

    #[test]
    fn a_link_without_windows_has_no_estimate() {
        let down = [window(Direction::Down, 1, 1)];
        assert_eq!(radio_energy("radio", &down), None);
        assert_eq!(radio_energy("other", &down), None);
    }
}
