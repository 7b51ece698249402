//! Energy of whole runs and of commands, with boards and GPUs that stubs stand in for: what is
//! metered adds up, what is not has a reason, and nobody can take a stub for hardware.

#![forbid(unsafe_code)]

#[cfg(test)]
mod command;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod run;
#[cfg(test)]
mod stand_ins;
