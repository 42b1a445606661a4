//! How a manifest names a file.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub length: u64,
    /// The checksum in its header, which covers the checksums of all its sections: a file put in its place is noticed.
    #[serde(serialize_with = "write_hexadecimal", deserialize_with = "read_hexadecimal")]
    pub checksum: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes every field by reference")]
fn write_hexadecimal<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{value:016x}"))
}

fn read_hexadecimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let digits = String::deserialize(deserializer)?;
    u64::from_str_radix(&digits, 16).map_err(|_| serde::de::Error::custom("a checksum must be hexadecimal"))
}
