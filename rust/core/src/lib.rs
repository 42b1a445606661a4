//! The engine of latewood: late-interaction retrieval and reranking on compressed token vectors.
//!
//! ```text
//! token vectors (─pooling→ fewer) ─codec→ codes ─writer→ immutable segment ─manifest→ snapshot
//! query token vectors ─prepare→ gather → prune → refine → score → top_k (→ rescore) → hits (→ explain)
//! ```
//!
//! One folder for each arrow, in this order. The crate knows nothing of Python.

#![deny(unsafe_code)]

mod error;
mod room;
pub mod ids;
pub mod parallel;
pub mod tokens;
pub mod maxsim;
pub mod pooling;
pub mod codec;
pub mod storage;
pub mod format;
pub mod index;
pub mod search;

pub use error::{Error, Result};
pub use room::room_for;
