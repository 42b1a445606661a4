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

/// The file that says which generation was committed last, so that the loss of its manifest is noticed.
pub const NEWEST: &str = "NEWEST";

/// The name under which `writer` writes [`NEWEST`] before it is renamed.
#[must_use]
pub fn temporary_newest(writer: u64) -> String {
    format!("{NEWEST}.{writer:016x}{TEMPORARY}")
}

/// The manifest of a generation.
#[must_use]
pub fn manifest(generation: u64) -> String {
    format!("{MANIFEST}{generation:0DIGITS$}")
}

/// The name under which `writer` writes a manifest before it is renamed.
#[must_use]
pub fn temporary_manifest(generation: u64, writer: u64) -> String {
    format!("{}.{writer:016x}{TEMPORARY}", manifest(generation))
}

/// The `counter`-th file that `writer` makes for `generation`. No other writer gives a file this name, not even one that
/// works at the same time where locks do nothing.
#[must_use]
pub fn data(kind: Data, generation: u64, counter: u32, writer: u64) -> String {
    format!("{}-{generation:0DIGITS$}-{counter:06}-{writer:016x}{EXTENSION}", kind.prefix())
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
    /// Changed metadata of documents of one segment.
    Metadata,
}

impl Data {
    const ALL: [Self; 4] = [Self::Codec, Self::Segment, Self::Tombstones, Self::Metadata];

    fn prefix(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Segment => "segment",
            Self::Tombstones => "tombstones",
            Self::Metadata => "metadata",
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

/// The generation for which a writer made the file of this name; `None` for files that are not ours.
#[must_use]
pub fn made_for(name: &str) -> Option<u64> {
    if let Some(temporary) = name.strip_suffix(TEMPORARY) {
        // Format 1 had no writer in the name.
        let lasting = temporary.split_once('.').map_or(temporary, |(lasting, _)| lasting);
        return if lasting == NEWEST { Some(0) } else { generation(lasting) };
    }
    let data = Data::ALL.into_iter().find(|kind| kind.owns(name));
    match data.and_then(|kind| name.strip_prefix(kind.prefix())).and_then(|rest| rest.strip_prefix('-')) {
        Some(rest) => {
            rest.get(..DIGITS).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
        }
        None => generation(name),
    }
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
        assert!(Data::Segment.owns(&data(Data::Segment, 3, 1, 7)));
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
    fn a_file_tells_for_which_generation_it_was_made() {
        let before_writers = "segment-00000000000000000009-000001.lwd";
        for name in [&manifest(9), &temporary_manifest(9, 3), &data(Data::Codec, 9, 0, u64::MAX), before_writers] {
            assert_eq!(made_for(name), Some(9), "{name}");
        }
        assert_eq!(made_for("MANIFEST-00000000000000000009.new"), Some(9));
        assert_eq!(made_for(&temporary_newest(3)), Some(0));
        for other in
            ["LOCK", "NEWEST", "notes.txt", "segment.lwd", "MANIFEST", "codec-1.lwd.new", "codec-é.lwd", "a.new"]
        {
            assert_eq!(made_for(other), None, "{other}");
        }
    }
}
