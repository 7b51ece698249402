//! Every fault at every step: whatever is killed or fails, wherever, the machine is put back, and
//! the way to reach it stays open. `shaping_*` are about `hexloop link apply`, `run_*` about
//! `hexloop run`.
//!
//! Every point that a process reaches is struck once per round; `HEXLOOP_FAULT_ROUNDS` sets how
//! many different sets of victims (of 7) each point gets: 1 without it.

#![forbid(unsafe_code)]

#[cfg(test)]
mod run;
#[cfg(test)]
mod run_disturbed;
#[cfg(test)]
mod run_failed;
#[cfg(test)]
mod run_killed;
#[cfg(test)]
mod shaping;
#[cfg(test)]
mod shaping_disturbed;
#[cfg(test)]
mod shaping_failed;
#[cfg(test)]
mod shaping_held;
#[cfg(test)]
mod shaping_killed;
#[cfg(test)]
mod shaping_refused;
