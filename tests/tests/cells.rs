//! Links that share cells, as a user runs them: who gets how much, and what the record says of it.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;

    use hexloop_tests::points::{Answer, Points};
    use hexloop_tests::sandbox::{Sandbox, finish};
    use hexloop_tests::summary::check;
    use hexloop_tests::system::{System, exclusive};
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// A cell of every policy, each with a link at 12 Mbit/s and one at 6 if it were alone.
    const EXPERIMENT: &str = r#"
schema = 1
name = "cells"
[traces.near.steps]
rates = ["12 Mbit/s"]
delay = "2 ms"
[traces.far.steps]
rates = ["6 Mbit/s"]
delay = "2 ms"
[nodes.users]
[nodes.base]
"#;

    /// Policy, its links' weights, the direction that is filled, and what its near link is to get
    /// of the bytes.
    type Case = (
        &'static str,
        Option<[u32; 2]>,
        &'static str,
        &'static [&'static str],
        f64,
    );

    const CASES: [Case; 3] = [
        ("proportional-fair", None, "down", &["down"], 2.0 / 3.0),
        ("round-robin", None, "both", &["down", "up"], 2.0 / 3.0),
        // A quarter of 12 Mbit/s, and three quarters of 6.
        ("fixed-share", Some([1, 3]), "up", &["up"], 3.0 / 7.5),
    ];

    fn experiment() -> String {
        let mut parts = vec![EXPERIMENT.to_owned()];
        for (policy, weights, direction, ..) in CASES {
            let links = [("near", 0), ("far", 1)].map(|(trace, index)| {
                let weight = weights.map_or_else(String::new, |weights: [u32; 2]| {
                    format!("weight = {}\n", weights[index])
                });
                format!(
                    "[[links]]\nname = \"{policy}-{trace}\"\nbetween = [\"users\", \"base\"]\n\
                     trace = \"{trace}\"\ncell = \"{policy}\"\nmode = \"exact\"\n\
                     queue = \"40 kB\"\n{weight}"
                )
            });
            parts.push(format!(
                "[[cells]]\nname = \"{policy}\"\npolicy = \"{policy}\"\n{}\
                 [[traffic]]\nname = \"fill-{policy}\"\njob = \"bulk\"\ndirection = \"{direction}\"\n\
                 link = \"{policy}-near\"\nbeside = [\"{policy}-far\"]\nduration = \"3 s\"\n\
                 [[expectations]]\nname = \"{policy}\"\nclaim = \"shares-follow-cell\"\n\
                 phase = \"fill-{policy}\"\n",
                links.concat()
            ));
        }
        parts.concat()
    }

    fn near(value: &Value, wanted: f64, tolerance: f64) -> bool {
        value
            .as_f64()
            .is_some_and(|got| (got - wanted).abs() <= tolerance)
    }

    #[test]
    #[ignore = "needs root"]
    fn links_of_a_cell_get_what_its_policy_gives_them_and_the_report_shows_it() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let before = System::look("");
        sandbox.write("experiment.toml", experiment());
        // What it is told makes the program's calibrations short: they are not what this is about.
        let points = Points::listen(&sandbox.path("points"));
        points.decide(|_, _| Answer::Go);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let mut command = sandbox.command(arguments);
        command.env("HEXLOOP_FAILPOINTS", sandbox.path("points"));
        let finished = finish(command.spawn().unwrap(), 200);
        // Calibrations that short are not believed.
        finished.expect_code(6);
        before.expect_clean_within(30_000);
        let summary = finished.json();
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let plan: Value = serde_json::from_str(&read("plan.json")).unwrap();
        let events: Vec<Value> = read("events.ndjson")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(plan["links"][0]["mode"], "exact");
        let cells = summary["cells"].as_array().unwrap();
        let mut judged = 0;
        for (policy, weights, _, directions, share) in CASES {
            for direction in directions {
                let cell = cells
                    .iter()
                    .find(|cell| cell["cell"] == policy && cell["direction"] == *direction);
                let cell = cell.unwrap_or_else(|| panic!("no {policy} {direction}: {cells:?}"));
                judged += 1;
                let [first, second] = [&cell["users"][0], &cell["users"][1]];
                assert_eq!(first["link"], format!("{policy}-near"));
                let weight = weights.map(|weights| weights[1]);
                assert_eq!(second["weight"].as_u64(), weight.map(u64::from));
                assert!(cell["backlogged_windows"].as_u64() > Some(0), "{cell}");
                assert!(near(&first["asked_share"], share, 0.01), "{cell}");
                assert!(near(&first["delivered_share"], share, 0.05), "{cell}");
                // Each direction has the whole cell: the other one takes nothing of it.
                for user in [first, second] {
                    assert!(near(&user["delivered_over_asked"], 1.0, 0.25), "{cell}");
                }
            }
            let seat = events.iter().find(|event| {
                event["event"] == "link-up" && event["link"] == format!("{policy}-near")
            });
            assert_eq!(seat.unwrap()["mode"], "exact");
            let reason = seat.unwrap()["reason"].as_str().unwrap();
            assert!(reason.contains(&format!("of cell {policy}")), "{reason}");
        }
        assert_eq!(judged, cells.len(), "{cells:?}");
        let claims = summary["expectations"].as_array().unwrap();
        for (claim, (policy, ..)) in claims.iter().zip(CASES) {
            // Whether it holds within 5 % is the machine's business; that it is judged is ours.
            let number = format!("delivered_share_{policy}-near_");
            let mut numbers = claim["numbers"].as_object().unwrap().keys();
            assert!(numbers.any(|name| name.starts_with(&number)), "{claim}");
        }
        let report = read("report.html");
        for shown in [
            "Shared cell",
            "round-robin-far",
            "proportional-fair over 1 s",
        ] {
            assert!(report.contains(shown), "the report lacks {shown}");
        }
        check(&summary, &plan, &events).unwrap_or_else(|problems| {
            panic!("{}", problems.join("\n"));
        });
    }
}
