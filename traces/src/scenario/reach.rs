//! Whether a user stays where the path loss is described.

use super::settings::{ChannelModel, LayoutName, SightChoice};
use super::{Scenario, Variant};
use crate::mobility::Point;
use crate::tr38901::path_loss::Geometry;
use crate::tr38901::{Condition, validity};

/// How often the way is looked at: this often a second, and no more than so many times.
const LOOKS_PER_S: f64 = 10.0;
const MOST_LOOKS: u32 = 20_000;

/// What table 7.4.1-1 does not cover of the distance between a user and the nearest site, in words:
/// the first moment at which it does not. Nearer than the table begins, the loss is that of where it
/// begins, so that only far users matter. None as well for a track that has not been read.
pub(super) fn beyond(scenario: &Scenario, variant: Variant) -> Option<String> {
    let channel = scenario.channel.as_ref()?;
    let wraps = scenario.network.layout == LayoutName::Hexagonal;
    if scenario.radio.is_none() || wraps || channel.model != ChannelModel::Tr38901 {
        return None;
    }
    let state = match channel.sight {
        SightChoice::Clear => Condition::Los,
        SightChoice::Drawn | SightChoice::Obstructed => Condition::Nlos,
    };
    let (base_m, user_m) = channel.scenario.usual_heights_m();
    let mut mobility = scenario
        .mobility
        .mobility(variant, user_m, scenario.track())?;
    let layout = scenario.network.layout(base_m);
    let duration_s = scenario.duration.as_seconds_f64();
    let looks = (duration_s * LOOKS_PER_S).min(f64::from(MOST_LOOKS));
    let step_s = duration_s / looks.max(1.0);
    let mut look = 0_u32;
    while f64::from(look) <= looks {
        let t_s = f64::from(look) * step_s;
        let place = mobility.at(t_s).position;
        let nearest = |nearest: Option<Point>, cell| {
            let vector = layout.to_user(cell, place);
            let nearer = nearest.is_none_or(|known| vector.length_2d() < known.length_2d());
            if nearer { Some(vector) } else { nearest }
        };
        let vector = layout.cells().iter().fold(None, nearest)?;
        let base_m = place.z - vector.z;
        let d2d_m = vector
            .length_2d()
            .max(validity::nearest_m(channel.scenario));
        let geometry = Geometry::new(channel.scenario, d2d_m, base_m, place.z);
        let outside = validity::distance(channel.scenario, state, &geometry);
        if let Some(outside) = outside.first() {
            return Some(format!("{outside}, {t_s:.1} s after the start"));
        }
        look += 1;
    }
    None
}
