//! Where this user's files are kept. The environment is passed in, so that tests need no machine.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Directories of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The ledger of what must be undone, and the agent's own files.
    pub state: PathBuf,
    /// Trained models, kept between runs; `None` when the user has no home.
    pub cache: Option<PathBuf>,
    /// Where sockets go.
    pub runtime: PathBuf,
}

fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    // The XDG specification wants relative values ignored.
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

impl Paths {
    /// Reads them from environment variables.
    ///
    /// # Errors
    /// An ordinary user without a home directory.
    pub fn resolve(
        variable: impl Fn(&str) -> Option<OsString>,
        is_root: bool,
    ) -> Result<Paths, Failure> {
        let home = absolute(variable("HOME"));
        let state = variable("HEXLOOP_STATE_DIRECTORY")
            .map(PathBuf::from)
            .or_else(|| is_root.then(|| PathBuf::from("/var/lib/hexloop")))
            .or_else(|| absolute(variable("XDG_STATE_HOME")).map(|path| path.join("hexloop")))
            .or_else(|| home.as_ref().map(|home| home.join(".local/state/hexloop")));
        let Some(state) = state else {
            let message = "there is no directory for hexloop's state: HOME is not set";
            return Err(Failure::message(ExitCode::Preflight, message)
                .remedy("set HOME, XDG_STATE_HOME or HEXLOOP_STATE_DIRECTORY"));
        };
        let cache = variable("HEXLOOP_CACHE_DIRECTORY")
            .map(PathBuf::from)
            .or_else(|| absolute(variable("XDG_CACHE_HOME")).map(|path| path.join("hexloop")))
            .or_else(|| home.map(|home| home.join(".cache/hexloop")));
        let runtime = absolute(variable("XDG_RUNTIME_DIR"))
            .filter(|path| path.is_dir())
            .unwrap_or_else(|| state.clone());
        Ok(Paths {
            state,
            cache,
            runtime,
        })
    }

    /// Those of the user who runs this process.
    ///
    /// # Errors
    /// As [`Paths::resolve`].
    pub fn of_this_user() -> Result<Paths, Failure> {
        Paths::resolve(
            |name| std::env::var_os(name),
            nix::unistd::geteuid().is_root(),
        )
    }

    /// Where trained models are kept.
    ///
    /// # Errors
    /// There is no home directory to keep them in.
    pub fn models(&self) -> Result<PathBuf, Failure> {
        self.cache
            .as_ref()
            .map(|cache| cache.join("models"))
            .ok_or_else(|| {
                let message = "there is no directory to keep models in: HOME is not set";
                Failure::message(ExitCode::Preflight, message)
                    .remedy("set HOME, XDG_CACHE_HOME or HEXLOOP_CACHE_DIRECTORY")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)], is_root: bool) -> Result<Paths, Failure> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Paths::resolve(find, is_root)
    }

    #[test]
    fn an_ordinary_user_keeps_state_and_cache_at_home() {
        let paths = resolve(&[("HOME", "/home/ada")], false).unwrap();
        assert_eq!(paths.state, PathBuf::from("/home/ada/.local/state/hexloop"));
        assert_eq!(
            paths.models().unwrap(),
            PathBuf::from("/home/ada/.cache/hexloop/models")
        );
        assert_eq!(paths.runtime, paths.state);
    }

    #[test]
    fn root_keeps_state_in_var_lib_and_relative_xdg_values_are_ignored() {
        let paths = resolve(&[("HOME", "/root"), ("XDG_CACHE_HOME", "here")], true).unwrap();
        assert_eq!(paths.state, PathBuf::from("/var/lib/hexloop"));
        assert_eq!(
            paths.models().unwrap(),
            PathBuf::from("/root/.cache/hexloop/models")
        );
    }

    #[test]
    fn without_a_home_the_error_names_the_remedy() {
        let failure = resolve(&[], false).unwrap_err();
        assert_eq!(failure.code, ExitCode::Preflight);
        assert!(failure.to_string().contains("HEXLOOP_STATE_DIRECTORY"));
        assert!(resolve(&[], true).unwrap().models().is_err());
    }
}
