//! The rows of a radio channel.

use super::blockers::InTheWay;
use super::fader::{Fader, FaderSettings, Way};
use super::interference::{Disturber, Interference};
use super::link::{Link, Powers, Slot, powers_of};
use super::sharing::{Neighbours, Sharing};
use super::sites::{ExtraLoss, Sites};
use super::window::RateWindow;
use crate::mobility::{Mobility, Motion};
use crate::network::{Connection, ConnectionEvent};
use crate::phy::{SlotService, decibel};
use crate::propagation::{Air, Gases, Polarization, rain_db_km};
use crate::scenario::settings::{RadioLink, Weather};
use crate::scenario::{Scenario, Variant};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;
use crate::tr38901::track::Wander;
use crate::{CounterRng, Diagnostics, LinkState, TraceError, TraceRow};

/// Time between looks at places, losses and the serving cell.
const LARGE_SCALE_NS: u64 = 5_000_000;

/// A packet is given up when the air interface has held it for so long (PDCP's discard timer, an
/// assumption); what is longer stands for a link that carries next to nothing.
const LONGEST_ACCESS_NS: u64 = 300_000_000;

/// A blocker that takes more than this many dB is told.
const BLOCKED_DB: f64 = 3.0;

/// Makes the rows of one user's channel.
#[derive(Debug, Clone)]
pub(in crate::scenario) struct RadioRows {
    radio: RadioLink,
    mobility: Mobility,
    motion: Motion,
    /// When the motion was looked at.
    motion_ns: u64,
    sites: Sites,
    way: Option<(InTheWay, f64)>,
    weather: Weather,
    gases_db_km: f64,
    vehicle_db: f64,
    rain: Wander,
    beam: Beam,
    connection: Connection,
    link: Link,
    sharing: Sharing,
    neighbours: Neighbours,
    interference: Interference,
    /// Cells that disturb and fade; kept for its memory.
    fading_cells: Vec<usize>,
    fading: FaderSettings,
    seed: u64,
    user: String,
    windows: [RateWindow; 2],
    /// Received power of each cell in mW, without what blocks the serving one.
    received_mw: Vec<f64>,
    rsrp_dbm: Vec<f64>,
    powers: Powers,
    state: State,
    load: f64,
    scatterers_m_s: f64,
    next_large_scale_ns: u64,
    next_slot: u64,
    slot_ns: u64,
    next_ns: u64,
    step_ns: u64,
}

/// What of the large-scale state goes into rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct State {
    cell: u32,
    sight: bool,
    blocked: bool,
    flight_ns: u64,
    event: Option<&'static str>,
}

/// Where the serving cell's beam points.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Beam {
    width_deg: Option<f64>,
    period_ns: u64,
    /// The direction at the last sweep, and when it was.
    azimuth_deg: f64,
    sweep: u64,
    gain: f64,
}

impl Beam {
    /// The cell sweeps now: the user has just come to it.
    const fn point(&mut self) {
        self.sweep = u64::MAX;
    }

    /// What the beam loses by not pointing at the user any more, linear: a Gaussian main lobe,
    /// -12 (angle / width)^2 dB, down to the cell's element without the beam.
    fn loss(&mut self, now_ns: u64, azimuth_deg: f64) -> f64 {
        let Some(width_deg) = self.width_deg else {
            return 1.0;
        };
        let sweep = now_ns / self.period_ns;
        if sweep != self.sweep {
            self.sweep = sweep;
            self.azimuth_deg = azimuth_deg;
        }
        let off = (azimuth_deg - self.azimuth_deg) / width_deg;
        libm::exp10(-1.2 * off * off).max(1.0 / self.gain)
    }
}

fn milliwatts(dbm: f64) -> f64 {
    libm::exp10(dbm / 10.0)
}

impl RadioRows {
    pub(in crate::scenario) fn new(
        scenario: &Scenario,
        radio: &RadioLink,
        variant: Variant,
    ) -> Result<RadioRows, TraceError> {
        let error = |problem: String| TraceError::Generator {
            setting: "radio",
            problem,
        };
        let seed = variant.seed;
        let user = format!("user {}", variant.user);
        let key = (seed, user.as_str());
        let channel = scenario.channel()?;
        let carrier_ghz = radio.carrier.as_ghz_f64();
        let wavelength_m = SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9);
        let (base_height_m, usual_user_height_m) = channel.scenario.usual_heights_m();
        let user_height_m = scenario.mobility.height_m(usual_user_height_m);
        let mut mobility = scenario
            .mobility
            .mobility(variant, usual_user_height_m, scenario.track())
            .ok_or_else(|| error("the track's file has not been read".to_owned()))?;
        let motion = mobility.at(0.0);
        let layout = scenario.network.layout(base_height_m);
        let mut sites = Sites::new(channel, carrier_ghz, layout, user_height_m, key)?;
        let weather = scenario.weather.clone();
        let air = Air {
            dry_pressure_hpa: 1013.25,
            vapour_density_g_m3: weather.vapour_g_m3,
            temperature_k: 273.15 + weather.temperature_c,
        };
        let gases_db_km = Gases::new(&air)
            .and_then(|gases| gases.total_db_km(carrier_ghz.max(1.0)))
            .map_err(|problem| error(problem.to_string()))?;
        let vehicle_db = channel.vehicle_loss_db.unwrap_or(0.0);
        sites.update(&motion, ExtraLoss::default())?;
        let fading = FaderSettings::new(radio, channel.fading, wavelength_m);
        let fader = Fader::new(&fading, &sites.spreads(0), &Way::default(), key)?;
        let link = Link::new(radio, fader, 0, key)?;
        let numerology = radio.numerology().map_err(error)?;
        let pattern = radio.pattern().map_err(error)?;
        let slot_ns = numerology.slot_ns();
        let window = RateWindow::new(scenario.step.ns, pattern.period() * slot_ns);
        let cells = sites.cells().len();
        let sharing = Sharing::new(radio, (slot_ns, link.report_slots()), seed, 0)?;
        let way = scenario.blockage.as_ref().map(|blockage| {
            let way = InTheWay::new(blockage, channel.scenario, wavelength_m, key);
            (way, blockage.leak.as_f64())
        });
        let mut rows = RadioRows {
            mobility,
            motion,
            motion_ns: 0,
            way,
            gases_db_km,
            vehicle_db,
            rain: Wander::new(
                CounterRng::new(seed, "weather", "rain"),
                weather.rain_time_s,
            ),
            weather,
            beam: Beam {
                width_deg: radio.beam_width_deg,
                period_ns: radio.beam_period.ns,
                azimuth_deg: 0.0,
                sweep: u64::MAX,
                gain: libm::exp10(radio.base_beam_gain.as_db_f64() / 10.0),
            },
            connection: Connection::new(scenario.handover.connection(), &vec![0.0; cells]),
            link,
            sharing,
            neighbours: Neighbours::new(
                cells,
                scenario.network.load.as_f64(),
                scenario.network.load_burst.as_seconds_f64(),
                seed,
            ),
            interference: Interference::new(fading.of_interference(), cells, key),
            fading_cells: Vec::new(),
            fading,
            windows: [window.clone(), window],
            received_mw: vec![0.0; cells],
            rsrp_dbm: vec![0.0; cells],
            powers: Powers::default(),
            state: State::default(),
            load: scenario.network.load.as_f64(),
            scatterers_m_s: scenario.mobility.scatterers.as_metres_per_second_f64(),
            next_large_scale_ns: 0,
            next_slot: 0,
            slot_ns,
            next_ns: 0,
            step_ns: scenario.step.ns,
            radio: radio.clone(),
            sites,
            seed,
            user: user.clone(),
        };
        rows.receive()?;
        rows.connection = Connection::new(scenario.handover.connection(), &rows.rsrp_dbm);
        rows.sharing.change(rows.serving_cell(), 0)?;
        rows.come_to_cell()?;
        Ok(rows)
    }

    /// What the user receives of each cell where it is.
    fn receive(&mut self) -> Result<(), TraceError> {
        let mut extra = ExtraLoss {
            fixed_db: self.vehicle_db,
            db_per_km: self.gases_db_km,
        };
        if self.weather.rain_mm_h > 0.0 {
            let spread = self.weather.rain_spread * self.rain.value();
            let rain_mm_h = self.weather.rain_mm_h * libm::exp(spread);
            let carrier_ghz = self.radio.carrier.as_ghz_f64();
            let polarization = Polarization::Vertical;
            extra.db_per_km +=
                rain_db_km(carrier_ghz, polarization, rain_mm_h, 0.0).map_err(|problem| {
                    TraceError::Generator {
                        setting: "weather",
                        problem: problem.to_string(),
                    }
                })?;
        }
        self.sites.update(&self.motion, extra)?;
        let power_mw =
            milliwatts(self.radio.base_power.as_dbm_f64() + self.radio.user_gain.as_db_f64());
        let place = self.motion.position;
        let received = self.received_mw.iter_mut().zip(&mut self.rsrp_dbm);
        for (cell, (received_mw, rsrp_dbm)) in self.sites.cells().iter().zip(received) {
            let antenna = self.sites.antenna_gain(cell, place);
            *received_mw = power_mw * antenna * self.sites.path(cell.site).total();
            *rsrp_dbm = decibel(*received_mw);
        }
        Ok(())
    }

    /// SINR of a cell in dB over the carrier, without fading.
    fn geometry_sinr_db(received_mw: &[f64], cell: usize, beam: f64, load: f64, noise: f64) -> f64 {
        let own_mw = received_mw.get(cell).copied().unwrap_or(0.0);
        let all_mw: f64 = received_mw.iter().sum();
        decibel(own_mw * beam / (noise + load * (all_mw - own_mw)))
    }

    /// Looks at places, losses and cells.
    #[expect(clippy::cast_precision_loss, reason = "moments lie far below 2^53 ns")]
    fn look_around(&mut self, now_ns: u64) -> Result<(), TraceError> {
        let now_s = now_ns as f64 / 1e9;
        self.rain.advance((now_ns - self.motion_ns) as f64 / 1e9);
        self.motion = self.mobility.at(now_s);
        self.motion_ns = now_ns;
        self.receive()?;

        let noise_mw = self.link.noise_mw();
        let serving = self.connection.serving();
        let cell = self.sites.cells()[serving];
        let vector = self.sites.vector(cell.site as usize, self.motion.position);
        let (blocked_db, leak) = match &mut self.way {
            Some((way, leak)) => (way.loss_db(now_ns, &self.motion, vector), *leak),
            None => (0.0, 0.0),
        };
        let blocked = libm::exp10(-blocked_db / 10.0);
        let azimuth_deg = libm::atan2(vector.y, vector.x).to_degrees();
        let beam = self.beam.gain * self.beam.loss(now_ns, azimuth_deg);
        let path = *self.sites.path(cell.site);
        let [direct_mw, scattered_mw] = powers_of(&path, 1.0, blocked, leak);
        let arrives = (direct_mw + scattered_mw) / path.total();

        let (received_mw, load, full) = (&self.received_mw, self.load, self.beam.gain);
        let event = self.connection.update(now_ns, &self.rsrp_dbm, |cell| {
            // Another cell's beam would point at the user.
            let gain = if cell == serving {
                beam * arrives
            } else {
                full
            };
            RadioRows::geometry_sinr_db(received_mw, cell, gain, load, noise_mw)
        });
        if let Some(event) = event {
            self.state.event = Some(event.name());
            if matches!(
                event,
                ConnectionEvent::HandoverDone | ConnectionEvent::Reestablished
            ) {
                self.link.reset();
                self.sharing.change(self.serving_cell(), self.next_slot)?;
                self.beam.point();
            }
        }
        if self.connection.serving() != serving {
            self.come_to_cell()?;
            return self.look_around(now_ns);
        }
        let own_mw = self.received_mw[serving];
        let scale = own_mw * beam / path.total();
        self.powers = Powers {
            direct_mw: direct_mw * scale,
            scattered_mw: scattered_mw * scale,
        };
        self.link.fader().reshape(&self.sites.spreads(cell.site))?;
        self.disturb()?;
        self.state.cell = self.serving_cell();
        self.state.sight = path.sight > 0.5;
        self.state.blocked = blocked_db > BLOCKED_DB;
        self.state.flight_ns = nanoseconds(self.sites.flight_s(cell.site));
        Ok(())
    }

    /// The path to the serving cell fades in its own way.
    fn come_to_cell(&mut self) -> Result<(), TraceError> {
        let cell = self.connection.serving();
        let site = self.sites.cells()[cell].site;
        let entity = format!("{} cell {cell}", self.user);
        let key = (self.seed, entity.as_str());
        let spreads = self.sites.spreads(site);
        let directed = self.fading.has_directions();
        let way = self.sites.way(site, &self.motion, directed);
        *self.link.fader() = Fader::new(&self.fading, &spreads, &way, key)?;
        Ok(())
    }

    /// What arrives of the other cells now.
    fn disturb(&mut self) -> Result<(), TraceError> {
        let RadioRows {
            sites,
            neighbours,
            interference,
            ..
        } = self;
        let directed = self.fading.has_directions();
        let serving = self.connection.serving();
        let cells = sites.cells().iter().enumerate().zip(&self.received_mw);
        let disturbers = cells.filter_map(|((at, cell), received_mw)| {
            let power_mw = received_mw * neighbours.share(at);
            (at != serving && power_mw > 0.0).then(|| Disturber {
                cell: at,
                power_mw,
                path: *sites.path(cell.site),
            })
        });
        interference.gather(self.link.noise_mw(), disturbers);
        self.fading_cells.clear();
        self.fading_cells.extend(interference.fading());
        for &cell in &self.fading_cells {
            let site = sites.cells()[cell].site;
            let spreads = sites.spreads(site);
            let way = || sites.way(site, &self.motion, directed);
            interference.shape(cell, &spreads, way)?;
        }
        Ok(())
    }

    fn serving_cell(&self) -> u32 {
        u32::try_from(self.connection.serving()).unwrap_or(u32::MAX)
    }

    /// How far user and surroundings have moved at a moment.
    #[expect(clippy::cast_precision_loss, reason = "moments lie far below 2^53 ns")]
    fn way_m(&self, now_ns: u64) -> f64 {
        let since_s = (now_ns - self.motion_ns) as f64 / 1e9;
        let own_m = self.motion.travelled_m + self.motion.velocity.length() * since_s;
        own_m + self.scatterers_m_s * now_ns as f64 / 1e9
    }

    pub(in crate::scenario) fn next(
        &mut self,
        duration_ns: u64,
    ) -> Result<Option<TraceRow>, TraceError> {
        let t_ns = self.next_ns;
        if t_ns >= duration_ns {
            return Ok(None);
        }
        self.next_ns = t_ns.saturating_add(self.step_ns);
        self.state.event = None;
        let mut bits = [0_u64; 2];
        let mut last: Option<Slot> = None;
        let (mut sinr, mut slots) = (0.0, 0.0);
        let mut interrupted = false;
        while self.next_slot * self.slot_ns < self.next_ns {
            let now_ns = self.next_slot * self.slot_ns;
            if now_ns >= self.next_large_scale_ns {
                self.next_large_scale_ns = (now_ns / LARGE_SCALE_NS + 1) * LARGE_SCALE_NS;
                self.look_around(now_ns)?;
            }
            if self.neighbours.advance(now_ns) {
                self.disturb()?;
            }
            interrupted = self.connection.interrupted();
            let way_m = self.way_m(now_ns);
            let cell = (!interrupted).then(|| self.sharing.cell());
            let arrives = (&self.powers, self.interference.spectrum(way_m));
            let slot = self.link.step(self.next_slot, way_m, arrives, cell);
            bits[0] += slot.down.bits;
            bits[1] += slot.up.bits;
            sinr += slot.sinr;
            slots += 1.0;
            last = Some(slot);
            self.next_slot += 1;
        }
        let Some(last) = last else {
            return Err(TraceError::Generator {
                setting: "step",
                problem: "a row is shorter than a slot".to_owned(),
            });
        };
        if interrupted {
            self.windows.iter_mut().for_each(RateWindow::clear);
            bits = [0; 2];
        }
        let far_ns = self.radio.core_delay.ns + self.state.flight_ns;
        let rates = [self.windows[0].push(bits[0]), self.windows[1].push(bits[1])];
        Ok(Some(TraceRow {
            t_ns,
            down: state_of(rates[0], far_ns, &last.down),
            up: state_of(rates[1], far_ns, &last.up),
            diagnostics: Diagnostics {
                sinr_cdb: Some(hundredths(decibel(sinr / slots))),
                mcs: Some(last.down.mcs),
                cell_id: Some(self.state.cell),
                los: Some(self.state.sight),
                blocked: Some(self.state.blocked),
                event: self.state.event.map(str::to_owned),
                ..Diagnostics::default()
            },
        }))
    }
}

/// The state of a direction with that rate, `far_ns` beside what the air interface delays.
pub(super) fn state_of(rate_bps: u64, far_ns: u64, service: &SlotService) -> LinkState {
    let delay_ns = service
        .delay_ns
        .min(LONGEST_ACCESS_NS)
        .saturating_add(far_ns);
    // Half the width of a uniform distribution with that standard deviation: its square root of
    // three.
    let half_ns = service.jitter_ns.saturating_mul(1_732) / 1_000;
    LinkState {
        rate_bps,
        delay_ns,
        jitter_ns: u32::try_from(half_ns.min(delay_ns)).unwrap_or(u32::MAX),
        loss_ppb: service.loss_ppb.min(1_000_000_000),
        ..LinkState::TRANSPARENT
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates; a path is not negative"
)]
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    libm::round(seconds * 1e9) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
pub(super) fn hundredths(db: f64) -> i32 {
    libm::round(db.clamp(-200.0, 200.0) * 100.0) as i32
}
