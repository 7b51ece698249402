//! A checkpoint's files, and an adapter's, with bytes changed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use safetensors::SafeTensors;

use super::super::adapters::{merged_weights, rank_of, stored_parameters};
use super::super::text::TOKENIZER_FILE;
use super::super::weights::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};
use super::adapters::write_adapter;
use super::{EngineError, Model, copy_of_micro, micro, verify};
use crate::recipe::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE};

/// Changes that make other numbers, other names and other syntax.
pub(super) fn changes(byte: u8) -> impl Iterator<Item = u8> {
    let changed = [byte ^ 0xff, byte ^ 0x01, b'9', b'}'];
    changed.into_iter().filter(move |other| *other != byte)
}

#[test]
fn no_changed_byte_of_a_checkpoints_descriptions_does_more_than_be_refused() {
    // Every byte of the shape and of the head of the weights, and a sample of the tokenizer.
    for (name, most, every) in [
        (CONFIG_FILE, 2000, 1),
        (WEIGHTS_FILE, 600, 1),
        (TOKENIZER_FILE, 20_000, 101),
    ] {
        let copy = copy_of_micro();
        let path = copy.path().join(name);
        let whole = std::fs::read(&path).expect("read");
        let mut refused = 0;
        for place in (0..whole.len().min(most)).step_by(every) {
            for byte in changes(whole[place]) {
                let mut changed = whole.clone();
                changed[place] = byte;
                std::fs::write(&path, &changed).expect("written");
                match verify(copy.path()) {
                    Ok(_) => drop(Model::load_whole(copy.path())),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 0, "{name}");
    }
}

/// The files that the micro model's weights are divided over.
const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// The micro model in two files with an index.
fn micro_in_two_files() -> tempfile::TempDir {
    let copy = copy_of_micro();
    let single = copy.path().join(WEIGHTS_FILE);
    let bytes = std::fs::read(&single).expect("read");
    let tensors = SafeTensors::deserialize(&bytes).expect("whole").tensors();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut map = BTreeMap::new();
    for (name, part) in SHARDS.into_iter().zip([first, second]) {
        map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name)));
        let views = part.iter().map(|(tensor, view)| (tensor.clone(), view));
        let path = copy.path().join(name);
        safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &path).expect("written");
    }
    std::fs::remove_file(single).expect("removed");
    write_index(copy.path(), &map);
    copy
}

fn write_index(directory: &Path, map: &BTreeMap<String, &str>) {
    let text = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    std::fs::write(directory.join(INDEX_FILE), text.to_string()).expect("written");
}

/// Of so many changed places one is read in the ways that take longer as well.
const SLOW_EVERY: usize = 31;

/// Tries every change of the first bytes of a file; what is refused has to be refused with the file's name.
pub(super) fn try_changes(
    path: &Path,
    most: usize,
    mut read: impl FnMut(usize) -> Result<(), EngineError>,
) {
    let whole = std::fs::read(path).expect("read");
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.expect("a name");
    let (mut refused, mut accepted) = (0, 0);
    for place in 0..whole.len().min(most) {
        for byte in changes(whole[place]) {
            let mut changed = whole.clone();
            changed[place] = byte;
            std::fs::write(path, &changed).expect("written");
            match read(place) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    let told = error.to_string();
                    assert!(
                        told.contains(name),
                        "byte {place} of {name} is {byte}: {told}"
                    );
                    refused += 1;
                }
            }
        }
    }
    std::fs::write(path, &whole).expect("written");
    assert!(
        read(0).is_ok() && refused > accepted,
        "{name}: {refused} refused, {accepted} accepted"
    );
}

/// Tries a file that ends after each of some lengths, which has to be refused with its name.
pub(super) fn try_lengths(
    path: &Path,
    lengths: impl IntoIterator<Item = usize>,
    read: impl Fn() -> Result<(), EngineError>,
) {
    let whole = std::fs::read(path).expect("read");
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.expect("a name");
    for length in lengths {
        std::fs::write(path, &whole[..length]).expect("written");
        let told = read().expect_err("refused").to_string();
        assert!(told.contains(name), "{length} bytes of {name}: {told}");
    }
    std::fs::write(path, &whole).expect("written");
    assert!(read().is_ok(), "{name}");
}

/// Where the tensors of a safetensors file begin, and its length.
pub(super) fn head_bytes(path: &Path) -> (usize, usize) {
    let whole = std::fs::read(path).expect("read");
    let (length, _) = whole.split_first_chunk::<8>().expect("a length");
    let head = usize::try_from(u64::from_le_bytes(*length)).expect("short");
    (8 + head, whole.len())
}

#[test]
fn no_changed_byte_of_an_index_does_more_than_be_refused_by_its_name() {
    let copy = micro_in_two_files();
    try_changes(&copy.path().join(INDEX_FILE), usize::MAX, |place| {
        if place.is_multiple_of(SLOW_EVERY) {
            verify(copy.path())?;
        }
        Model::load_whole(copy.path()).map(drop)
    });
}

#[test]
fn an_index_of_nothing_of_too_much_or_of_what_is_no_file_is_refused_by_its_name() {
    let copy = micro_in_two_files();
    let index = copy.path().join(INDEX_FILE);
    let expect_refused = |file: &str, why: &str| {
        for error in [
            verify(copy.path()).expect_err("refused"),
            Model::load_whole(copy.path()).expect_err("refused"),
        ] {
            let told = error.to_string();
            assert!(told.contains(file) && told.contains(why), "{told}");
        }
    };
    let whole = std::fs::read(&index).expect("read");
    write_index(copy.path(), &BTreeMap::new());
    expect_refused(INDEX_FILE, "model.embed_tokens.weight");
    let deep = format!("{{\"metadata\": {}", "[".repeat(100_000));
    std::fs::write(&index, deep).expect("written");
    expect_refused(INDEX_FILE, "line 1");
    // A hole: it has a length and takes no memory before that was looked at.
    let file = OpenOptions::new().write(true).open(&index).expect("opens");
    file.set_len(1 << 40).expect("lengthened");
    expect_refused(INDEX_FILE, "1099511627776 bytes");
    std::fs::remove_file(&index).expect("removed");
    mkfifo(&index, Mode::S_IRWXU).expect("made");
    expect_refused(INDEX_FILE, "no file");
    std::fs::remove_file(&index).expect("removed");
    std::fs::write(&index, whole).expect("written");
    let shard = copy.path().join(SHARDS[1]);
    std::fs::remove_file(&shard).expect("removed");
    mkfifo(&shard, Mode::S_IRWXU).expect("made");
    expect_refused(SHARDS[1], "no file but a named pipe");
    std::fs::remove_file(&shard).expect("removed");
    expect_refused(SHARDS[1], "no such file");
}

/// The micro model and an adapter of it.
fn adapted_micro() -> (tempfile::TempDir, Model, PathBuf) {
    let root = tempfile::tempdir().expect("made");
    let model = Model::load_whole(micro()).expect("loads");
    let adapter = write_adapter(root.path(), model.config(), 4, 11);
    (root, model, adapter)
}

/// Reads an adapter in every way there is; now and then also into the weights, which takes longer.
fn read_adapter(model: &Model, adapter: &Path, place: usize) -> Result<(), EngineError> {
    model.load_adapters(&[adapter.to_owned()])?;
    rank_of(adapter)?;
    stored_parameters(adapter.join(ADAPTER_WEIGHTS_FILE))?;
    if place.is_multiple_of(SLOW_EVERY) {
        merged_weights(micro(), adapter)?;
    }
    Ok(())
}

#[test]
fn no_changed_byte_of_an_adapters_description_does_more_than_be_refused_by_its_name() {
    let (_root, model, adapter) = adapted_micro();
    try_changes(&adapter.join(ADAPTER_CONFIG_FILE), usize::MAX, |place| {
        read_adapter(&model, &adapter, place)
    });
}

#[test]
fn no_changed_byte_of_the_head_of_an_adapters_weights_does_more_than_be_refused_by_its_name() {
    let (_root, model, adapter) = adapted_micro();
    let path = adapter.join(ADAPTER_WEIGHTS_FILE);
    let (head, _) = head_bytes(&path);
    try_changes(&path, head, |place| read_adapter(&model, &adapter, place));
}

#[test]
fn an_adapter_of_too_much_or_of_what_is_no_file_is_refused_by_its_name() {
    for name in [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE] {
        let (_root, model, adapter) = adapted_micro();
        let path = adapter.join(name);
        let refused = || {
            let error = read_adapter(&model, &adapter, 0).expect_err("refused");
            let told = error.to_string();
            assert!(told.contains(name), "{told}");
        };
        let file = OpenOptions::new().write(true).open(&path).expect("opens");
        file.set_len(1 << 40).expect("lengthened");
        refused();
        std::fs::remove_file(&path).expect("removed");
        mkfifo(&path, Mode::S_IRWXU).expect("made");
        refused();
    }
    let (_root, model, adapter) = adapted_micro();
    let path = adapter.join(ADAPTER_WEIGHTS_FILE);
    // A head of more than any has, in a file that is as long.
    for claimed in [u64::MAX, 1 << 39, 100_000_001] {
        let mut file = OpenOptions::new().write(true).open(&path).expect("opens");
        file.set_len(1 << 40).expect("lengthened");
        file.write_all(&u64::to_le_bytes(claimed)).expect("written");
        let error = read_adapter(&model, &adapter, 0).expect_err("refused");
        assert!(error.to_string().contains("claims a header"), "{error}");
    }
}
