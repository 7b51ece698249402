//! Which satellite and which of its beams serve a user when: anew every 15 seconds, as measured
//! on the largest network of its kind, and whenever a beam that moves with its satellite has
//! passed.

use super::constellation::{Constellation, Sight, User};
use super::error::{NtnError, within};
use crate::CounterRng;

/// How a user is served.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSettings {
    /// Lowest elevation of a satellite that serves, in degrees.
    pub least_elevation_deg: f64,
    /// Seconds between two allocations.
    pub reallocation_s: f64,
    /// When the first one after 0 is, in seconds.
    pub offset_s: f64,
    /// Among how many of the highest satellites chance decides; 1 takes the highest.
    pub candidates: u32,
    /// Width of a beam on the ground, in km.
    pub beam_width_km: f64,
    /// How long nothing is sent when the satellite changes, in seconds.
    pub satellite_interruption_s: f64,
    /// How long nothing is sent when the beam changes, in seconds.
    pub beam_interruption_s: f64,
}

impl Default for ScheduleSettings {
    /// 15 s from second 12 on, 25 degrees, the best of three, beams of 50 km. The interruptions
    /// are assumptions.
    fn default() -> ScheduleSettings {
        ScheduleSettings {
            least_elevation_deg: 25.0,
            reallocation_s: 15.0,
            offset_s: 12.0,
            candidates: 3,
            beam_width_km: 50.0,
            satellite_interruption_s: 0.06,
            beam_interruption_s: 0.02,
        }
    }
}

/// What changed a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another satellite serves.
    Satellite,
    /// Another beam of the same satellite serves.
    Beam,
}

/// Who serves a user at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Serving {
    /// The satellite as the user sees it.
    pub sight: Sight,
    /// The beam, counted along and across the satellite's way.
    pub beam: [i32; 2],
    /// The change on whose account nothing is sent at the moment, if there is one.
    pub interrupted: Option<Change>,
}

/// The schedule of one user. The answer depends on the moment alone; what was chosen for the
/// current allocation is kept, for a constellation is large.
#[derive(Debug, Clone)]
pub struct Schedule {
    constellation: Constellation,
    user: User,
    settings: ScheduleSettings,
    random: CounterRng,
    /// Allocation, the satellite of the one before it, its own.
    current: Option<(i64, Option<u32>, Option<u32>)>,
}

impl Schedule {
    /// The schedule of `user`, to whom `random` belongs alone.
    ///
    /// # Errors
    ///
    /// Settings that cannot be, such as no time between two allocations.
    pub fn new(
        constellation: Constellation,
        user: User,
        settings: ScheduleSettings,
        random: CounterRng,
    ) -> Result<Schedule, NtnError> {
        let positive = (1e-3, 1e6, "0.001 to 1000000");
        within(
            "the reallocation in seconds",
            settings.reallocation_s,
            positive,
        )?;
        within("the beam's width in km", settings.beam_width_km, positive)?;
        within(
            "the number of candidates",
            f64::from(settings.candidates),
            positive,
        )?;
        within(
            "the latitude",
            user.latitude_deg,
            (-90.0, 90.0, "-90 to 90 degrees"),
        )?;
        within(
            "the longitude",
            user.longitude_deg,
            (-360.0, 360.0, "-360 to 360 degrees"),
        )?;
        let range = (0.0, 90.0, "0 to 90 degrees");
        within("the least elevation", settings.least_elevation_deg, range)?;
        let range = (
            0.0,
            settings.reallocation_s,
            "0 to the time between two allocations",
        );
        within("the offset in seconds", settings.offset_s, range)?;
        for seconds in [
            settings.satellite_interruption_s,
            settings.beam_interruption_s,
        ] {
            within("an interruption in seconds", seconds, range)?;
        }
        Ok(Schedule {
            constellation,
            user,
            settings,
            random,
            current: None,
        })
    }

    /// Who serves at `t_s`; none where no satellite stands high enough.
    pub fn at(&mut self, t_s: f64) -> Option<Serving> {
        let slot = self.slot(t_s);
        let (before, now) = self.allocation(slot);
        let satellite = now?;
        let sight = self.constellation.sight(&self.user, satellite, t_s);
        let beam = self.beam(&sight);
        let since_s = t_s - self.start_s(slot);
        let settings = &self.settings;
        let interrupted = if before != now && since_s < settings.satellite_interruption_s {
            Some(Change::Satellite)
        } else {
            // As the beams only move on, one look back tells whether there was a change.
            let back_s = since_s.min(settings.beam_interruption_s);
            let earlier = self
                .constellation
                .sight(&self.user, satellite, t_s - back_s);
            (self.beam(&earlier) != beam).then_some(Change::Beam)
        };
        Some(Serving {
            sight,
            beam,
            interrupted,
        })
    }

    fn slot(&self, t_s: f64) -> i64 {
        let settings = &self.settings;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, at once for NaN"
        )]
        let slot = libm::floor((t_s - settings.offset_s) / settings.reallocation_s) as i64;
        slot
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 allocations are enough")]
    fn start_s(&self, slot: i64) -> f64 {
        self.settings.offset_s + slot as f64 * self.settings.reallocation_s
    }

    /// The satellites of the allocation before `slot` and of `slot`.
    fn allocation(&mut self, slot: i64) -> (Option<u32>, Option<u32>) {
        if let Some((kept, before, now)) = self.current
            && kept == slot
        {
            return (before, now);
        }
        let previous = slot.saturating_sub(1);
        let before = match self.current {
            Some((kept, _, now)) if kept == previous => now,
            _ => self.choose(previous),
        };
        let now = self.choose(slot);
        self.current = Some((slot, before, now));
        (before, now)
    }

    /// One of the highest satellites in the middle of the allocation among those that stay high
    /// enough from its start to its end.
    fn choose(&self, slot: i64) -> Option<u32> {
        let settings = &self.settings;
        let least = settings.least_elevation_deg;
        let start_s = self.start_s(slot);
        let middle_s = start_s + settings.reallocation_s / 2.0;
        let stays = |satellite: u32| {
            [start_s, start_s + settings.reallocation_s]
                .into_iter()
                .all(|t_s| {
                    let sight = self.constellation.sight(&self.user, satellite, t_s);
                    sight.point.elevation_deg >= least
                })
        };
        let mut found: Vec<Sight> = self
            .constellation
            .visible(&self.user, middle_s, least)
            .filter(|sight| stays(sight.satellite))
            .collect();
        found.sort_by(|a, b| {
            b.point
                .elevation_deg
                .total_cmp(&a.point.elevation_deg)
                .then(a.satellite.cmp(&b.satellite))
        });
        let candidates = found.len().min(settings.candidates as usize);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "below the number of candidates"
        )]
        let chosen = (self.random.uniform(slot.cast_unsigned()) * candidates as f64) as usize;
        found.get(chosen).map(|sight| sight.satellite)
    }

    fn beam(&self, sight: &Sight) -> [i32; 2] {
        let width_km = self.settings.beam_width_km;
        #[expect(clippy::cast_possible_truncation, reason = "within one Earth")]
        let number = |km: f64| libm::floor(km / width_km + 0.5) as i32;
        [number(sight.along_track_km), number(sight.cross_track_km)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: User = User {
        latitude_deg: 48.0,
        longitude_deg: 11.0,
        earth_rotates: true,
    };

    fn schedule(settings: ScheduleSettings) -> Schedule {
        let random = CounterRng::new(1, "user", "schedule");
        Schedule::new(Constellation::low().unwrap(), USER, settings, random).unwrap()
    }

    #[test]
    fn satellites_change_only_every_15_seconds_and_beams_in_between() {
        let mut schedule = schedule(ScheduleSettings::default());
        let (mut satellites, mut beams) = (0, 0);
        let mut before: Option<Serving> = None;
        for step in 0..60_000_u32 {
            let t_s = f64::from(step) * 0.01;
            let serving = schedule.at(t_s).unwrap();
            assert!(serving.sight.point.elevation_deg >= 25.0 - 1e-9);
            if let Some(before) = before {
                if before.sight.satellite != serving.sight.satellite {
                    satellites += 1;
                    assert_eq!(step % 1500, 1200, "at second 12, 27, 42 or 57");
                    assert_eq!(serving.interrupted, Some(Change::Satellite));
                } else if before.beam != serving.beam {
                    beams += 1;
                    assert!(serving.interrupted.is_some());
                } else {
                    let moved =
                        serving.sight.point.one_way_delay_s - before.sight.point.one_way_delay_s;
                    assert!(moved.abs() < 0.01 * 25e-6, "the delay drifts");
                }
            }
            before = Some(serving);
        }
        assert!((20..=40).contains(&satellites), "{satellites}");
        // Beams of 50 km pass at about 7 km/s.
        assert!((30..=130).contains(&beams), "{beams}");
    }

    #[test]
    fn the_answer_depends_on_the_moment_alone() {
        let mut forwards = schedule(ScheduleSettings::default());
        let mut jumping = schedule(ScheduleSettings::default());
        let moments: Vec<f64> = (0..40_u32).map(|k| f64::from(k) * 7.3).collect();
        let ahead: Vec<_> = moments.iter().map(|t_s| forwards.at(*t_s)).collect();
        let back: Vec<_> = moments.iter().rev().map(|t_s| jumping.at(*t_s)).collect();
        assert!(ahead.iter().eq(back.iter().rev()));
    }

    #[test]
    fn interruptions_last_as_long_as_was_said() {
        let settings = ScheduleSettings {
            satellite_interruption_s: 0.5,
            beam_interruption_s: 0.0,
            ..ScheduleSettings::default()
        };
        let mut schedule = schedule(settings);
        let interrupted = (0..30_000_u32)
            .filter(|step| {
                let serving = schedule.at(f64::from(*step) * 0.01).unwrap();
                serving.interrupted == Some(Change::Satellite)
            })
            .count();
        assert_eq!(interrupted % 50, 0, "whole half seconds");
        assert!(interrupted > 0);
    }

    #[test]
    fn where_no_satellite_goes_nobody_serves() {
        let pole = User {
            latitude_deg: -90.0,
            ..USER
        };
        let random = CounterRng::new(1, "user", "schedule");
        let low = Constellation::low().unwrap();
        let mut nobody =
            Schedule::new(low.clone(), pole, ScheduleSettings::default(), random).unwrap();
        assert_eq!(nobody.at(100.0), None);
        let settings = ScheduleSettings {
            reallocation_s: 0.0,
            ..ScheduleSettings::default()
        };
        assert!(Schedule::new(low, pole, settings, random).is_err());
    }
}
