//! No bytes make an importer panic or ask for much memory, and every mistake has a place.

use super::*;
use crate::TraceError;
use proptest::prelude::*;

/// A small valid file for each format that can be told by its content, and others that are near.
const EXAMPLES: &[&str] = &[
    "1\n2\n2\n7\n",
    "0 20 1 2\n5 30 1\n9 25 1\n",
    "0.0\t1.022096\n1.4564\t1.065184\n3.0\t0\n",
    "1000,5000000,12000000,2147483648,10\n2000,0,0,0,20\n",
    "1000,5000000,1000,-1,0,3000,4294967295,7,1\n",
    "time,operator,country,technology,quality,download,upload,rtt\n\
     0,telia,norway,3g,good,5000,1000,60\n5,telia,norway,3g,medium,2500.5,800,80\n",
    "{\"RepeatedBwPatternConfig\":{\"pattern\":[{\"StaticBwConfig\":{\"bw\":\"12Mbps\",\
     \"duration\":\"100ms\"}}],\"count\":0}}",
    "[StaticDelayConfig]\ndelay = \"10ms\"\nduration = \"1s\"\n",
    "Timestamp,NetworkMode,CellID,SNR,DL_bitrate,UL_bitrate,PINGAVG\n\
     2019.12.14_10.16.30,5G,12,9.5,100000,2000,41.5\n2019.12.14_10.16.30,5G,12,-,300000,4000,-\n\
     2019.12.14_10.16.32,LTE,13,4,50,-,-\n",
    "run_num,seq_num,abstractSignalStr,nrStatus,nr_ssSinr,Throughput,tower_id\n\
     1,1,4,CONNECTED,12.5,503.25,3\n1,2,4,CONNECTED,,0,3\n",
    "time,throughput,speed,latitude,longtitu,area_type\n\
     2023-06-01 12:00:00 CDT,100,1,2,3,urban\n2023-06-01 12:00:01 CDT,-1,1,2,3,urban\n\
     2023-06-01 12:00:02 CDT,20,1,2,3,urban\n",
    "timestamp,relative,rtt\n1700000000.000000001,0,40\n1700000000.5,0.5,-1\n1700000001,1,60\n",
    "timestamp,rtt,uplink,downlink\n1700000000000000000,40,15,25\n\
     1700000000010000000,-1,0,0\n1700000000020000000,44,15,25\n",
    "[1700000000.000000] 64 bytes from 1.1.1.1: icmp_seq=1 ttl=57 time=40.0 ms\n\
     [1700000000.500000] no answer yet for icmp_seq=2\n\
     [1700000001.000000] 64 bytes from 1.1.1.1: icmp_seq=3 ttl=57 time=41 ms\n",
    "{\"start\":{\"test_start\":{\"protocol\":\"TCP\",\"reverse\":1}},\"intervals\":[{\"streams\":[],\
     \"sum\":{\"start\":0,\"end\":1,\"bytes\":1,\"bits_per_second\":8e6,\"omitted\":false}}],\"end\":{}}",
    "####\nRun 1\n10.5,20,0,\n",
    "Time\tdirection\tframe\tsubF\tslot\t1stSym\tnSymbol\tcellId\tbwpId\trnti\ttbSize\tmcs\trank\trv\t\
     SINR(dB)\tCQI\tcorrupt\tTBler\n\
     0.4000\tDL\t40\t0\t0\t1\t12\t2\t0\t1\t1000\t20\t1\t0\t21.5\t13\t0\t0.01\n\
     0.4120\tDL\t41\t2\t0\t1\t12\t2\t0\t1\t2000\t27\t1\t0\t25\t15\t0\t0.01\n",
    "time_s,snr_db\n0,0\n0.02,10\n0.04,25\n",
];

fn try_all(texts: &[&str]) -> Result<(), TestCaseError> {
    for importer in IMPORTERS {
        let recordings: Vec<Recording<'_>> = texts
            .iter()
            .take(importer.most_files)
            .map(|text| Recording {
                name: "fuzzed",
                text,
            })
            .collect();
        for recording in &recordings {
            let _ = (importer.detect)(recording);
        }
        for gaps in [GapPolicy::Refuse, GapPolicy::Outage] {
            let options = ImportOptions {
                gaps,
                ..ImportOptions::default()
            };
            if let Err(error) = (importer.import)(&recordings, &options) {
                let has_place = matches!(
                    error,
                    TraceError::Recording {
                        line: 1..,
                        column: 1..,
                        ..
                    }
                );
                prop_assert!(has_place, "{}: {error:?}", importer.name);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_an_importer_panic(first: String, second: String) {
        try_all(&[&first])?;
        try_all(&[&first, &second])?;
    }

    #[test]
    fn no_table_like_text_makes_an_importer_panic(
        text in "[-0-9.,;\t\n a-zA-Z:_{}\"\u{e9}]{0,300}",
    ) {
        try_all(&[&text])?;
    }

    #[test]
    fn no_damage_to_a_valid_file_makes_an_importer_panic(
        example in prop::sample::select(EXAMPLES),
        other in prop::sample::select(EXAMPLES),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::option::of(any::<char>()), "[-0-9.eE\n,]{0,25}"),
            0..6,
        ),
    ) {
        let mut characters: Vec<char> = example.chars().collect();
        for (at, replaced, inserted) in edits {
            let at = at.index(characters.len() + 1);
            match replaced {
                Some(replacement) if at < characters.len() => characters[at] = replacement,
                _ => {
                    let rest = characters.split_off(at);
                    characters.extend(inserted.chars());
                    characters.extend(rest);
                }
            }
        }
        let text: String = characters.into_iter().collect();
        try_all(&[&text])?;
        try_all(&[&text, other])?;
        try_all(&[other, &text])?;
    }
}

#[test]
fn every_example_is_a_valid_file_of_some_format() {
    for text in EXAMPLES {
        let recording = Recording {
            name: "example",
            text,
        };
        let valid = IMPORTERS
            .iter()
            .filter(|importer| (importer.import)(&[recording], &ImportOptions::default()).is_ok());
        assert!(valid.count() > 0, "{text}");
    }
    // Two more need to be told what else to take: `table` its columns, `positions` a scenario.
    for importer in IMPORTERS {
        let mut valid = EXAMPLES.iter().filter(|text| {
            let name = "example";
            (importer.import)(&[Recording { name, text }], &ImportOptions::default()).is_ok()
        });
        let told = ["table", "positions"].contains(&importer.name);
        assert_eq!(valid.next().is_none(), told, "{}", importer.name);
    }
}

#[test]
fn a_mark_of_byte_order_and_ends_of_lines_of_another_system_change_nothing() {
    for text in EXAMPLES {
        let elsewhere = format!("{}{}", '\u{feff}', text.replace('\n', "\r\n"));
        for importer in IMPORTERS {
            let imported = |text: &str| {
                let name = "example";
                (importer.import)(&[Recording { name, text }], &ImportOptions::default())
            };
            if let Ok(expected) = imported(text) {
                let trace = imported(&elsewhere).unwrap();
                assert!(
                    trace.iter().eq(expected.iter()),
                    "{}: {text}",
                    importer.name
                );
            }
        }
    }
}

#[test]
fn names_of_importers_are_found_and_all_differ() {
    for importer in IMPORTERS {
        let found = importer_named(importer.name).map(|found| found.about);
        assert_eq!(found, Some(importer.about));
    }
    assert!(importer_named("none").is_none());
}

#[test]
fn one_line_and_empty_files_are_refused_with_their_place() {
    for importer in IMPORTERS {
        for text in ["", "\n", "\u{feff}"] {
            let recording = Recording {
                name: "empty",
                text,
            };
            let error = (importer.import)(&[recording], &ImportOptions::default()).unwrap_err();
            assert!(
                error.to_string().starts_with("empty:"),
                "{}: {error}",
                importer.name
            );
        }
    }
}
