//! The rows of a link by satellites, and of a user who changes between them and base stations.

use super::fader::{Fader, FaderSettings, Way};
use super::link::{Link, Powers, SUBBANDS};
use super::rows::{RadioRows, hundredths, nanoseconds, state_of};
use super::sharing::Sharing;
use super::window::RateWindow;
use crate::network::LayerThreeFilter;
use crate::ntn::{
    Change, Constellation, SatelliteLink, SatelliteLinkSettings, Schedule, ScheduleSettings,
    Serving, User,
};
use crate::phy::decibel;
use crate::scenario::settings::{ConstellationName, FadingModel, SatelliteSettings};
use crate::scenario::{Scenario, Variant};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;
use crate::{CounterRng, Diagnostics, TraceError, TraceRow};

/// Time between looks at the satellites.
const LOOK_NS: u64 = 5_000_000;

/// Delay spread of a satellite link in seconds, and K factor in dB with a line of sight: the
/// order of TR 38.811's suburban tables.
const SPREADS: [(f64, Option<f64>); 2] = [(20e-9, Some(10.0)), (100e-9, None)];

/// Power that arrives by other ways, over that of the line of sight.
const SCATTERED: f64 = 0.05;

/// A trace begins at a moment of the day that the seed chooses: within this time.
const DAY_S: f64 = 86_400.0;

/// Makes the rows of a link by satellites.
#[derive(Debug, Clone)]
pub(in crate::scenario) struct SatelliteRows {
    settings: SatelliteSettings,
    schedule: Schedule,
    losses: SatelliteLink,
    link: Link,
    sharing: Sharing,
    windows: [RateWindow; 2],
    serving: Option<Serving>,
    powers: Powers,
    sight: bool,
    event: Option<&'static str>,
    start_s: f64,
    scatterers_m_s: f64,
    next_look_ns: u64,
    next_slot: u64,
    slot_ns: u64,
    next_ns: u64,
    step_ns: u64,
}

fn error(problem: &impl ToString) -> TraceError {
    TraceError::Generator {
        setting: "satellite",
        problem: problem.to_string(),
    }
}

impl SatelliteRows {
    pub(in crate::scenario) fn new(
        scenario: &Scenario,
        settings: &SatelliteSettings,
        variant: Variant,
    ) -> Result<SatelliteRows, TraceError> {
        let seed = variant.seed;
        let user = format!("user {}", variant.user);
        let radio = &settings.radio;
        let carrier_ghz = radio.carrier.as_ghz_f64();
        let constellation = match settings.constellation {
            ConstellationName::Low => Constellation::low(),
            ConstellationName::High => Constellation::high(),
        };
        let place = User {
            latitude_deg: settings.latitude_deg,
            longitude_deg: 0.0,
            earth_rotates: true,
        };
        let schedule = ScheduleSettings {
            least_elevation_deg: settings.least_elevation_deg,
            ..ScheduleSettings::default()
        };
        let random = |process| CounterRng::new(seed, &user, process);
        let schedule = constellation
            .and_then(|constellation| {
                Schedule::new(constellation, place, schedule, random("satellites"))
            })
            .map_err(|problem| error(&problem))?;
        let environment = settings.surroundings.environment();
        let losses = SatelliteLinkSettings {
            rain_mm_h: settings.rain_mm_h,
            ..SatelliteLinkSettings::new(carrier_ghz, environment)
        };
        let losses = SatelliteLink::new(losses, random("satellite losses"))
            .map_err(|problem| error(&problem))?;
        let wavelength_m = SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9);
        let key = format!("{user} satellite");
        // Feedback of HARQ is off, as Rel-17 allows: sixteen processes would wait for the satellite.
        let fading = FaderSettings::new(radio, FadingModel::Tdl, wavelength_m);
        let fader = Fader::new(&fading, &SPREADS, &Way::default(), (seed, &key))?;
        let link = Link::new(radio, fader, 0, (seed, &key))?;
        let numerology = radio.numerology().map_err(|problem| error(&problem))?;
        let pattern = radio.pattern().map_err(|problem| error(&problem))?;
        let slot_ns = numerology.slot_ns();
        let window = RateWindow::new(scenario.step.ns, pattern.period() * slot_ns);
        Ok(SatelliteRows {
            schedule,
            losses,
            sharing: Sharing::new(radio, (slot_ns, link.report_slots()), seed, u32::MAX)?,
            link,
            windows: [window.clone(), window],
            serving: None,
            powers: Powers::default(),
            sight: false,
            event: None,
            start_s: libm::floor(DAY_S * CounterRng::new(seed, "satellites", "start").uniform(0)),
            scatterers_m_s: scenario.mobility.scatterers.as_metres_per_second_f64(),
            next_look_ns: 0,
            next_slot: 0,
            slot_ns,
            next_ns: 0,
            step_ns: scenario.step.ns,
            settings: settings.clone(),
        })
    }

    /// Looks who serves, and what arrives of it.
    #[expect(clippy::cast_precision_loss, reason = "moments lie far below 2^53 ns")]
    fn look_up(&mut self, now_ns: u64) -> Result<(), TraceError> {
        let serving = self.schedule.at(self.start_s + now_ns as f64 / 1e9);
        let satellite = |serving: &Option<Serving>| serving.map(|serving| serving.sight.satellite);
        if now_ns > 0 {
            if satellite(&serving) != satellite(&self.serving) {
                self.event = Some("satellite-change");
                self.link.reset();
                let number = serving.map_or(u32::MAX, |serving| serving.sight.satellite);
                self.sharing.change(number, self.next_slot)?;
            } else if serving.map(|serving| serving.beam) != self.serving.map(|old| old.beam) {
                self.event.get_or_insert("beam-change");
            }
        }
        self.serving = serving;
        self.powers = Powers::default();
        let Some(serving) = serving else {
            return Ok(());
        };
        let point = serving.sight.point;
        let losses = self
            .losses
            .losses(
                u64::from(serving.sight.satellite),
                point.elevation_deg,
                point.slant_range_km,
            )
            .map_err(|problem| error(&problem))?;
        let radio = &self.settings.radio;
        let power_dbm = radio.base_power.as_dbm_f64()
            + radio.base_beam_gain.as_db_f64()
            + radio.user_gain.as_db_f64();
        let power_mw = libm::exp10((power_dbm - losses.total_db()) / 10.0);
        self.sight = losses.line_of_sight;
        self.powers = if losses.line_of_sight {
            Powers {
                direct_mw: power_mw * (1.0 - SCATTERED),
                scattered_mw: power_mw * SCATTERED,
            }
        } else {
            Powers {
                scattered_mw: power_mw,
                ..Powers::default()
            }
        };
        Ok(())
    }

    fn flight_ns(&self) -> u64 {
        let hops = if self.settings.regenerative { 1.0 } else { 2.0 };
        let range_km = self
            .serving
            .map_or(0.0, |serving| serving.sight.point.slant_range_km);
        nanoseconds(hops * range_km * 1e3 / SPEED_OF_LIGHT_M_PER_S)
    }

    #[expect(clippy::cast_precision_loss, reason = "moments lie far below 2^53 ns")]
    pub(in crate::scenario) fn next(
        &mut self,
        duration_ns: u64,
    ) -> Result<Option<TraceRow>, TraceError> {
        let t_ns = self.next_ns;
        if t_ns >= duration_ns {
            return Ok(None);
        }
        self.next_ns = t_ns.saturating_add(self.step_ns);
        self.event = None;
        let mut bits = [0_u64; 2];
        let (mut sinr, mut slots) = (0.0, 0.0);
        let mut last = None;
        let mut interrupted = false;
        while self.next_slot * self.slot_ns < self.next_ns {
            let now_ns = self.next_slot * self.slot_ns;
            if now_ns >= self.next_look_ns {
                self.next_look_ns = (now_ns / LOOK_NS + 1) * LOOK_NS;
                self.look_up(now_ns)?;
            }
            interrupted = self
                .serving
                .is_none_or(|serving| serving.interrupted == Some(Change::Satellite));
            let way_m = self.scatterers_m_s * now_ns as f64 / 1e9;
            let cell = (!interrupted).then(|| self.sharing.cell());
            let arrives = (&self.powers, &[0.0; SUBBANDS]);
            let slot = self.link.step(self.next_slot, way_m, arrives, cell);
            bits[0] += slot.down.bits;
            bits[1] += slot.up.bits;
            sinr += slot.sinr;
            slots += 1.0;
            last = Some(slot);
            self.next_slot += 1;
        }
        let Some(last) = last else {
            return Err(error(&"a row is shorter than a slot"));
        };
        if interrupted {
            self.windows.iter_mut().for_each(RateWindow::clear);
            bits = [0; 2];
        }
        let far_ns = self.settings.radio.core_delay.ns + self.flight_ns();
        let elevation = self
            .serving
            .map(|serving| serving.sight.point.elevation_deg);
        Ok(Some(TraceRow {
            t_ns,
            down: state_of(self.windows[0].push(bits[0]), far_ns, &last.down),
            up: state_of(self.windows[1].push(bits[1]), far_ns, &last.up),
            diagnostics: Diagnostics {
                sinr_cdb: Some(hundredths(decibel(sinr / slots))),
                mcs: Some(last.down.mcs),
                cell_id: self.serving.map(|serving| serving.sight.satellite),
                los: Some(self.sight),
                elevation_cdeg: elevation.map(hundredths),
                event: self.event.map(str::to_owned),
                ..Diagnostics::default()
            },
        }))
    }
}

/// Base stations where they reach, satellites elsewhere.
#[derive(Debug, Clone)]
pub(in crate::scenario) struct SwitchRows {
    ground: RadioRows,
    sky: SatelliteRows,
    settings: SatelliteSettings,
    by_satellite: bool,
    /// SINR of the base stations in dB as the user judges by: filtered as TS 38.331 filters.
    ground_db: Option<f64>,
    filter: LayerThreeFilter,
    /// Since when the other one should serve.
    wanted_ns: Option<u64>,
    /// Until when nothing is sent.
    interrupted_ns: u64,
}

impl SwitchRows {
    pub(in crate::scenario) fn new(
        ground: RadioRows,
        sky: SatelliteRows,
        settings: &SatelliteSettings,
        step_s: f64,
    ) -> SwitchRows {
        SwitchRows {
            ground,
            sky,
            settings: settings.clone(),
            by_satellite: false,
            ground_db: None,
            filter: LayerThreeFilter::new(4, step_s),
            wanted_ns: None,
            interrupted_ns: 0,
        }
    }

    pub(in crate::scenario) fn next(
        &mut self,
        duration_ns: u64,
    ) -> Result<Option<TraceRow>, TraceError> {
        let (Some(ground), Some(sky)) =
            (self.ground.next(duration_ns)?, self.sky.next(duration_ns)?)
        else {
            return Ok(None);
        };
        let t_ns = ground.t_ns;
        let measured_cdb = ground.diagnostics.sinr_cdb.unwrap_or(i32::MIN);
        self.filter
            .update(&mut self.ground_db, f64::from(measured_cdb) / 100.0);
        let ground_db = self.ground_db.unwrap_or(f64::NEG_INFINITY);
        let other_wanted = if self.by_satellite {
            ground_db > self.settings.return_above.as_db_f64()
        } else {
            ground_db < self.settings.leave_below.as_db_f64()
        };
        let mut event = None;
        if other_wanted {
            let since_ns = *self.wanted_ns.get_or_insert(t_ns);
            if t_ns - since_ns >= self.settings.time_to_trigger.ns {
                self.by_satellite = !self.by_satellite;
                self.wanted_ns = None;
                self.interrupted_ns = t_ns.saturating_add(self.settings.interruption.ns);
                event = Some(if self.by_satellite {
                    "to-satellite"
                } else {
                    "to-base-station"
                });
            }
        } else {
            self.wanted_ns = None;
        }
        let mut row = if self.by_satellite { sky } else { ground };
        if t_ns < self.interrupted_ns {
            row.down.rate_bps = 0;
            row.up.rate_bps = 0;
        }
        if let Some(event) = event {
            row.diagnostics.event = Some(event.to_owned());
        }
        Ok(Some(row))
    }
}
