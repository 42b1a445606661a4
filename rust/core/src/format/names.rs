//! Names of an index's files.

/// Prefix of a manifest's name, before its generation.
const MANIFEST: &str = "MANIFEST-";
/// Digits of a generation: as many as the largest u64 has, so that names sort as their numbers do.
const DIGITS: usize = 20;
/// Extension of a file that has not got its name yet.
const TEMPORARY: &str = ".new";
/// Extension of all other files.
const EXTENSION: &str = ".lwd";
const LONGEST: usize = 128;

/// The file on which the writer's lock is taken. It is empty.
pub const LOCK: &str = "LOCK";

/// The manifest of a generation.
#[must_use]
pub fn manifest(generation: u64) -> String {
    format!("{MANIFEST}{generation:0DIGITS$}")
}

/// The name under which a manifest is written before it is renamed.
#[must_use]
pub fn temporary_manifest(generation: u64) -> String {
    manifest(generation) + TEMPORARY
}

/// The `counter`-th file that the writer of `generation` makes.
#[must_use]
pub fn data(kind: Data, generation: u64, counter: u32) -> String {
    format!("{}-{generation:0DIGITS$}-{counter:06}{EXTENSION}", kind.prefix())
}

/// Files that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// A trained codec.
    Codec,
    /// Documents.
    Segment,
    /// Deleted documents of one segment.
    Tombstones,
}

impl Data {
    const ALL: [Self; 3] = [Self::Codec, Self::Segment, Self::Tombstones];

    fn prefix(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Segment => "segment",
            Self::Tombstones => "tombstones",
        }
    }

    /// Whether `name` is one that a manifest may give to such a file: no path, no special name, nothing hidden.
    #[must_use]
    pub fn owns(self, name: &str) -> bool {
        let inner = name.strip_prefix(self.prefix()).and_then(|rest| rest.strip_prefix('-'));
        let inner = inner.and_then(|rest| rest.strip_suffix(EXTENSION));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        name.len() <= LONGEST && inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(plain))
    }
}

/// The generation whose manifest has this name.
#[must_use]
pub fn generation(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(MANIFEST)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Whether a file of this name is one that the index made, and so may remove.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let manifest = name.strip_suffix(TEMPORARY).unwrap_or(name);
    generation(manifest).is_some() || Data::ALL.into_iter().any(|kind| kind.owns(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_generations_do() {
        assert_eq!(generation(&manifest(7)), Some(7));
        assert_eq!(generation(&manifest(u64::MAX)), Some(u64::MAX));
        assert!(manifest(9) < manifest(10));
        for other in ["MANIFEST-", "MANIFEST-7", "MANIFEST-+0000000000000000007", "MANIFEST-99999999999999999999"] {
            assert_eq!(generation(other), None, "{other}");
        }
    }

    #[test]
    fn a_manifest_cannot_lead_out_of_the_folder() {
        assert!(Data::Segment.owns(&data(Data::Segment, 3, 1)));
        for hostile in [
            "",
            ".",
            "..",
            "segment-.lwd",
            "segment-../x.lwd",
            "../segment-1.lwd",
            "segment-a/b.lwd",
            "segment-a\\b.lwd",
            "segment-\0.lwd",
            "segment-1.lwd:stream",
            "/segment-1.lwd",
            "codec-1.lwd",
            "segment-é.lwd",
        ] {
            assert!(!Data::Segment.owns(hostile), "{hostile}");
        }
    }

    #[test]
    fn only_our_own_files_are_ours() {
        assert!(is_ours(&manifest(1)) && is_ours(&temporary_manifest(1)) && is_ours(&data(Data::Codec, 1, 0)));
        for other in ["LOCK", "notes.txt", "segment.lwd", "MANIFEST", "codec-1.lwd.new", "vectors.npy"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
