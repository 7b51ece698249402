use super::*;

const TEXT: &str = r#"name = "small"
about = "A small one."
duration = "1 s"
step = "10 ms"

[control]
shape = "step"
rate = "20 Mbit/s"
low_rate = "5 Mbit/s"
period = "100 ms"
delay = "5 ms"

[[events]]
kind = "outage"
at = "500 ms"
length = "50 ms"
"#;

fn problems(text: &str) -> String {
    Scenario::parse("small.toml", text).unwrap_err().to_string()
}

#[test]
fn every_mistake_is_told_with_its_line_and_column() {
    assert!(Scenario::parse("small.toml", TEXT).is_ok());
    for (from, to, expected) in [
        (
            "step = \"10 ms\"",
            "step = \"10\"",
            "small.toml:4:8: `10` is not a time span",
        ),
        (
            "rate = \"20",
            "rates = \"20",
            "small.toml:8:1: unknown field `rates`",
        ),
        (
            "period = \"100 ms\"",
            "",
            "small.toml:6:1: control.period: shapes",
        ),
        (
            "kind = \"outage\"",
            "kind = \"strike\"",
            "small.toml:14:8: unknown variant `strike`",
        ),
        (
            "length = \"50 ms\"",
            "length = \"0 s\"",
            "small.toml:16:10: events.0.length: an event",
        ),
        (
            "duration = \"1 s\"",
            "duration = \"1 ms\"",
            "small.toml:3:12: duration: at least",
        ),
        (
            "name = \"small\"",
            "name = \"s m\"",
            "small.toml:1:8: name: a name has",
        ),
        ("[control]", "[control", "small.toml:6:9: "),
        (
            "about = \"A small one.\"\n",
            "",
            "small.toml:1:1: missing field `about`",
        ),
    ] {
        let found = problems(&TEXT.replacen(from, to, 1));
        assert!(found.starts_with(expected), "{found}");
    }
    let two = problems(&TEXT.replace("1 s", "0 s").replace("100 ms", "0 s"));
    assert_eq!(two.lines().count(), 2, "{two}");
}

#[test]
fn settings_go_over_the_file_and_their_mistakes_are_named_as_theirs() {
    let with = |key: &str, value: &str| {
        let settings = [(key.to_owned(), value.to_owned())];
        Scenario::parse_with("small.toml", TEXT, &settings)
    };
    let changed = with("control.rate", "1 Gbit/s").unwrap();
    assert_eq!(changed.control.unwrap().rate.bps, 1_000_000_000);
    assert_eq!(with("end", "\"loop\"").unwrap().end, EndPolicy::Loop);
    for (key, value, expected) in [
        (
            "control.rate",
            "fast",
            "small.toml: setting control.rate=fast: `fast` is not",
        ),
        (
            "control.speed",
            "1",
            "small.toml: setting control.speed=1: unknown field `speed`",
        ),
        ("", "1", "small.toml: setting =1: a setting is a dotted key"),
        (
            "name.x",
            "1",
            "small.toml: setting name.x=1: `name` is not a table",
        ),
        (
            "duration",
            "1 us",
            "small.toml: duration: at least one step of 10 ms",
        ),
    ] {
        let found = with(key, value).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn an_empty_or_absurd_file_is_an_error() {
    for text in ["", "\u{0}", "[[[[", "name", "=", "name = 1e999"] {
        assert!(Scenario::parse("x", text).is_err(), "{text:?}");
    }
    assert!(problems(&"#".repeat(LONGEST_TEXT_BYTES + 1)).contains("larger"));
}

const RADIO: &str = r#"name = "hill"
about = "A cell on a hill."
duration = "100 ms"
step = "10 ms"

[radio]
carrier = "3.5 GHz"
bandwidth = "20 MHz"
numerology = 1
base_power = "43 dBm"

[channel]
scenario = "rma"

[network]
height = "35 m"
"#;

#[test]
fn what_a_model_was_not_made_for_is_refused_unless_asked_for_and_marked() {
    let parse = |text: &str| Scenario::parse("hill.toml", text);
    let inside = parse(RADIO).unwrap();
    assert_eq!(inside.status(), TraceStatus::Checked);
    for (from, to, expected) in [
        (
            "35 m",
            "200 m",
            "h_bs_m is 200; TR 38.901 gives rma 10 to 150",
        ),
        ("3.5 GHz", "40 GHz", "the model is not made for 40 GHz"),
    ] {
        let text = RADIO.replace(from, to);
        let told = problems(&text);
        assert!(told.contains(expected), "{told}");
        assert!(told.contains(":13:12: channel.scenario"), "{told}");
        let asked = "scenario = \"rma\"\nextrapolate = true";
        let asked = parse(&text.replace("scenario = \"rma\"", asked)).unwrap();
        assert_eq!(asked.status(), TraceStatus::Simplified);
        let rows = asked.generate(Variant::default()).unwrap();
        let marked = |note: &String| note.starts_with("extrapolated: ");
        assert!(rows.metadata().notes.iter().any(marked));
        assert_eq!(rows.count(), 10);
    }
    let low = format!("{RADIO}\n[mobility]\nheight = \"0.5 m\"\n");
    assert!(problems(&low).contains("h_ut_m is 0.5"));
}

#[test]
fn a_user_who_leaves_the_models_range_on_the_way_is_refused_unless_asked_for_and_marked() {
    let way = "\n[mobility]\nkind = \"line\"\nstart_m = [4990.0, 0.0]\nspeed = \"360 km/h\"\n";
    let parse = |text: &str| Scenario::parse("hill.toml", text).unwrap();
    let near = format!(
        "{}{way}",
        RADIO.replace("duration = \"100 ms\"", "duration = \"90 ms\"")
    );
    let rows = parse(&near).generate(Variant::default()).unwrap();
    assert_eq!(rows.metadata().status, TraceStatus::Checked);
    let far = format!(
        "{}{way}",
        RADIO.replace("duration = \"100 ms\"", "duration = \"300 ms\"")
    );
    let told = parse(&far)
        .generate(Variant::default())
        .unwrap_err()
        .to_string();
    let expected = "d2d_m is 5010; TR 38.901 gives rma 10 to 5000, 0.2 s after the start";
    assert!(told.contains(expected), "{told}");
    assert!(told.contains("channel.extrapolate = true"), "{told}");
    let clear = far.replace(
        "scenario = \"rma\"",
        "scenario = \"rma\"\nsight = \"clear\"",
    );
    assert!(
        parse(&clear).generate(Variant::default()).is_ok(),
        "10 km with a line of sight"
    );
    let asked = far.replace(
        "scenario = \"rma\"",
        "scenario = \"rma\"\nextrapolate = true",
    );
    let rows = parse(&asked).generate(Variant::default()).unwrap();
    assert_eq!(rows.metadata().status, TraceStatus::Simplified);
    let marked = |note: &String| note.starts_with("extrapolated: d2d_m is 5010");
    assert!(rows.metadata().notes.iter().any(marked));
    assert_eq!(rows.count(), 30);
}

#[test]
fn a_satellite_between_the_bands_of_its_tables_is_marked() {
    let setting = |value: &str| {
        let pair = ("satellite.radio.carrier".to_owned(), value.to_owned());
        let bundled = super::super::bundled_scenarios();
        let leo = bundled
            .iter()
            .find(|known| known.name == "leo-600-backhaul");
        leo.unwrap().scenario(&[pair]).unwrap()
    };
    assert_eq!(setting("20 GHz").status(), TraceStatus::Checked);
    assert_eq!(setting("12 GHz").status(), TraceStatus::Simplified);
}
