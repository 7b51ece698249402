//! `/etc/hexloop/agent.toml`: what the owner of this machine allows. Nobody but root may be able
//! to write it, and nothing that a controller says widens it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hexloop_topologies::{HostConfiguration, Problems};
use nix::unistd::{Gid, Uid, User};

use crate::serve::JobUser;

/// Where the file is.
pub const PATH: &str = "/etc/hexloop/agent.toml";

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Somebody else than root could have written it.
    #[error("{path} is refused: {why}; `chown root:root` and `chmod go-w` it")]
    Unsafe {
        /// The file or a directory above it.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It says something that it may not say.
    #[error("{0}")]
    Invalid(Problems),
    /// The user that jobs are to run as.
    #[error("job_user `{user}` of {path} {why}")]
    JobUser {
        /// What was written.
        user: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What the owner of this machine allows, and where that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The file, whether it exists or not.
    pub path: PathBuf,
    /// What it says; without a file nothing is allowed.
    pub host: HostConfiguration,
}

impl Configuration {
    /// What holds where nothing is allowed.
    #[must_use]
    pub fn nothing() -> Configuration {
        Configuration {
            path: path(),
            host: HostConfiguration::default(),
        }
    }

    /// Reads the file of this machine.
    ///
    /// # Errors
    /// It is not root's alone, or it is not understood.
    pub fn load() -> Result<Configuration, ConfigurationError> {
        Configuration::read(&path(), Uid::from_raw(0))
    }

    /// Reads a file that nobody but `owner` may be able to write.
    ///
    /// # Errors
    /// Somebody else could have written it, or it is not understood.
    pub fn read(path: &Path, owner: Uid) -> Result<Configuration, ConfigurationError> {
        let failed = |source| ConfigurationError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Configuration {
                    path: path.to_owned(),
                    host: HostConfiguration::default(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let directory = path.parent().unwrap_or(Path::new("/"));
        check_owner(directory, &fs::metadata(directory).map_err(failed)?, owner)?;
        // The opened file, not its name: that may lead elsewhere by now.
        check_owner(path, &file.metadata().map_err(failed)?, owner)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let host = HostConfiguration::parse(&text, &path.display().to_string())
            .map_err(ConfigurationError::Invalid)?;
        Ok(Configuration {
            path: path.to_owned(),
            host,
        })
    }

    /// The user that jobs run as: the one of the file, else who called sudo, else `nobody`.
    ///
    /// # Errors
    /// The file names somebody who does not exist, or root.
    pub fn job_user(&self) -> Result<JobUser, ConfigurationError> {
        let Some(name) = &self.host.job_user else {
            return Ok(JobUser::invoking());
        };
        let refused = |why| ConfigurationError::JobUser {
            user: name.clone(),
            path: self.path.clone(),
            why,
        };
        let user = find_user(name).ok_or_else(|| refused("does not exist"))?;
        if user.uid.is_root() {
            return Err(refused("is root; choose a user without privileges"));
        }
        Ok(JobUser {
            user: user.uid.as_raw(),
            group: user.gid.as_raw(),
        })
    }

    /// Whether the user behind this process may have an interface shaped; `None` for root itself.
    #[must_use]
    pub fn allows_user(&self, invoking: Option<u32>) -> bool {
        let (Some(uid), Some(allowed)) = (invoking, &self.host.allow_users) else {
            return true;
        };
        let name = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        allowed.contains(&uid.to_string()) || name.is_some_and(|user| allowed.contains(&user.name))
    }
}

/// Where the file of this machine is.
#[cfg(not(feature = "failpoints"))]
fn path() -> PathBuf {
    PathBuf::from(PATH)
}

/// The same; tests have a file of their own, so that none touches the machine's.
#[cfg(feature = "failpoints")]
fn path() -> PathBuf {
    std::env::var_os("HEXLOOP_TEST_AGENT_TOML").map_or_else(|| PathBuf::from(PATH), PathBuf::from)
}

fn check_owner(path: &Path, metadata: &fs::Metadata, owner: Uid) -> Result<(), ConfigurationError> {
    let refused = |why: String| ConfigurationError::Unsafe {
        path: path.to_owned(),
        why,
    };
    if metadata.uid() != owner.as_raw() {
        let uid = metadata.uid();
        return Err(refused(format!("it belongs to user {uid}")));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(refused("others can write it".to_owned()));
    }
    Ok(())
}

/// A user by name or number; a number without a name has the group of the same number.
fn find_user(name: &str) -> Option<User> {
    if let Ok(number) = name.parse() {
        let uid = Uid::from_raw(number);
        let known = User::from_uid(uid).ok().flatten();
        return Some(known.unwrap_or_else(|| User {
            name: name.to_owned(),
            passwd: c"".to_owned(),
            uid,
            gid: Gid::from_raw(number),
            gecos: c"".to_owned(),
            dir: PathBuf::from("/"),
            shell: PathBuf::from("/"),
        }));
    }
    User::from_name(name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn me() -> Uid {
        nix::unistd::geteuid()
    }

    #[test]
    fn a_machine_without_a_file_allows_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let read = Configuration::read(&directory.path().join("agent.toml"), me()).unwrap();
        assert_eq!(read.host, HostConfiguration::default());
    }

    #[test]
    fn a_file_that_others_can_write_or_own_is_refused() {
        let (_directory, path) = written("schema = 1\n", 0o666);
        let error = Configuration::read(&path, me()).unwrap_err().to_string();
        assert!(error.contains("others can write it"), "{error}");
        let (_directory, path) = written("schema = 1\n", 0o644);
        let somebody = Uid::from_raw(me().as_raw() + 1);
        let error = Configuration::read(&path, somebody).unwrap_err();
        assert!(error.to_string().contains("it belongs to user"), "{error}");
        assert!(Configuration::read(&path, me()).is_ok());
    }

    #[test]
    fn jobs_never_run_as_root() {
        let with = |user: &str| Configuration {
            path: PathBuf::from(PATH),
            host: HostConfiguration {
                job_user: Some(user.to_owned()),
                ..HostConfiguration::default()
            },
        };
        assert!(with("root").job_user().is_err());
        assert!(with("0").job_user().is_err());
        assert!(with("no-such-user").job_user().is_err());
        let user = with("12345").job_user().unwrap();
        assert_eq!((user.user, user.group), (12_345, 12_345));
    }

    #[test]
    fn who_is_not_listed_may_not_and_root_may() {
        let configuration = Configuration {
            path: PathBuf::from(PATH),
            host: HostConfiguration {
                allow_users: Some(["4711".to_owned()].into()),
                ..HostConfiguration::default()
            },
        };
        assert!(configuration.allows_user(None));
        assert!(configuration.allows_user(Some(4711)));
        assert!(!configuration.allows_user(Some(4712)));
    }
}
