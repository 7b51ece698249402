//! What `hexloop doctor` says of meters.

#[cfg(test)]
mod tests {
    use hexloop_nvml_stub::GpuScript;
    use hexloop_tests::sandbox::{Sandbox, finish};

    use crate::stand_ins::{BINARY, board, gpu};

    #[test]
    fn doctor_tells_what_a_gpu_offers_and_what_reading_it_costs() {
        let sandbox = Sandbox::new(BINARY);
        let mut command = sandbox.command(["doctor", "--json"]);
        command.envs(gpu(&sandbox, GpuScript::default()));
        command.env("HEXLOOP_TELEMETRY_ROOT", sandbox.path("nowhere"));
        let findings = finish(command.spawn().unwrap(), 60).json();
        let detail = |name: &str| {
            let mut findings = findings.as_array().unwrap().iter();
            let found = findings.find(|finding| finding["name"] == name).unwrap();
            found["detail"].as_str().unwrap().to_owned()
        };
        let channels = detail("NVML");
        for part in [
            "energy counter, NVML total energy",
            "instantaneous power, NVML field 186 (POWER_INSTANT), GPU",
            "average power, NVML field 185 (POWER_AVERAGE), GPU",
        ] {
            assert!(channels.contains(part), "{channels}");
        }
        let cost = detail("energy");
        assert!(
            cost.contains("eight such GPUs") && cost.contains("STUB"),
            "{cost}"
        );
    }

    #[test]
    fn doctor_tells_every_source_what_it_offers_and_that_it_is_a_stub() {
        let sandbox = Sandbox::new(BINARY);
        let mut command = sandbox.command(["doctor", "--json"]);
        command.env("HEXLOOP_TELEMETRY_ROOT", board(&sandbox));
        command.env("HEXLOOP_NVML_LIBRARY", sandbox.path("nowhere.so"));
        let finished = finish(command.spawn().unwrap(), 180);
        let findings = finished.json();
        let detail = |name: &str| {
            let findings = findings.as_array().unwrap();
            let found = findings.iter().find(|finding| finding["name"] == name);
            let found = found.unwrap_or_else(|| panic!("no {name} in {findings:#?}"));
            found["detail"].as_str().unwrap().to_owned()
        };
        assert!(detail("NVML").contains("cannot read NVML"));
        assert!(detail("RAPL (powercap)").contains("no zone with a counter"));
        let rails = detail("board sensors (hwmon)");
        assert!(rails.contains("VDD_IN, instantaneous power"), "{rails}");
        let cost = detail("energy");
        assert!(
            cost.contains("us per reading of all") && cost.ends_with("STUB, not this machine"),
            "{cost}"
        );
    }
}
