//! Molecular-absorption windows: where between the lines of oxygen and water the air lets
//! radio waves pass.

use super::error::PropagationError;
use super::gas::Gases;

/// A band in which gases take away no more than was allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Where it begins, in GHz.
    pub from_ghz: f64,
    /// Where it ends, in GHz.
    pub to_ghz: f64,
    /// The frequency of least attenuation, in GHz.
    pub best_ghz: f64,
    /// The attenuation there, in dB/km.
    pub least_db_km: f64,
}

/// The windows between `from_ghz` and `to_ghz` in which gases attenuate by at most `limit_db_km`,
/// on a grid of `step_ghz`. Derived from the lines themselves; no table of named windows.
///
/// # Errors
///
/// Frequencies outside of the gas model, or a grid without points.
pub fn windows(
    gases: &Gases,
    (from_ghz, to_ghz): (f64, f64),
    step_ghz: f64,
    limit_db_km: f64,
) -> Result<Vec<Window>, PropagationError> {
    let range = (1e-4, 1000.0, "steps of 0.1 MHz to 1000 GHz");
    super::error::within("the search for windows", "the step in GHz", step_ghz, range)?;
    let mut found: Vec<Window> = Vec::new();
    let mut open: Option<Window> = None;
    let mut step = 0_u32;
    loop {
        let ghz = from_ghz + f64::from(step) * step_ghz;
        if ghz > to_ghz || ghz.is_nan() || to_ghz.is_nan() {
            break;
        }
        step += 1;
        let db_km = gases.total_db_km(ghz)?;
        if db_km <= limit_db_km {
            let window = open.get_or_insert(Window {
                from_ghz: ghz,
                to_ghz: ghz,
                best_ghz: ghz,
                least_db_km: db_km,
            });
            window.to_ghz = ghz;
            if db_km < window.least_db_km {
                window.best_ghz = ghz;
                window.least_db_km = db_km;
            }
        } else {
            found.extend(open.take());
        }
    }
    found.extend(open);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagation::Air;

    #[test]
    fn the_lines_at_119_and_183_ghz_part_the_windows_below_300_ghz() {
        let gases = Gases::new(&Air::SEA_LEVEL).unwrap();
        let windows = windows(&gases, (100.0, 300.0), 0.1, 1.5).unwrap();
        let edges: Vec<(f64, f64)> = windows.iter().map(|w| (w.from_ghz, w.to_ghz)).collect();
        assert_eq!(windows.len(), 2, "{edges:?}");
        assert!(windows[0].to_ghz < 118.75);
        assert!(windows[1].from_ghz > 118.75 && windows[1].to_ghz < 183.3);
        for window in windows {
            assert!((window.from_ghz..=window.to_ghz).contains(&window.best_ghz));
            assert!(window.least_db_km <= 1.5);
        }
    }

    #[test]
    fn a_grid_that_is_none_is_refused() {
        let gases = Gases::new(&Air::SEA_LEVEL).unwrap();
        assert!(windows(&gases, (100.0, 300.0), 0.0, 1.0).is_err());
        assert!(windows(&gases, (100.0, 3000.0), 1.0, 1.0).is_err());
    }
}
