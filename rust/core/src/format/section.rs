//! The kinds of section.

/// What a section holds. `docs/format.md` says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum SectionKind {
    /// Manifest: JSON.
    Manifest = 1,
    /// Every file: the checksum of each block of all other sections, u64.
    BlockChecksums = 2,
    /// Codec: its parameters, JSON.
    CodecParameters = 16,
    /// Codec: rotation, f32 `[dim, depth]`.
    Rotation = 17,
    /// Codec: centroids, i8 `[centroids, depth]`.
    Centroids = 18,
    /// Codec: options of fixed dimensional encodings and what was measured, JSON.
    FdeParameters = 19,
    /// Codec: hyperplanes, f32 `[depth, repetitions · planes]`.
    FdeHyperplanes = 20,
    /// Codec: mean of rotated token vectors, f32 `[depth]`.
    FdeMean = 21,
    /// Segment: counts, JSON.
    SegmentParameters = 32,
    /// Segment: first token of each document, u64 `[documents + 1]`.
    DocumentOffsets = 33,
    /// Segment: u8 `[tokens, row_bytes]`.
    Codes = 34,
    /// Segment: gain of each token, bfloat16 `[tokens]`.
    Gains = 35,
    /// Segment: centroid of each token, u16 `[tokens]`.
    TokenCentroids = 36,
    /// Segment: where the cells of each document begin, u32 `[documents + 1]`.
    CellOffsets = 37,
    /// Segment: distinct centroids of each document, ascending, u16.
    Cells = 38,
    /// Segment: centroids that have a posting list, ascending, u16 `[lists]`.
    PostingCentroids = 39,
    /// Segment: documents in each posting list, u32 `[lists]`.
    PostingLengths = 40,
    /// Segment: where the bytes of each posting list begin, u64 `[lists + 1]`.
    PostingOffsets = 41,
    /// Segment: the bytes of the posting lists.
    Postings = 42,
    /// Segment: integer ids, i64 `[documents]`.
    IntegerIds = 43,
    /// Segment: where each string id begins, u64 `[documents + 1]`.
    StringIdOffsets = 44,
    /// Segment: string ids, UTF-8.
    StringIds = 45,
    /// Segment: hash table from id to ordinal, u32.
    IdTable = 46,
    /// Segment: a bit for each document: has it a text?
    TextPresent = 47,
    /// Segment: where each text begins, u64 `[documents + 1]`.
    TextOffsets = 48,
    /// Segment: texts, UTF-8.
    Texts = 49,
    /// Segment, metadata: where the metadata of each document begins, u64 `[documents + 1]`.
    MetadataOffsets = 50,
    /// Segment, metadata: metadata, JSON objects.
    Metadata = 51,
    /// Segment: a bit for each document: did its encoder cut the text?
    TextTruncated = 52,
    /// Segment: the token vectors as they were given, float16 `[tokens, dim]`.
    Vectors = 53,
    /// Segment: fixed dimensional encoding of each document, i8 `[documents, width]`.
    Fdes = 54,
    /// Segment: what a unit of each document's encoding stands for, f32 `[documents]`.
    FdeUnits = 55,
    /// Tombstones: ordinals of deleted documents, a Roaring bitmap.
    Tombstones = 64,
    /// Metadata: ordinals of the documents that they are of, ascending, u32.
    ChangedDocuments = 65,
}

impl SectionKind {
    /// Every kind.
    pub const ALL: [Self; 34] = [
        Self::Manifest,
        Self::BlockChecksums,
        Self::CodecParameters,
        Self::Rotation,
        Self::Centroids,
        Self::FdeParameters,
        Self::FdeHyperplanes,
        Self::FdeMean,
        Self::SegmentParameters,
        Self::DocumentOffsets,
        Self::Codes,
        Self::Gains,
        Self::TokenCentroids,
        Self::CellOffsets,
        Self::Cells,
        Self::PostingCentroids,
        Self::PostingLengths,
        Self::PostingOffsets,
        Self::Postings,
        Self::IntegerIds,
        Self::StringIdOffsets,
        Self::StringIds,
        Self::IdTable,
        Self::TextPresent,
        Self::TextOffsets,
        Self::Texts,
        Self::MetadataOffsets,
        Self::Metadata,
        Self::TextTruncated,
        Self::Vectors,
        Self::Fdes,
        Self::FdeUnits,
        Self::Tombstones,
        Self::ChangedDocuments,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u32 == number)
    }

    /// The name, as `docs/format.md` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::BlockChecksums => "block checksums",
            Self::CodecParameters => "codec parameters",
            Self::Rotation => "rotation",
            Self::Centroids => "centroids",
            Self::FdeParameters => "fde parameters",
            Self::FdeHyperplanes => "fde hyperplanes",
            Self::FdeMean => "fde mean",
            Self::SegmentParameters => "segment parameters",
            Self::DocumentOffsets => "document offsets",
            Self::Codes => "codes",
            Self::Gains => "gains",
            Self::TokenCentroids => "token centroids",
            Self::CellOffsets => "cell offsets",
            Self::Cells => "cells",
            Self::PostingCentroids => "posting centroids",
            Self::PostingLengths => "posting lengths",
            Self::PostingOffsets => "posting offsets",
            Self::Postings => "postings",
            Self::IntegerIds => "integer ids",
            Self::StringIdOffsets => "string id offsets",
            Self::StringIds => "string ids",
            Self::IdTable => "id table",
            Self::TextPresent => "text present",
            Self::TextOffsets => "text offsets",
            Self::Texts => "texts",
            Self::MetadataOffsets => "metadata offsets",
            Self::Metadata => "metadata",
            Self::TextTruncated => "text truncated",
            Self::Vectors => "vectors",
            Self::Fdes => "fdes",
            Self::FdeUnits => "fde units",
            Self::Tombstones => "tombstones",
            Self::ChangedDocuments => "changed documents",
        }
    }

    /// Whether a reader that does not know this kind may use the file all the same.
    #[must_use]
    pub fn optional(self) -> bool {
        let encodings =
            matches!(self, Self::FdeParameters | Self::FdeHyperplanes | Self::FdeMean | Self::Fdes | Self::FdeUnits);
        encodings || self.is_of_users()
    }

    /// Whether it holds what users keep beside token vectors.
    #[must_use]
    pub fn is_of_users(self) -> bool {
        matches!(
            self,
            Self::TextPresent
                | Self::TextOffsets
                | Self::Texts
                | Self::MetadataOffsets
                | Self::Metadata
                | Self::TextTruncated
        )
    }

    /// Whether it grows with the tokens, or with texts and metadata, so that only what a call touches of it is read.
    #[must_use]
    pub fn read_late(self) -> bool {
        matches!(self, Self::Gains | Self::TokenCentroids | Self::Cells | Self::Vectors | Self::Fdes | Self::FdeUnits)
            || self.checked_late()
    }

    /// Whether the checksum of the whole section, which is all that format 1 has, is left to `check`, because the section
    /// is large and no value in it can do harm.
    #[must_use]
    pub fn checked_late(self) -> bool {
        matches!(self, Self::Codes | Self::Postings | Self::Texts | Self::Metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (position, kind) in SectionKind::ALL.into_iter().enumerate() {
            assert_eq!(SectionKind::from_number(kind as u32), Some(kind));
            assert!(SectionKind::ALL[..position].iter().all(|other| other.name() != kind.name()));
        }
        assert_eq!(SectionKind::from_number(0), None);
    }
}
