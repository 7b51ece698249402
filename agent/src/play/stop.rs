//! The wish to end a plan early, from whoever has it first.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared by those who may stop a plan and the one who plays it.
#[derive(Debug, Clone, Default)]
pub struct StopWish {
    reason: Arc<Mutex<Option<String>>>,
}

impl StopWish {
    /// Asks for the end. The first reason stays.
    pub fn stop(&self, reason: &str) {
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert_with(|| reason.to_owned());
    }

    /// Why it is to end, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
