//! Loads on servers that are no part of this program: against a server that misbehaves as it is asked
//! to, against a real one, and as a user runs them, over a link.

#![forbid(unsafe_code)]

#[cfg(test)]
mod harness;
#[cfg(test)]
mod llama_cpp;
#[cfg(test)]
mod llama_cpp_run;
#[cfg(test)]
mod loads;
#[cfg(test)]
mod run;
