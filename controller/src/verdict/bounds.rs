//! The bounds that hold where no experiment states any.

use hexloop_topologies::plan::VerdictBounds;
use hexloop_topologies::{ExperimentFile, Overrides, bundled};

use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// The bounds of the verdict on runs, as the first of the bundled experiments states them.
#[derive(Debug, Clone)]
pub(crate) struct StatedBounds {
    pub(crate) bounds: VerdictBounds,
    /// How long the windows are that its `backlogged_windows` count.
    pub(crate) window_ns: u64,
}

impl StatedBounds {
    /// Reads them.
    ///
    /// # Errors
    /// No valid experiment is bundled.
    pub(crate) fn read() -> Result<StatedBounds, Failure> {
        let unusable = |message: String| Failure::message(ExitCode::Failed, message);
        let (name, text) = bundled()
            .first()
            .ok_or_else(|| unusable("no experiment is bundled".to_owned()))?;
        let experiment = ExperimentFile::parse(text, name, &Overrides::default());
        let experiment = experiment.map_err(|problems| {
            unusable(format!("the bundled experiment is not valid: {problems}"))
        })?;
        Ok(StatedBounds {
            bounds: experiment.verdict,
            window_ns: experiment.calibration.window_ns,
        })
    }
}
