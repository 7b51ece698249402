//! What the process's exit status means. The table is part of the interface: scripts rely on it.

/// The exit codes of `hexloop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// The run failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Invalid input; file, line and column are on standard error.
    InvalidInput = 3,
    /// Preflight: privilege, kernel, hardware or space is missing.
    Preflight = 4,
    /// This machine is dirty: it could not be put back and refuses runs.
    Dirty = 5,
    /// The run finished but its verdict is INVALID.
    InvalidVerdict = 6,
    /// An expectation did not hold (only with `--strict`).
    ExpectationNotHeld = 7,
    /// Interrupted, and everything taken down.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code, in the order of the table.
    pub const ALL: [ExitCode; 9] = [
        ExitCode::Done,
        ExitCode::Failed,
        ExitCode::Usage,
        ExitCode::InvalidInput,
        ExitCode::Preflight,
        ExitCode::Dirty,
        ExitCode::InvalidVerdict,
        ExitCode::ExpectationNotHeld,
        ExitCode::Interrupted,
    ];

    /// The number that the process exits with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code of that number; anything unknown is a failure.
    #[must_use]
    pub fn from_number(number: u8) -> ExitCode {
        let known = ExitCode::ALL
            .into_iter()
            .find(|code| code.number() == number);
        known.unwrap_or(ExitCode::Failed)
    }

    /// What it means, in one line.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            ExitCode::Done => "done",
            ExitCode::Failed => "the run failed",
            ExitCode::Usage => "usage",
            ExitCode::InvalidInput => "invalid input (file:line:column on standard error)",
            ExitCode::Preflight => "preflight: privilege, kernel, hardware, space",
            ExitCode::Dirty => "this machine could not be put back and refuses runs",
            ExitCode::InvalidVerdict => "the run finished but its verdict is INVALID",
            ExitCode::ExpectationNotHeld => "an expectation did not hold (with --strict)",
            ExitCode::Interrupted => "interrupted, everything taken down",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_documented_table() {
        let numbers = ExitCode::ALL.map(ExitCode::number);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 130]);
        assert!(
            ExitCode::ALL
                .iter()
                .all(|code| ExitCode::from_number(code.number()) == *code)
        );
        assert_eq!(ExitCode::from_number(99), ExitCode::Failed);
    }
}
