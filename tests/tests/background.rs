//! What others send beside a phase, as a user runs it: at the rate that was asked for, on and off.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;

    use hexloop_tests::points::{Answer, Points};
    use hexloop_tests::sandbox::{Finished, Sandbox, finish};
    use hexloop_tests::summary::check;
    use hexloop_tests::system::{System, exclusive};
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// Pings are beside 2 Mbit/s one way, and bursts of 4 Mbit/s and of TCP the other way.
    const EXPERIMENT: &str = r#"
schema = 1
name = "background"
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "2 ms"
[nodes.first]
[nodes.second]
[[links]]
name = "radio"
between = ["first", "second"]
trace = "constant"
datapath = "relay"
queue = "100 kB"
[[traffic]]
name = "ping"
job = "ping"
duration = "4 s"
[[background]]
name = "steady"
job = "udp"
direction = "up"
rate = "2 Mbit/s"
[[background]]
name = "bursts"
job = "udp"
direction = "down"
rate = "4 Mbit/s"
packet = "972 B"
on = "400 ms"
off = "600 ms"
[[background]]
name = "pages"
job = "tcp"
congestion_control = "reno"
direction = "down"
on = "400 ms"
off = "600 ms"
"#;

    fn run(sandbox: &Sandbox, experiment: &str) -> Finished {
        sandbox.write("experiment.toml", experiment);
        // What it is told makes the program's calibrations short: they are not what this is about.
        let points = Points::listen(&sandbox.path("points"));
        points.decide(|_, _| Answer::Go);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let mut command = sandbox.command(arguments);
        command.env("HEXLOOP_FAILPOINTS", sandbox.path("points"));
        finish(command.spawn().unwrap(), 200)
    }

    #[test]
    #[ignore = "needs root"]
    fn traffic_beside_a_phase_keeps_its_rate_and_its_periods_by_the_links_own_counters() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let before = System::look("");
        let finished = run(&sandbox, EXPERIMENT);
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
        check(&summary, &plan, &events)
            .unwrap_or_else(|problems| panic!("{}", problems.join("\n")));

        let [steady, bursts, pages] = summary["background"].as_array().unwrap().as_slice() else {
            panic!("{}", summary["background"]);
        };
        // A packet of 1228 B at 2 Mbit/s each 4.912 ms; the phase lasts a little longer than its pings.
        let sent = steady["sent_packets"].as_u64().unwrap();
        assert!((780..1100).contains(&sent), "{steady}");
        // What is under way when the phase ends is not waited for.
        let arrived = steady["received_packets"].as_u64().unwrap();
        assert!((sent - 20..=sent).contains(&arrived), "{steady}");
        assert_eq!(steady["received_bytes"], 1200 * arrived, "{steady}");
        // 200 packets of 1000 B in each of its periods.
        let sent = bursts["sent_packets"].as_u64().unwrap();
        assert!((700..=1000).contains(&sent), "{bursts}");
        // TCP beside them fills the queue, in which some find no room.
        let arrived = bursts["received_packets"].as_u64().unwrap();
        assert!((sent / 2..=sent).contains(&arrived), "{bursts}");

        // A connection of its own in each period, which takes most of what is left of the link.
        assert_eq!(pages["congestion_control"], "reno", "{pages}");
        let carried = pages["received_bytes"].as_u64().unwrap();
        assert!((200_000..4_000_000).contains(&carried), "{pages}");

        let windows = |direction: &'static str| {
            events.iter().filter_map(move |event| {
                let of = event["event"] == "link-window" && event["direction"] == direction;
                (of && event["phase"] == "ping").then(|| {
                    let number = |key: &str| event[key].as_u64().unwrap();
                    (number("start_ns"), number("delivered_bytes"))
                })
            })
        };
        // By the counters of the interface that receives: while it is on, and while it is off, with a
        // fifth of a second in between for what a busy machine sends late.
        let (mut on, mut off) = (0, 0);
        for (start_ns, bytes) in windows("down") {
            match start_ns % 1_000_000_000 / 1_000_000 {
                0..600 => on += bytes,
                _ => off += bytes,
            }
        }
        assert!(on > 4 * 180_000 && off < on / 5, "{on} on, {off} off");
        let up: u64 = windows("up").map(|(_, bytes)| bytes).sum();
        let sent = steady["sent_packets"].as_u64().unwrap();
        assert!(up >= 1200 * sent * 95 / 100, "{up} of {sent} packets");
        let report = read("report.html");
        assert!(report.contains("Traffic beside phases"));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_congestion_control_that_the_kernel_lacks_is_refused_before_anything_is_made() {
        let _alone = exclusive();
        let file = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        let allowed = fs::read_to_string(file).unwrap();
        let allowed: Vec<&str> = allowed.split_whitespace().collect();
        let missing = ["bbr", "cubic"]
            .into_iter()
            .find(|name| !allowed.contains(name));
        let Some(missing) = missing else {
            println!("SKIPPED(lacking-control) this kernel allows both bbr and cubic");
            return;
        };
        let sandbox = Sandbox::new(BINARY);
        let beside = format!(
            "[[background]]\nname = \"bulk\"\njob = \"tcp\"\ndirection = \"down\"\n\
             congestion_control = \"{missing}\"\n"
        );
        let finished = run(&sandbox, &format!("{EXPERIMENT}{beside}"));
        finished.expect_code(4).expect_error(&[
            missing,
            "modprobe tcp_",
            "tcp_allowed_congestion_control",
        ]);
        assert_eq!(fs::read_dir(sandbox.output()).unwrap().count(), 0);
    }
}
