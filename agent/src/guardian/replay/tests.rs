//! Ledgers whose owner lives, is gone, and is gone while somebody holds them.

use super::*;
use crate::ledger::LedgerWriter;
use crate::process::ProcessIdentity;

#[test]
fn a_ledger_that_is_held_although_its_owner_is_gone_is_not_clean() {
    let state = tempfile::tempdir().unwrap();
    let path = LedgerWriter::choose(state.path(), "test").unwrap();
    let mut writer = LedgerWriter::create(&path, "test").unwrap();
    let file = state.path().join("file");
    writer.record(Undo::RemoveFile { path: file }).unwrap();
    // This process is its owner, and lives.
    assert_eq!(replay_if_abandoned(&path, 0).unwrap(), None);
    let text = fs::read_to_string(&path).unwrap();
    let ticks = ProcessIdentity::of_this_process().unwrap().start_time_ticks;
    let started = |ticks| format!("\"start_time_ticks\":{ticks}");
    let earlier = text.replace(&started(ticks), &started(ticks - 1));
    assert_ne!(earlier, text);
    // Now an earlier process of this number is; the lock stays, as a guardian's would.
    fs::write(&path, earlier).unwrap();
    let report = replay_if_abandoned(&path, 0).unwrap().unwrap();
    assert!(!report.is_clean());
    let told = &report.failed[0];
    assert!(told.contains("still held by"), "{told}");
    assert!(told.ends_with("`hexloop undo`"), "{told}");
    drop(writer);
    // Whatever other tests are starting may hold a copy for a moment.
    let deadline = clock::now() + 60_000_000_000;
    let report = replay_if_abandoned(&path, deadline).unwrap().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(!path.exists());
}
