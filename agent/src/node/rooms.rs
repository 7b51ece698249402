//! What makes a node's namespaces habitable: its own `/proc` and `/tmp`, the model, a host name,
//! a loopback interface.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::sethostname;

use super::protocol::Shown;
use super::{DRAFT_MODEL_DIRECTORY, ENGINE_CUDA, MODEL_DIRECTORY};
use crate::sys::loopback;

/// Why a node is not habitable.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(crate) struct RoomError {
    action: String,
    #[source]
    source: io::Error,
}

pub(super) fn failed<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> RoomError {
    move |source| RoomError {
        action: action.into(),
        source: source.into(),
    }
}

/// Sets everything up. Returns what could not be done and does not matter much.
pub(crate) fn set_up(host_name: &str, shown: &Shown) -> Result<Vec<String>, RoomError> {
    let mut warnings = Vec::new();
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .map_err(failed("keep the node's mounts to itself"))?;

    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(Some("proc"), "/proc", Some("proc"), plain, nothing) {
        warnings.push(format!(
            "the node sees the host's /proc: its own is refused ({error})"
        ));
    }

    // Opened before /tmp is covered, because they may lie below.
    let models = [
        (&shown.model_directory, MODEL_DIRECTORY),
        (&shown.draft_model_directory, DRAFT_MODEL_DIRECTORY),
    ];
    let mut opened = Vec::new();
    for (directory, place) in models {
        if let Some(directory) = directory {
            opened.push((open_directory(directory)?, place));
        }
    }
    let engine = shown.engine_cuda.as_deref().map(open_program).transpose()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        flags,
        Some("mode=1777,size=256m"),
    )
    .map_err(failed("give the node its own /tmp"))?;
    for (model, place) in opened {
        DirBuilder::new()
            .mode(0o755)
            .create(place)
            .map_err(failed(format!("make {place}")))?;
        show_read_only(&model, place)?;
    }
    if let Some(engine) = engine {
        File::create(ENGINE_CUDA).map_err(failed(format!("make {ENGINE_CUDA}")))?;
        show_read_only(&engine, ENGINE_CUDA)?;
    }
    sethostname(host_name).map_err(failed("set the node's host name"))?;
    loopback::bring_up().map_err(failed("bring up the node's loopback interface"))?;
    std::env::set_current_dir("/tmp").map_err(failed("enter /tmp"))?;
    Ok(warnings)
}

fn open_directory(path: &str) -> Result<File, RoomError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(failed(format!("open the model directory {path}")))
}

fn open_program(path: &Path) -> Result<File, RoomError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_PATH.bits())
        .open(path)
        .map_err(failed(format!("open {}", path.display())))
}

/// Shows what was opened at a place that is there.
fn show_read_only(opened: &File, place: &str) -> Result<(), RoomError> {
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let nothing = None::<&str>;
    let show = |source| RoomError {
        action: format!("show what is on the host as {place}"),
        source,
    };
    mount(
        Some(source.as_str()),
        place,
        nothing,
        MsFlags::MS_BIND,
        nothing,
    )
    .map_err(|error| show(error.into()))?;
    // In a user namespace flags of the original mount must be kept (mount_namespaces(7)).
    let shown = File::open(place).map_err(show)?;
    let kept = fstatvfs(&shown)
        .map_err(|error| show(error.into()))?
        .flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    flags |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for (here, there) in [
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if kept.contains(here) {
            flags |= there;
        }
    }
    mount(nothing, place, nothing, flags, nothing)
        .map_err(failed(format!("make {place} read-only")))?;
    Ok(())
}

/// A name as host names may be: letters, digits and `-`, at most 63 bytes.
pub(crate) fn host_name_of(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    if plain.is_empty() {
        "node".to_owned()
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_node_name_gives_a_harmless_host_name() {
        assert_eq!(host_name_of("Edge 1"), "edge-1");
        assert_eq!(host_name_of("<script>"), "-script-");
        assert_eq!(host_name_of(""), "node");
        assert_eq!(host_name_of(&"x".repeat(100)).len(), 63);
    }
}
