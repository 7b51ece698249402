//! What ignored tests need, and who can serve it.
//!
//! A test that needs more than a plain machine says so where it is ignored:
//! `#[ignore = "needs root, netem"]`. This module reads those reasons from the sources and the
//! answers of `tests/guest/probe`, and decides where each test can run.

use std::collections::{BTreeMap, BTreeSet};

/// One thing that a test can need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// User 0 with namespaces, mounts and links of its own.
    Root,
    /// The netem queueing discipline.
    Netem,
    /// The fq queueing discipline.
    Fq,
    /// Links of kind `vlan`.
    Vlan,
    /// A clock that skips idle time, so that delays are exact however busy the machine is.
    VirtualTime,
    /// The cpuset controller of cgroup v2.
    Cpuset,
    /// The program `prometheus`.
    Prometheus,
    /// A GPU with NVIDIA's driver.
    Gpu,
}

impl Need {
    /// All of them, in order.
    pub const ALL: [Need; 8] = [
        Need::Root,
        Need::Netem,
        Need::Fq,
        Need::Vlan,
        Need::VirtualTime,
        Need::Cpuset,
        Need::Prometheus,
        Need::Gpu,
    ];

    /// Its name in reasons and probes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Need::Root => "root",
            Need::Netem => "netem",
            Need::Fq => "fq",
            Need::Vlan => "vlan",
            Need::VirtualTime => "virtual-time",
            Need::Cpuset => "cpuset",
            Need::Prometheus => "prometheus",
            Need::Gpu => "gpu",
        }
    }

    /// The need of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Need> {
        Need::ALL.into_iter().find(|need| need.name() == name)
    }
}

/// A set of needs.
pub type Needs = BTreeSet<Need>;

/// Names, comma separated.
#[must_use]
pub fn names(needs: &Needs) -> String {
    needs
        .iter()
        .map(|need| need.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads the reason of an ignored test. A reason of another kind, such as `trains for a minute`,
/// stands for a test that needs nothing but time.
///
/// # Errors
/// There is no reason, or it needs something unknown.
pub fn parse_reason(reason: &str) -> Result<Needs, String> {
    if reason.is_empty() {
        return Err("it is ignored without a reason".to_owned());
    }
    let Some(list) = reason.strip_prefix("needs ") else {
        return Ok(Needs::new());
    };
    list.split(',')
        .map(str::trim)
        .map(|name| Need::from_name(name).ok_or_else(|| format!("it needs the unknown {name:?}")))
        .collect()
}

/// The reasons of the ignored tests in one source file: name of the function and reason.
///
/// Attributes are read line by line, as `rustfmt` lays them out.
#[must_use]
pub fn ignored_functions(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut reason: Option<String> = None;
    for line in source.lines().map(str::trim) {
        if line == "#[ignore]" {
            reason = Some(String::new());
        }
        if let Some(rest) = line.strip_prefix("#[ignore = \"") {
            reason = rest.strip_suffix("\"]").map(str::to_owned);
        }
        let function = line
            .trim_start_matches("pub ")
            .trim_start_matches("async ")
            .strip_prefix("fn ")
            .and_then(|rest| rest.split(['(', '<']).next());
        if let Some(function) = function
            && let Some(reason) = reason.take()
        {
            found.push((function.to_owned(), reason));
        }
    }
    found
}

/// Reads what a probe printed: a line per need, `NEED yes` or `NEED no`.
#[must_use]
pub fn parse_probe(output: &str) -> Needs {
    output
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" yes"))
        .filter_map(Need::from_name)
        .collect()
}

/// Where a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this machine's own kernel.
    Host,
    /// In the guest, in real time.
    Guest,
    /// In the guest, with a simulated clock.
    VirtualTimeGuest,
}

/// Who serves what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// By this machine.
    pub host: Needs,
    /// By the guest; virtual time is a mode of its own.
    pub guest: Needs,
}

impl Served {
    /// The place that serves all the needs, the host before the guest.
    ///
    /// # Errors
    /// Nobody does: what the best place lacks.
    pub fn place(&self, needs: &Needs) -> Result<Place, Needs> {
        let lacking = |served: &Needs| needs.difference(served).copied().collect::<Needs>();
        if lacking(&self.host).is_empty() {
            return Ok(Place::Host);
        }
        let in_guest = lacking(&self.guest);
        if !in_guest.is_empty() {
            let on_host = lacking(&self.host);
            return Err(if on_host.len() < in_guest.len() {
                on_host
            } else {
                in_guest
            });
        }
        // The simulated clock has one CPU and no cpuset controller.
        match (
            needs.contains(&Need::VirtualTime),
            needs.contains(&Need::Cpuset),
        ) {
            (true, true) => Err(Needs::from([Need::Cpuset])),
            (true, false) => Ok(Place::VirtualTimeGuest),
            (false, _) => Ok(Place::Guest),
        }
    }
}

/// The needs that a test says it went without, from lines such as `SKIPPED(netem) ...`.
#[must_use]
pub fn skipped_within(output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SKIPPED("))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(need, _)| need.to_owned())
        .collect()
}

/// Needs by function name over a package; a name that stands for different needs is an error.
///
/// # Errors
/// One message per function whose reason cannot be read or is ambiguous.
pub fn needs_by_function<'a>(
    sources: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Needs>, Vec<String>> {
    let mut needs: BTreeMap<String, Needs> = BTreeMap::new();
    let mut problems = Vec::new();
    for (function, reason) in sources.into_iter().flat_map(ignored_functions) {
        match parse_reason(&reason) {
            Err(problem) => problems.push(format!("{function}: {problem}")),
            Ok(parsed) => {
                if let Some(earlier) = needs.insert(function.clone(), parsed.clone())
                    && earlier != parsed
                {
                    problems.push(format!(
                        "{function}: two tests of this name differ in needs"
                    ));
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(needs)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_from_the_line_before_the_function() {
        let source = "
            #[test]
            #[ignore = \"needs root, netem\"]
            fn delay_is_kept() {}
            #[test]
            fn plain() {}
            #[tokio::test]
            #[ignore = \"needs fq\"]
            async fn paced() {}
        ";
        let found = ignored_functions(source);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            ("delay_is_kept".to_owned(), "needs root, netem".to_owned())
        );
        assert_eq!(
            parse_reason(&found[0].1),
            Ok(Needs::from([Need::Root, Need::Netem]))
        );
        assert_eq!(found[1].0, "paced");
    }

    #[test]
    fn a_reason_may_be_time_alone_but_never_nothing_or_the_unknown() {
        assert_eq!(parse_reason("trains for a minute"), Ok(Needs::new()));
        assert!(parse_reason("").is_err());
        assert!(parse_reason("needs luck").is_err());
    }

    #[test]
    fn the_host_is_preferred_and_what_nobody_serves_is_named() {
        let served = Served {
            host: Needs::from([Need::Root]),
            guest: Needs::from([Need::Root, Need::Netem, Need::VirtualTime]),
        };
        assert_eq!(served.place(&Needs::from([Need::Root])), Ok(Place::Host));
        assert_eq!(
            served.place(&Needs::from([Need::Root, Need::Netem])),
            Ok(Place::Guest)
        );
        let exact = Needs::from([Need::Netem, Need::VirtualTime]);
        assert_eq!(served.place(&exact), Ok(Place::VirtualTimeGuest));
        let lacking = served.place(&Needs::from([Need::Root, Need::Fq]));
        assert_eq!(lacking, Err(Needs::from([Need::Fq])));
    }

    #[test]
    fn a_probe_is_read_line_by_line() {
        let served = parse_probe("root yes\nnetem no\nfq yes\nnoise\n");
        assert_eq!(served, Needs::from([Need::Root, Need::Fq]));
    }

    #[test]
    fn a_test_that_did_without_is_noticed() {
        assert_eq!(
            skipped_within("x\nSKIPPED(fq) paced\n"),
            vec!["fq".to_owned()]
        );
    }
}
