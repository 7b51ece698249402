//! A command that could not do its work: what happened, why, what to do about it, and the exit
//! code that says which kind of failure it is.

use std::fmt;

use crate::exit_code::ExitCode;

/// Why a command ended without having done its work.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub code: ExitCode,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

/// What every command returns.
pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    /// A failure with its cause chain.
    pub fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Failure {
        Failure {
            code,
            error: error.into(),
            remedy: None,
        }
    }

    /// A failure that is only a message.
    pub fn message(code: ExitCode, message: impl fmt::Display) -> Failure {
        Failure {
            code,
            error: anyhow::anyhow!("{message}"),
            remedy: None,
        }
    }

    /// Says in front of the error what was being done.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display + Send + Sync + 'static) -> Failure {
        Failure {
            error: self.error.context(doing),
            ..self
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn remedy(self, remedy: impl fmt::Display) -> Failure {
        Failure {
            remedy: Some(remedy.to_string()),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    /// The message as it goes to standard error, without the final line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.to_string();
        // Problems of a file come with their own prefix and may be many lines.
        if text.starts_with("error") {
            f.write_str(&text)?;
        } else {
            write!(f, "error: {text}")?;
        }
        for cause in self.error.chain().skip(1) {
            write!(f, "\n  caused by: {cause}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  remedy: {remedy}")?;
        }
        Ok(())
    }
}

/// Turns any error into a failure of a given kind, saying what was being done.
pub trait OrFail<T> {
    /// The value, or a failure with `code`.
    ///
    /// # Errors
    /// The error, with `doing` in front of it.
    fn or_fail(self, code: ExitCode, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: ExitCode, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(code, error.into().context(doing())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_its_causes_and_its_remedy() {
        let cause: Result<(), _> = Err(std::io::Error::other("no space left"));
        let failure = cause.or_fail(ExitCode::Preflight, || "cannot write results".to_owned());
        let failure = failure.unwrap_err().remedy("free some space");
        let text = failure.to_string();
        assert_eq!(
            text,
            "error: cannot write results\n  caused by: no space left\n  remedy: free some space"
        );
    }
}
