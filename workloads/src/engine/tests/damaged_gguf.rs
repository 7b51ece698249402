//! GGUF files with bytes changed, and such as end too early.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tempfile::TempDir;

use super::blocks::model_with_tokenizer;
use super::damaged::changes;
use super::family::family;
use crate::engine::Model;
use crate::engine::gguf::{BlockType, import, quantise};
use crate::engine::train::noise::Noise;

/// Changed places beside those of the first fields.
const SAMPLE: usize = 400;

/// Magic, version, and how many tensors and entries there are.
const FIRST_FIELDS: usize = 24;

/// A way through a header (ggml's docs/gguf.md, "File Structure") that notes where its fields begin.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: BTreeSet<usize>,
}

impl Walk<'_> {
    fn number(&mut self, width: usize) -> usize {
        self.fields.insert(self.at);
        let mut word = [0; 8];
        word[..width].copy_from_slice(&self.bytes[self.at..self.at + width]);
        self.at += width;
        usize::try_from(u64::from_le_bytes(word)).expect("small")
    }

    fn string(&mut self) {
        let length = self.number(8);
        self.fields.insert(self.at);
        self.at += length;
    }

    fn value(&mut self, kind: usize) {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => return self.string(),
            9 => return self.list(),
            other => unreachable!("a value of type {other}"),
        };
        // Floats are not asked what they are.
        self.fields.insert(self.at);
        self.at += width;
    }

    /// Of a list the first two and the last are noted: all others are as those between.
    fn list(&mut self) {
        let (kind, count) = (self.number(4), self.number(8));
        for place in 0..count {
            let from = self.at;
            self.value(kind);
            if place >= 2 && place + 1 < count {
                drop(self.fields.split_off(&from));
            }
        }
    }
}

/// Length of the header, and where its fields and the tensors behind it begin.
fn fields(bytes: &[u8]) -> (usize, BTreeSet<usize>) {
    let mut walk = Walk {
        bytes,
        at: 0,
        fields: BTreeSet::new(),
    };
    let [_magic, _version, tensors, entries] = [4, 4, 8, 8].map(|width| walk.number(width));
    assert_eq!(walk.at, FIRST_FIELDS);
    for _ in 0..entries {
        walk.string();
        let kind = walk.number(4);
        walk.value(kind);
    }
    let mut offsets = Vec::new();
    for _ in 0..tensors {
        walk.string();
        for _ in 0..walk.number(4) {
            walk.number(8);
        }
        let _kind = walk.number(4);
        offsets.push(walk.number(8));
    }
    let (header, data) = (walk.at, walk.at.next_multiple_of(32));
    let mut fields = walk.fields;
    fields.extend(offsets.into_iter().map(|offset| data + offset));
    (header, fields)
}

/// A model as a GGUF file in a directory of its own, and what is in it.
fn written() -> (TempDir, PathBuf, Vec<u8>) {
    let (_, config) = family().swap_remove(0);
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let directory = root.path().join("written");
    quantise(original.path(), BlockType::Q8_0, &directory).expect("written");
    let whole = std::fs::read(directory.join("model.gguf")).expect("read");
    (root, directory, whole)
}

#[test]
fn a_gguf_file_that_ends_in_or_before_any_of_its_parts_is_refused_by_its_name() {
    let (root, directory, whole) = written();
    let file = directory.join("model.gguf");
    let (header, fields) = fields(&whole);
    let around = |at: usize| [at.saturating_sub(1), at, at + 1];
    let lengths: BTreeSet<usize> = fields.into_iter().flat_map(around).collect();
    assert!(lengths.len() > 300, "{}", lengths.len());
    let into = root.path().join("imported");
    for length in lengths.into_iter().chain([whole.len() - 40]) {
        std::fs::write(&file, &whole[..length]).expect("written");
        let loaded = Model::load_whole(&directory).map(drop);
        let mut refused = vec![loaded.expect_err("refused")];
        // Behind the header a tokenizer is made first, which takes longer.
        if length < header || length == whole.len() - 40 {
            refused.push(import(&file, None, &into).expect_err("refused"));
        }
        for error in refused {
            let told = error.to_string();
            assert!(told.contains("model.gguf"), "{length}: {told}");
        }
        assert!(!into.exists(), "{length}");
    }
}

#[test]
fn no_changed_byte_anywhere_in_a_gguf_header_does_more_than_be_refused_by_its_name() {
    let (root, directory, whole) = written();
    let file = directory.join("model.gguf");
    let (header, _) = fields(&whole);
    let drawn = Noise::new(6, "changed bytes of GGUF").numbers(SAMPLE);
    let drawn = drawn.into_iter().map(|number| number % header);
    let into = root.path().join("imported");
    let (mut refused, mut accepted) = (0, 0);
    for (turn, place) in (0..FIRST_FIELDS).chain(drawn).enumerate() {
        let byte = changes(whole[place]).nth(turn % 3).expect("three at least");
        let mut changed = whole.clone();
        changed[place] = byte;
        std::fs::write(&file, &changed).expect("written");
        match Model::load_whole(&directory) {
            Ok(_) => accepted += 1,
            Err(error) => {
                let told = error.to_string();
                assert!(
                    told.contains("model.gguf"),
                    "byte {place} is {byte}: {told}"
                );
                refused += 1;
            }
        }
        if import(&file, None, &into).is_ok() {
            std::fs::remove_dir_all(&into).expect("removed");
        }
        assert!(!into.exists(), "byte {place} is {byte}");
    }
    assert!(
        refused > 20 && accepted > 20,
        "{refused} refused, {accepted} accepted"
    );
}
