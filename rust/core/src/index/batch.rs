//! Documents on their way into an index.

use super::columns::{Column, Value};
use crate::ids::Id;
use crate::tokens::TokenMatrix;

/// Documents to be added.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The id of each document.
    pub ids: Vec<Id>,
    /// The token vectors of each document; one without any is kept and never found.
    pub tokens: TokenMatrix<'a>,
    /// The text of each document.
    pub texts: Option<Vec<Option<String>>>,
    /// The metadata of each document, a JSON object.
    pub metadata: Option<Vec<Option<String>>>,
    /// Whether the encoder cut the text of each document.
    pub truncated: Option<Vec<bool>>,
    /// Whether nothing more comes before the commit, so that a codec can be trained on these vectors as they are.
    pub last: bool,
}

impl Batch<'_> {
    /// What a document has in a column; `None` in that of ids of another kind.
    pub(super) fn value(&self, column: Column, item: usize) -> Option<Value<'_>> {
        Some(match (column, &self.ids[item]) {
            (Column::IntegerIds, Id::Int(id)) => Value::Integer(*id),
            (Column::StringIds, Id::Str(id)) => Value::String(id.as_bytes()),
            (Column::IntegerIds | Column::StringIds, _) => return None,
            (Column::TextPresent, _) => Value::Flag(text(self.texts.as_ref(), item).is_some()),
            (Column::Texts, _) => Value::String(text(self.texts.as_ref(), item).unwrap_or_default().as_bytes()),
            (Column::Metadata, _) => Value::String(text(self.metadata.as_ref(), item).unwrap_or_default().as_bytes()),
            (Column::TextTruncated, _) => Value::Flag(self.truncated.as_ref().is_some_and(|truncated| truncated[item])),
        })
    }
}

fn text(texts: Option<&Vec<Option<String>>>, item: usize) -> Option<&str> {
    texts.and_then(|texts| texts[item].as_deref())
}
