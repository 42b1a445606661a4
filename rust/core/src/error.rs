//! Every way an operation can fail, as a variant that names the thing, the place and the remedy.

use std::path::PathBuf;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each variant maps to one Python exception of `latewood.errors`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vector holds NaN or an infinity.
    #[error("{thing} holds {value} at token {token}, dimension {dimension}; every value must be finite")]
    NotFinite {
        /// The document or query, as the caller knows it.
        thing: String,
        /// Token vector in that document or query.
        token: usize,
        /// Component of that token vector.
        dimension: usize,
        /// The offending value.
        value: f32,
    },
    /// Vectors do not have the index's dimension.
    #[error("{thing} has vectors of dimension {got}, the index {expected}; encode it with the encoder of this index")]
    Dimension {
        /// The document or query.
        thing: String,
        /// Dimension that was given.
        got: usize,
        /// Dimension of the index.
        expected: usize,
    },
    /// Arguments that contradict each other or are out of range.
    #[error("{0}")]
    Invalid(String),
    /// An id occurs twice in one batch, or among the candidates of one query.
    #[error("id {id} occurs more than once in {whole} (positions {first} and {second}); ids must be unique")]
    DuplicateId {
        /// The id.
        id: String,
        /// What it is twice in.
        whole: String,
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// `add` met an id that the index already has.
    #[error("id {id} is already in the index; use upsert to replace it, or delete it first")]
    IdExists {
        /// The id.
        id: String,
    },
    /// An id that the index does not have.
    #[error("id {id} is not in the index{place}; {}", unknown_id_remedy(place))]
    UnknownId {
        /// The id.
        id: String,
        /// Which of several it was that could be passed over, with a leading space or comma; empty where none can be.
        place: String,
    },
    /// Integer and string ids were mixed.
    #[error("id {id} cannot be in this index, whose ids are {expected}, not {got}; pass ids of that kind")]
    IdKind {
        /// The id.
        id: String,
        /// Kind that was given.
        got: &'static str,
        /// Kind of the index.
        expected: &'static str,
    },
    /// No index at this path.
    #[error("{path} holds no latewood index; create one with Index.create")]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
    },
    /// An index stands where a new one should be created.
    #[error(
        "{path} already holds a latewood index; open it with Index.open or exist_ok=True, put another in its place with overwrite=True, or choose another path"
    )]
    AlreadyExists {
        /// The folder.
        path: PathBuf,
    },
    /// A file's bytes contradict its checksum or its own counts.
    #[error("{file} is corrupt in section {section}: {problem}; restore the file from a copy, or rebuild the index")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The section of the file.
        section: String,
        /// What was found.
        problem: String,
    },
    /// The newest commit cannot be used, and an older one is not taken for it without being asked for.
    #[error("generation {generation} of the index cannot be used: {source}{}", remedy(*.sound))]
    Damaged {
        /// The newest generation.
        generation: u64,
        /// The newest generation that can be used.
        sound: Option<u64>,
        /// What is wrong with the newest one.
        source: Box<Self>,
    },
    /// The folder does not hold the index any more that was opened, or an older state of it.
    #[error("{path} holds another index than the one that was opened: {problem}; open it again with Index.open")]
    Replaced {
        /// The folder.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// Another writer has committed meanwhile, which locks should have kept from happening.
    #[error(
        "another writer committed generation {generation} in {path} first, where the lock of this one did not keep it \
         out; nothing of this commit is in the index: add its changes again with a new writer"
    )]
    Conflict {
        /// The index's folder.
        path: PathBuf,
        /// The generation that both wanted to be.
        generation: u64,
    },
    /// A writer was used in another process than the one that opened it.
    #[error(
        "this writer belongs to process {owner}, and this is its forked child {child}; open a writer of its own here"
    )]
    Forked {
        /// The process that opened it.
        owner: u32,
        /// This process.
        child: u32,
    },
    /// A file was written by a newer version of the format than this build reads.
    #[error(
        "{file} needs a reader of format version {needed}; this latewood reads up to version {supported}: update latewood"
    )]
    FormatVersion {
        /// The file.
        file: PathBuf,
        /// Version that the file asks for.
        needed: u16,
        /// Newest version of this build.
        supported: u16,
    },
    /// Another writer holds the index.
    #[error("another writer holds {path}; an index has one writer at a time: commit or close the other one")]
    Locked {
        /// The index's folder.
        path: PathBuf,
    },
    /// The writer failed earlier and must not be used again.
    #[error("this writer failed at {stage} and takes no more changes; the last commit stands: open a new writer")]
    WriterPoisoned {
        /// What it was doing when it failed.
        stage: String,
    },
    /// The operation was interrupted by the caller (Ctrl-C).
    #[error("interrupted; nothing was committed")]
    Interrupted,
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}; {}", io_remedy(source))]
    Io {
        /// What was attempted, as a verb: "write", "sync".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

fn remedy(sound: Option<u64>) -> String {
    sound.map_or_else(String::new, |sound| {
        format!(
            ". Generation {sound} is whole: Index.open(path, generation={sound}) reads it, and Index.recover(path) goes \
             back to it for good"
        )
    })
}

fn unknown_id_remedy(place: &str) -> &'static str {
    if place.is_empty() {
        "check the id, or refresh an index that another one has written to"
    } else {
        "pass missing=\"skip\" to leave such ids out"
    }
}

fn io_remedy(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::NotFound => "see that the path is right and that nothing else removes it",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "give this user the permission, or choose another path"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room and try again: the last commit stands"
        }
        ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => "choose another path",
        _ => "try again once the system allows it: the last commit stands",
    }
}

impl Error {
    /// An [`Error::Io`] for `action` on `path`, for use in `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Corrupt`] naming `file`, `section` and what was found.
    pub fn corrupt(file: impl Into<PathBuf>, section: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), section: section.into(), problem: problem.into() }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}
