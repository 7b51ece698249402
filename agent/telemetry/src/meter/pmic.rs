//! The power management chip of a Raspberry Pi 5, read by `vcgencmd pmic_read_adc`.

use std::path::PathBuf;
use std::process::Command;

use super::{Meter, Reading};
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// Power at the board's input, by a linear model of the sum of its rails: the sum misses the
/// regulators' losses and the USB ports. Coefficients: the regression against an external meter
/// published with pi-top's measurements (slope 1.1451, offset 0.5879 W).
const SLOPE: f64 = 1.1451;
const OFFSET_W: f64 = 0.5879;

/// Estimates the power of a Raspberry Pi 5.
#[derive(Debug)]
pub struct PmicMeter {
    program: PathBuf,
    channels: [Channel; 1],
}

impl PmicMeter {
    /// Tries `program`, usually `vcgencmd`.
    ///
    /// # Errors
    /// It is not there, fails, or tells no rails (older boards have no such chip).
    pub fn find(program: PathBuf, origin: Origin) -> Result<PmicMeter, Trouble> {
        read_power(&program)?;
        let channel = Channel {
            device: "board".to_owned(),
            scope: Scope::Machine,
            quantity: Quantity::InstantPower,
            quality: Quality::Estimated,
            source: "PMIC rails, sum x 1.1451 + 0.5879 W".to_owned(),
            counted: true,
            origin,
        };
        Ok(PmicMeter {
            program,
            channels: [channel],
        })
    }
}

fn read_power(program: &PathBuf) -> Reading {
    let what = || format!("{} pmic_read_adc", program.display());
    let failed = |reason: String| Trouble::Failed {
        what: what(),
        reason,
    };
    let output = Command::new(program)
        .arg("pmic_read_adc")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rails_w = sum_of_rails_w(&text).ok_or_else(|| Trouble::NotSupported {
        source_name: what(),
        what: "rails with both a voltage and a current".to_owned(),
    })?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a board's power in microwatts"
    )]
    let power_uw = ((rails_w * SLOPE + OFFSET_W) * 1e6).round() as u64;
    Ok(power_uw)
}

/// The sum over rails of volts times amperes. Lines are like `3V7_WL_SW_A current(0)=0.00292796A`
/// and `3V7_WL_SW_V volt(8)=3.71656000V`.
fn sum_of_rails_w(text: &str) -> Option<f64> {
    let value = |rail: &str, suffix: &str, unit: char| {
        text.lines().find_map(|line| {
            let (name, value) = line.trim().split_once(' ')?;
            (name.strip_suffix(suffix)? == rail).then_some(())?;
            let number = value.split_once('=')?.1.trim().strip_suffix(unit)?;
            number.parse::<f64>().ok().filter(|value| value.is_finite())
        })
    };
    let mut sum = None;
    for line in text.lines() {
        let name = line.trim().split(' ').next().unwrap_or_default();
        let Some(rail) = name.strip_suffix("_A") else {
            continue;
        };
        if let (Some(amperes), Some(volts)) = (value(rail, "_A", 'A'), value(rail, "_V", 'V')) {
            sum = Some(sum.unwrap_or(0.0) + amperes * volts);
        }
    }
    sum.filter(|sum| *sum >= 0.0)
}

impl Meter for PmicMeter {
    fn name(&self) -> &str {
        "Raspberry Pi 5 PMIC"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        readings.push(read_power(&self.program));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "  3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.20000000A
   HDMI_A current(2)=0.50000000A
   3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
   EXT5V_V volt(24)=5.10000000V
";

    #[test]
    fn rails_with_both_values_are_multiplied_and_added() {
        let sum = sum_of_rails_w(TEXT).unwrap();
        assert!((sum - (0.37 + 0.66)).abs() < 1e-12, "{sum}");
        assert_eq!(sum_of_rails_w("EXT5V_V volt(24)=5.1V\n"), None);
        assert_eq!(
            sum_of_rails_w("A_A current(0)=nanA\nA_V volt(0)=1V\n"),
            None
        );
    }

    #[test]
    fn a_board_without_the_program_says_so() {
        let trouble = PmicMeter::find("/nowhere/vcgencmd".into(), Origin::Stub).unwrap_err();
        assert!(
            trouble
                .to_string()
                .contains("/nowhere/vcgencmd pmic_read_adc"),
            "{trouble}"
        );
    }
}
