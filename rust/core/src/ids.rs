//! Document ids: the user's own, integers or strings, one kind for each index.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A document's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A signed 64-bit integer.
    Int(i64),
    /// A UTF-8 string.
    Str(String),
}

/// An id that somebody else owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRef<'a> {
    /// A signed 64-bit integer.
    Int(i64),
    /// A UTF-8 string.
    Str(&'a str),
}

impl<'a> From<&'a Id> for IdRef<'a> {
    fn from(id: &'a Id) -> Self {
        match id {
            Id::Int(value) => Self::Int(*value),
            Id::Str(value) => Self::Str(value),
        }
    }
}

/// The kind of id that an index holds, fixed by its first document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// Signed 64-bit integers.
    Int,
    /// UTF-8 strings.
    Str,
}

/// What to do about an id that the index does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Fail, and name it.
    #[default]
    Error,
    /// Pass over it.
    Skip,
}

impl Id {
    /// The kind of this id.
    #[must_use]
    pub fn kind(&self) -> IdKind {
        match self {
            Self::Int(_) => IdKind::Int,
            Self::Str(_) => IdKind::Str,
        }
    }
}

impl IdRef<'_> {
    /// The kind of this id.
    #[must_use]
    pub fn kind(self) -> IdKind {
        match self {
            Self::Int(_) => IdKind::Int,
            Self::Str(_) => IdKind::Str,
        }
    }

    /// Refuses an id of another kind than the index's; an index without documents has none yet.
    pub(crate) fn check_kind(self, expected: Option<IdKind>) -> Result<()> {
        match expected.filter(|&kind| kind != self.kind()) {
            Some(kind) => Err(Error::IdKind { id: self.to_string(), got: self.kind().name(), expected: kind.name() }),
            None => Ok(()),
        }
    }
}

impl IdKind {
    /// The kind in words, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "integers",
            Self::Str => "strings",
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        IdRef::from(self).fmt(formatter)
    }
}

impl fmt::Display for IdRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(formatter, "{value}"),
            Self::Str(value) => write!(formatter, "{value:?}"),
        }
    }
}
