//! `hexloop link -- COMMAND`, as a user runs it: as root and as an ordinary user.

#![forbid(unsafe_code)]

#[cfg(test)]
mod disturbed;
#[cfg(test)]
mod forwarder;
#[cfg(test)]
mod given;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod part;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod told;
#[cfg(test)]
mod verb;
