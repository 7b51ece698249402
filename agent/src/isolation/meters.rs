//! Meters that an experiment cannot do without.

use hexloop_telemetry::{Channel, ExternalFeed, Finding, Scope};
use hexloop_workloads::clock;

use super::IsolationError;

/// How long an external meter may take to send its first reading, and how often that is looked at.
const FIRST_LIMIT_NS: u64 = 10_000_000_000;
const LOOK_EVERY_NS: u64 = 50_000_000;

/// What a machine can meter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metering<'a> {
    pub(crate) channels: &'a [Channel],
    pub(crate) findings: &'a [Finding],
    pub(crate) feeds: &'a [ExternalFeed],
    /// Why nothing can be summed up, if so.
    pub(crate) why_nothing: Option<&'a str>,
}

/// Checks that there is every meter that was asked for; `pause` waits until a moment, or fails.
///
/// # Errors
/// One is missing, or an external one sends nothing.
pub(crate) fn require<E: From<IsolationError>>(
    asked: &[String],
    metering: Metering<'_>,
    mut pause: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    let until = clock::now() + FIRST_LIMIT_NS;
    for name in asked {
        let missing = |why: String| IsolationError::NoMeter {
            asked: name.clone(),
            why,
        };
        let covers = |scopes: &[Scope]| {
            let mut channels = metering.channels.iter();
            channels.any(|channel| scopes.contains(&channel.scope))
        };
        let found = match name.as_str() {
            "any" => metering
                .why_nothing
                .map_or(Ok(()), |why| Err(why.to_owned())),
            "gpu" => there_or(covers(&[Scope::Gpu, Scope::Module]), metering, &["NVML"]),
            "cpu" => there_or(
                covers(&[Scope::Package]),
                metering,
                &["RAPL (powercap)", "RAPL (perf)"],
            ),
            "board" => there_or(
                covers(&[Scope::Rail]),
                metering,
                &["board sensors (hwmon)", "Raspberry Pi 5 PMIC"],
            ),
            external => {
                let mut feeds = metering.feeds.iter();
                let Some(feed) = feeds.find(|feed| feed.spec().name == external) else {
                    let why = format!(
                        "nobody says where its lines come from; `--meter {external}=-`, or \
                         `[meters.{external}]` of agent.toml"
                    );
                    return Err(missing(why).into());
                };
                while silence(feed).is_some_and(|silence| !silence.is_final) && clock::now() < until
                {
                    pause(clock::now() + LOOK_EVERY_NS)?;
                }
                silence(feed).map_or(Ok(()), |silence| Err(silence.why))
            }
        };
        found.map_err(missing)?;
    }
    Ok(())
}

/// Why nothing was heard of a meter.
struct Silence {
    why: String,
    is_final: bool,
}

fn silence(feed: &ExternalFeed) -> Option<Silence> {
    let report = feed.report();
    let ended = report.ended;
    let is_final = ended.is_some();
    (report.taken == 0).then(|| Silence {
        why: ended.or(report.last_refusal).map_or_else(
            || "it has sent no reading for ten seconds".to_owned(),
            |why| format!("it has sent no reading: {why}"),
        ),
        is_final,
    })
}

/// The reasons of the sources that could have it.
fn there_or(is_there: bool, metering: Metering<'_>, sources: &[&str]) -> Result<(), String> {
    if is_there {
        return Ok(());
    }
    let findings = metering.findings.iter();
    let reasons: Vec<String> = findings
        .filter(|finding| sources.contains(&finding.source))
        .map(|finding| match &finding.outcome {
            Ok(_) => format!("{} tells of other devices alone", finding.source),
            Err(trouble) => format!("{}: {trouble}", finding.source),
        })
        .collect();
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_telemetry::{ExternalSpec, Origin, Quality, Quantity, Subject, Trouble};

    fn required(asked: &str, feeds: &[ExternalFeed]) -> Result<(), String> {
        let channels = [Channel {
            device: "package-0".to_owned(),
            scope: Scope::Package,
            quantity: Quantity::InstantPower,
            quality: Quality::Measured,
            source: "a test".to_owned(),
            counted: true,
            origin: Origin::Stub,
        }];
        let findings = [Finding {
            source: "NVML",
            subject: Subject::Energy,
            outcome: Err(Trouble::Failed {
                what: "NVML".to_owned(),
                reason: "no driver".to_owned(),
            }),
        }];
        let metering = Metering {
            channels: &channels,
            findings: &findings,
            feeds,
            why_nothing: None,
        };
        let outcome: Result<(), IsolationError> =
            require(&[asked.to_owned()], metering, |_| Ok(()));
        outcome.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_there_is_found_and_what_is_not_has_a_reason_and_a_remedy() {
        assert_eq!(required("any", &[]), Ok(()));
        assert_eq!(required("cpu", &[]), Ok(()));
        let why = required("gpu", &[]).unwrap_err();
        assert!(why.ends_with("NVML: cannot read NVML: no driver"), "{why}");
        let why = required("plug", &[]).unwrap_err();
        assert!(why.contains("`--meter plug=-`"), "{why}");
    }

    #[test]
    fn an_external_meter_must_have_sent_a_reading() {
        let feed = ExternalFeed::new(ExternalSpec {
            name: "plug".to_owned(),
            scope: Scope::Machine,
            counted: None,
        });
        feed.end("its command ended with exit status: 1");
        let why = required("plug", std::slice::from_ref(&feed)).unwrap_err();
        assert!(
            why.ends_with("no reading: its command ended with exit status: 1"),
            "{why}"
        );
        feed.take("- 40", 1_000, 1_000).unwrap();
        assert_eq!(required("plug", &[feed]), Ok(()));
    }
}
