//! Numbers that no other index or writer has.

use crate::error::{Error, Result};

/// A number that no other index or writer has.
pub(crate) fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::io("draw a random number for", "latewood")(std::io::Error::other(error)))
}

pub(crate) fn new_identity() -> Result<String> {
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}
