//! The tapped delay lines of TR 38.901 clause 7.7.2.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::fading::Profile;

pub(super) const MODELS: &[Model] = &[Model {
    name: "tdl",
    about: "a tap of a tapped delay line (A to E), TR 38.901 tables 7.7.2-1 to 7.7.2-5",
    inputs: &[Input::required("profile"), Input::required("tap")],
    outputs: &["delay_normalized", "power_db"],
    evaluate: tap,
}];

fn tap(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let name = row.text("profile")?;
    let profile = name
        .parse::<Profile>()
        .ok()
        .filter(|profile| profile.is_scalable() && !profile.is_clustered())
        .ok_or_else(|| EvalError::value("profile", name, "A, B, C, D or E"))?;
    let number = row.whole("tap")?;
    let tap = profile
        .taps()
        .find(|tap| tap.number == number)
        .ok_or_else(|| {
            let expected = format!("1 to {} in {profile}", profile.taps().count());
            EvalError::value("tap", number, expected)
        })?;
    Ok(vec![exact(tap.delay), exact(tap.power_db)])
}

#[cfg(test)]
mod tests {
    use crate::eval::{Evaluation, Options, find};

    #[test]
    fn taps_are_those_of_the_tables_in_their_order() {
        let input = "tap,profile\n1,A\n23,A\n1,D\n2,D\n15,E\n24,tdl-c\n";
        let model = find("tdl").unwrap();
        let mut rows = Evaluation::new(model, Options::default(), input.as_bytes()).unwrap();
        for expected in [
            ["0", "-13.4"],
            ["9.6586", "-29.7"],
            ["0", "-0.2"],
            ["0", "-13.5"],
            ["20.6519", "-29.2"],
            ["8.6523", "-22.8"],
        ] {
            assert_eq!(rows.next_row().unwrap().unwrap()[2..], expected);
        }
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn there_is_no_other_profile_and_no_further_tap() {
        for input in [
            "profile,tap\nF,1\n",
            "profile,tap\nA30,1\n",
            "profile,tap\nCDL-A,1\n",
            "profile,tap\nA,24\n",
        ] {
            let model = find("tdl").unwrap();
            let mut rows = Evaluation::new(model, Options::default(), input.as_bytes()).unwrap();
            assert!(rows.next_row().is_err(), "{input}");
        }
    }
}
