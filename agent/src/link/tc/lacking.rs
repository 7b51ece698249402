//! What a kernel lacks of that which shapes packets, told by name. The kernel itself says no more than
//! "No such file or directory".

use std::io;

use crate::link::LinkError;

/// What disciplines, links and filters are for, and how a kernel comes to have them: kind, module, option of
/// the kernel's configuration.
const PARTS: [(&str, &str, &str, &str); 13] = [
    ("netem", "delay and loss", "sch_netem", "NET_SCH_NETEM"),
    ("htb", "rates", "sch_htb", "NET_SCH_HTB"),
    ("plug", "outages", "sch_plug", "NET_SCH_PLUG"),
    ("codel", "the queue", "sch_codel", "NET_SCH_CODEL"),
    ("fq_codel", "the queue", "sch_fq_codel", "NET_SCH_FQ_CODEL"),
    ("pie", "the queue", "sch_pie", "NET_SCH_PIE"),
    ("bfifo", "the queue", "sch_fifo", "NET_SCHED"),
    ("pfifo", "the queue", "sch_fifo", "NET_SCHED"),
    (
        "ingress",
        "what is received",
        "sch_ingress",
        "NET_SCH_INGRESS",
    ),
    ("ifb", "what is received", "ifb", "IFB"),
    ("mirred", "what is received", "act_mirred", "NET_ACT_MIRRED"),
    ("u32", "telling packets apart", "cls_u32", "NET_CLS_U32"),
    (
        "flower",
        "telling packets apart",
        "cls_flower",
        "NET_CLS_FLOWER",
    ),
];

/// The error of making something of a kind: where the kernel does not know that kind, one that says so.
pub(crate) fn told(error: LinkError, kind: &str) -> LinkError {
    let part = PARTS.iter().find(|(name, ..)| *name == kind);
    match (error, part) {
        (LinkError::Netlink { source, .. }, Some((_, purpose, module, option)))
            if is_unknown(&source) =>
        {
            LinkError::Lacking {
                kind: kind.to_owned(),
                purpose,
                module,
                option,
                source,
            }
        }
        (error, _) => error,
    }
}

/// How the kernel answers whoever asks for a kind that it has no module for.
fn is_unknown(error: &io::Error) -> bool {
    let codes = [libc::ENOENT, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: &str, code: i32) -> LinkError {
        let source = io::Error::from_raw_os_error(code);
        let action = "put something somewhere".to_owned();
        told(LinkError::Netlink { action, source }, kind)
    }

    #[test]
    fn a_kind_that_the_kernel_does_not_know_is_named_with_what_it_is_for_and_what_to_do() {
        let told = made("netem", libc::ENOENT).to_string();
        for words in [
            "lacks netem",
            "delay and loss",
            "modprobe sch_netem",
            "CONFIG_NET_SCH_NETEM",
        ] {
            assert!(told.contains(words), "{told}");
        }
        let told = made("ifb", libc::EOPNOTSUPP).to_string();
        assert!(told.contains("lacks ifb"), "{told}");
    }

    #[test]
    fn any_other_answer_and_any_other_kind_stays_what_it_is() {
        for error in [made("netem", libc::EPERM), made("something", libc::ENOENT)] {
            assert_eq!(error.to_string(), "cannot put something somewhere");
        }
    }
}
