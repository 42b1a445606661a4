//! Counts and sizes of an index.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::segment::Segment;
use super::snapshot::Snapshot;
use crate::codec::{Anisotropy, CodecOptions, CodecParameters, FdeOptions};
use crate::format::section::SectionKind;
use crate::format::{Container, KeptVectors};
use crate::ids::IdKind;

/// Counts and sizes of one generation of an index.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Version of the format that the generation was written in.
    pub format_version: u16,
    /// Number of the commit.
    pub generation: u64,
    /// Documents that are not deleted.
    pub documents: u64,
    /// Documents that are deleted and still take room; `compact` removes them.
    pub deleted_documents: u64,
    /// Documents that are not deleted and whose texts their encoder cut.
    pub truncated_documents: u64,
    /// Token vectors, those of deleted documents included.
    pub tokens: u64,
    /// Segments.
    pub segments: usize,
    /// What each of them holds, in the order of their documents.
    pub by_segment: Vec<SegmentInfo>,
    /// Components of a token vector.
    pub dim: usize,
    /// Kind of the ids, from the first document on.
    pub id_kind: Option<IdKind>,
    /// How the codec is, or will be, trained.
    pub codec_options: CodecOptions,
    /// How token vectors are kept beside their codes, if they are.
    pub keep_vectors: Option<KeptVectors>,
    /// The codec, from the first token vector on.
    pub codec: Option<CodecParameters>,
    /// Fixed dimensional encodings, if the index was created with them.
    pub fde: Option<FdeInfo>,
    /// How many times more the centroids leave over of the token vectors that are stored than of those that they were trained
    /// on, as energy; `None` without centroids, and where segments or codec are from before that was kept.
    pub drift: Option<f64>,
    /// What is remembered of the encoder.
    pub encoder: Option<Value>,
    /// Bytes of all files of this generation but its manifest.
    pub bytes: u64,
    /// `bytes` without texts and metadata, for each token vector; `None` without one.
    pub bytes_per_token: Option<f64>,
    /// `bytes` by what they hold.
    pub bytes_by_section: BTreeMap<&'static str, u64>,
}

/// What one segment holds.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentInfo {
    /// Documents that are not deleted.
    pub documents: u64,
    /// Documents that are deleted and still take room.
    pub deleted_documents: u64,
    /// Token vectors, those of deleted documents included.
    pub tokens: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

impl SegmentInfo {
    fn new(segment: &Segment) -> Self {
        let tombstones = segment.entry().tombstones.as_ref();
        let files = containers(segment).flat_map(Container::sizes).map(|(_, bytes)| bytes);
        Self {
            documents: u64::from(segment.live_documents()),
            deleted_documents: u64::from(segment.documents() - segment.live_documents()),
            tokens: segment.tokens(),
            bytes: files.chain(tombstones.map(|tombstones| tombstones.file.length)).sum(),
        }
    }
}

fn containers(segment: &Segment) -> impl Iterator<Item = &Container> {
    std::iter::once(segment.container()).chain(segment.layers().iter().map(|layer| layer.container()))
}

/// What an index says of its fixed dimensional encodings.
#[derive(Clone, Debug, Serialize)]
pub struct FdeInfo {
    /// What the user chose.
    pub options: FdeOptions,
    /// Bytes of a document's encoding, without those of its unit.
    pub bytes_per_document: usize,
    /// How the token vectors lie that the codec was trained on, from then on.
    pub anisotropy: Option<Anisotropy>,
    /// Whether encodings tell such documents apart, from then on.
    pub safe: Option<bool>,
    /// Why that is so, in words.
    pub reason: String,
}

impl FdeInfo {
    fn new(snapshot: &Snapshot) -> Option<Self> {
        let options = snapshot.fde_options()?;
        let trained = snapshot.codec.as_ref().and_then(|codec| codec.fde());
        let anisotropy = trained.map(|fde| fde.parameters().anisotropy);
        let danger = anisotropy.map(|anisotropy| anisotropy.danger(options.centred));
        let reason = match &danger {
            None => "no centroids have been trained yet: until then every document is scored".to_owned(),
            Some(None) => "the token vectors spread over the partitions and over their directions".to_owned(),
            Some(Some(danger)) => danger.clone(),
        };
        Some(Self {
            options: options.clone(),
            bytes_per_document: options.width(snapshot.dim()),
            anisotropy,
            safe: danger.map(|danger| danger.is_none()),
            reason,
        })
    }
}

impl Info {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut sections: BTreeMap<&'static str, u64> = BTreeMap::new();
        let files = snapshot.segments.iter().flat_map(|segment| containers(segment));
        for (name, bytes) in files.flat_map(Container::sizes) {
            *sections.entry(name).or_default() += bytes;
        }
        let manifest = snapshot.manifest();
        let tombstones = manifest.segments.iter().filter_map(|segment| segment.tombstones.as_ref());
        let tombstones: u64 = tombstones.map(|tombstones| tombstones.file.length).sum();
        if tombstones > 0 {
            sections.insert(SectionKind::Tombstones.name(), tombstones);
        }
        if let Some(codec) = &manifest.codec {
            sections.insert("codec", codec.length);
        }
        let bytes: u64 = sections.values().sum();
        let users: u64 = SectionKind::ALL
            .into_iter()
            .filter(|kind| kind.is_of_users())
            .filter_map(|kind| sections.get(kind.name()))
            .sum();
        let tokens = snapshot.tokens();
        Self {
            format_version: snapshot.format_version(),
            generation: snapshot.generation,
            documents: snapshot.live_documents(),
            deleted_documents: snapshot.documents() - snapshot.live_documents(),
            truncated_documents: snapshot.segments.iter().map(|segment| segment.live_truncated()).sum(),
            tokens,
            segments: snapshot.segments.len(),
            by_segment: snapshot.segments.iter().map(|segment| SegmentInfo::new(segment)).collect(),
            dim: snapshot.dim(),
            id_kind: snapshot.id_kind(),
            codec_options: snapshot.codec_options().clone(),
            keep_vectors: snapshot.keep_vectors(),
            codec: snapshot.codec.as_deref().map(|codec| codec.parameters().clone()),
            fde: FdeInfo::new(snapshot),
            drift: drift(snapshot),
            encoder: snapshot.encoder().cloned(),
            bytes,
            bytes_per_token: (tokens > 0).then(|| (bytes - users) as f64 / tokens as f64),
            bytes_by_section: sections,
        }
    }
}

fn drift(snapshot: &Snapshot) -> Option<f64> {
    let codec = snapshot.codec.as_ref().filter(|codec| codec.centroid_count() > 0)?;
    let trained = codec.parameters().mean_square_gain.filter(|&trained| trained > 0.0)?;
    let segments = snapshot.segments.iter().filter(|segment| segment.tokens() > 0);
    let energy =
        segments.map(|segment| Some(segment.mean_square_gain()? * segment.tokens() as f64)).sum::<Option<f64>>()?;
    let tokens = snapshot.tokens();
    (tokens > 0).then(|| energy / tokens as f64 / trained)
}
