//! The job processes.
