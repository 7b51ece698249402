//! The socket and who may connect to it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};

use super::ServeError;

/// Listens on a socket that only this user can reach, and lets only this user in. The socket's
/// directory is made if it is missing and `make_directory` allows it: one that an owner made, and
/// that is gone because the owner is, must not come back.
pub(super) fn listen(
    path: &Path,
    make_directory: bool,
) -> Result<impl Stream<Item = io::Result<UnixStream>> + use<>, ServeError> {
    let failed = |action| {
        move |source| ServeError::Socket {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    if make_directory {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make the directory of"))?;
    }
    let metadata = fs::metadata(directory).map_err(failed("look at the directory of"))?;
    if metadata.mode() & 0o077 != 0 || metadata.uid() != geteuid().as_raw() {
        return Err(ServeError::OpenDirectory(directory.to_owned()));
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("close to others"))?;
    let own = geteuid().as_raw();
    let admitted = UnixListenerStream::new(listener).filter(move |connection| match connection {
        // A connection that failed concerns the caller alone.
        Err(_) => false,
        Ok(stream) => stream.peer_cred().is_ok_and(|peer| peer.uid() == own),
    });
    Ok(admitted)
}
