//! Whom a command behind a link runs as, and what it finds in its environment.

use std::ffi::{CString, OsString};

use hexloop_agent::behind::{BehindSpec, User as Credentials};
use hexloop_traces::Trace;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};

/// The user who called sudo; `None` where this program was started by its own user.
pub(in crate::command) fn invoking() -> Result<Option<Credentials>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (Some(user), Some(group)) = (number("SUDO_UID"), number("SUDO_GID")) else {
        return Ok(None);
    };
    let groups = match of_id(user) {
        Some(account) => {
            let name = CString::new(account.name)
                .or_fail(ExitCode::Failed, || "a user's name holds a NUL".to_owned())?;
            getgrouplist(&name, Gid::from_raw(group)).or_fail(ExitCode::Failed, || {
                format!("cannot list the groups of user {user}")
            })?
        }
        None => Vec::new(),
    };
    Ok(Some(Credentials {
        user,
        group,
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    }))
}

fn of_id(user: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(user)).ok().flatten()
}

/// What changes in the environment: everything else is passed on as it is. sudo leaves root's
/// home and name.
pub(in crate::command) fn environment(user: Option<&Credentials>) -> Vec<(OsString, OsString)> {
    let Some(account) = user.and_then(|user| of_id(user.user)) else {
        return Vec::new();
    };
    vec![
        ("HOME".into(), account.dir.into_os_string()),
        ("USER".into(), account.name.clone().into()),
        ("LOGNAME".into(), account.name.into()),
    ]
}

/// The shell for who gives no command, and a hint for its prompt: Debian's and Ubuntu's prompts
/// show `debian_chroot`, others may show `HEXLOOP_LINK`.
pub(super) fn shell(
    spec: &BehindSpec,
    trace: &Trace,
) -> (Vec<OsString>, Vec<(OsString, OsString)>) {
    let of_account = || {
        let user = spec
            .user
            .as_ref()
            .map_or_else(|| geteuid().as_raw(), |user| user.user);
        of_id(user).map(|account| account.shell.into_os_string())
    };
    let shell = match &spec.user {
        Some(_) => of_account(),
        None => std::env::var_os("SHELL").or_else(of_account),
    };
    let shell = shell.filter(|shell| !shell.is_empty());
    let hint = format!("link {}", trace.metadata().scenario);
    let hint = match std::env::var("HEXLOOP_LINK") {
        Ok(outer) => format!("{outer} > {hint}"),
        Err(_) => hint,
    };
    let environment = vec![
        ("HEXLOOP_LINK".into(), hint.clone().into()),
        ("debian_chroot".into(), hint.into()),
    ];
    (vec![shell.unwrap_or_else(|| "/bin/sh".into())], environment)
}
