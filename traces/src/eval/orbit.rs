//! Geometry of low orbits: R = 6371 km, GM = 398600.4418 km3/s2, the Earth standing still.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::ntn::{CircularOrbit, NtnError};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;

pub(super) const MODELS: &[Model] = &[Model {
    name: "orbit",
    about: "a satellite in a circular orbit that passes through the zenith",
    inputs: &[
        Input::required("altitude_km"),
        Input::required("elevation_deg"),
    ],
    outputs: &["slant_range_km", "one_way_delay_ms", "max_doppler_ppm"],
    evaluate: orbit,
}];

fn orbit(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let altitude_km = row.positive("altitude_km")?;
    let orbit = CircularOrbit::new(altitude_km).map_err(|error| match error {
        NtnError::OutOfRange { expected, .. } => {
            EvalError::value("altitude_km", altitude_km, expected)
        }
        other => EvalError::Combination(other.to_string()),
    })?;
    let elevation_deg = row.not_negative("elevation_deg")?;
    if elevation_deg > 90.0 {
        return Err(EvalError::value(
            "elevation_deg",
            elevation_deg,
            "0 to 90 degrees",
        ));
    }
    // Time and Doppler shift are inverse to the speed of light, distances are not.
    let light = SPEED_OF_LIGHT_M_PER_S / options.light_m_per_s;
    Ok(vec![
        exact(orbit.slant_range_km(elevation_deg)),
        exact(orbit.one_way_delay_s(elevation_deg) * 1e3 * light),
        exact(orbit.maximum_doppler_ppm(elevation_deg) * light),
    ])
}

#[cfg(test)]
mod tests {
    use crate::eval::{Evaluation, Options, find};

    #[test]
    fn a_satellite_at_600_km_is_where_the_reference_values_say() {
        let input = "elevation_deg,altitude_km\n10,600\n";
        let model = find("orbit").unwrap();
        let mut rows = Evaluation::new(model, Options::default(), input.as_bytes()).unwrap();
        let row = rows.next_row().unwrap().unwrap();
        for (cell, expected) in row[2..].iter().zip([1931.6, 6.443, 22.70]) {
            let found: f64 = cell.parse().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-4, "{found}");
        }
    }

    #[test]
    fn what_is_no_orbit_or_elevation_is_refused() {
        for input in ["600,91", "600,-1", "0,10", "100000,10", "600,x"] {
            let table = format!("altitude_km,elevation_deg\n{input}\n");
            let model = find("orbit").unwrap();
            let mut rows = Evaluation::new(model, Options::default(), table.as_bytes()).unwrap();
            assert!(rows.next_row().is_err(), "{input}");
        }
    }
}
