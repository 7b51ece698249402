//! Pressure: time in which work stood still because a resource was short (PSI, Linux 4.20 and
//! later, Documentation/accounting/psi.rst).

use std::fs;
use std::io;
use std::path::Path;

use crate::Trouble;

/// Stalls since the file's owner (a machine or a control group) began, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some of its tasks waited for the resource.
    pub some_ns: u64,
    /// All of its tasks waited for it; kernels before 5.13 do not say it of CPUs.
    pub full_ns: Option<u64>,
}

impl Pressure {
    /// What has passed since `before`.
    #[must_use]
    pub fn since(&self, before: &Pressure) -> Pressure {
        Pressure {
            some_ns: self.some_ns.saturating_sub(before.some_ns),
            full_ns: self
                .full_ns
                .zip(before.full_ns)
                .map(|(now, before)| now.saturating_sub(before)),
        }
    }

    /// Reads a file such as `cpu.pressure` of a control group or `/proc/pressure/cpu`.
    ///
    /// # Errors
    /// The kernel does not keep it, or it cannot be read.
    pub fn read(path: &Path) -> Result<Pressure, Trouble> {
        let text = fs::read_to_string(path).map_err(|error| trouble(path, &error))?;
        parse(&text).ok_or_else(|| Trouble::Failed {
            what: path.display().to_string(),
            reason: "it is not written as pressure is".to_owned(),
        })
    }
}

fn trouble(path: &Path, error: &io::Error) -> Trouble {
    let what = path.display().to_string();
    match error.raw_os_error() {
        // EOPNOTSUPP is what the kernel answers where pressure is built in and turned off.
        Some(libc::ENOENT | libc::EOPNOTSUPP) => Trouble::NotSupported {
            source_name: "this kernel".to_owned(),
            what: format!("pressure ({what}; it takes CONFIG_PSI and `psi=1`)"),
        },
        _ => Trouble::Failed {
            what,
            reason: error.to_string(),
        },
    }
}

fn parse(text: &str) -> Option<Pressure> {
    let total_ns = |which: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(which))?;
        let total = line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("total="))?;
        Some(total.parse::<u64>().ok()?.saturating_mul(1_000))
    };
    Some(Pressure {
        some_ns: total_ns("some ")?,
        full_ns: total_ns("full "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_microseconds_and_full_may_be_missing() {
        let text = "some avg10=0.22 avg60=0.17 avg300=0.05 total=42\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let both = Pressure {
            some_ns: 42_000,
            full_ns: Some(7_000),
        };
        assert_eq!(parse(text), Some(both));
        let first = text.lines().next().unwrap();
        let some = parse(first).unwrap();
        assert_eq!(some.full_ns, None);
        assert_eq!(parse("avg10=0"), None);
        assert_eq!(both.since(&some).some_ns, 0);
        assert_eq!(both.since(&some).full_ns, None);
    }

    #[test]
    fn a_kernel_that_keeps_no_pressure_is_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let why = Pressure::read(&directory.path().join("cpu.pressure")).unwrap_err();
        assert!(matches!(why, Trouble::NotSupported { .. }), "{why}");
    }
}
