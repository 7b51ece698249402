//! Retrieval at the edge as processes: the stage has the documents, the index and the model, the driver asks.
//!
//! ```text
//! driver                                       stage
//! Deposit: the tokens of each chunk         -> pools the states of its tokens
//! Index                                     -> gathers the vectors; Index when it is done
//! Retrieve: how, and the query              -> pools the query, searches, puts the chunks in front of it,
//!                                              computes what it has not kept
//!                                           <- Token, Token..
//!                                           <- Retrieved: which chunks, and which an exact search finds
//! End                                       -> Books
//! ```
//!
//! Chunks stand in front of a query in the order of their numbers, not of their nearness, so that queries
//! about the same things begin alike.

mod driver;
mod index;
mod stage;

pub(super) use driver::drive;
pub(super) use stage::serve;
