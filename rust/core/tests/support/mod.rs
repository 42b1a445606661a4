//! What the tests of the durable half share: small documents, and everything that a reader can see of an index.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use latewood_core::Result;
use latewood_core::codec::{CodecKind, CodecOptions, FdeOptions};
use latewood_core::ids::Id;
use latewood_core::index::{Batch, Filter, Index, IndexOptions, KeptVectors, Location, Snapshot, Writer};
use latewood_core::parallel::Execution;
use latewood_core::storage::{Blob, Lock, MemoryStorage, NewFile, Storage};
use latewood_core::tokens::TokenMatrix;

/// Components of a token vector: not a multiple of 32, so that codes are padded.
pub const DIM: usize = 20;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: Id,
    pub vectors: Vec<f32>,
    pub text: Option<String>,
    pub metadata: Option<String>,
    pub truncated: bool,
}

/// What a reader sees of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub codes: Vec<u8>,
    pub gains: Vec<u16>,
    pub centroids: Vec<u16>,
    pub vectors: Option<Vec<u16>>,
    /// The encoding in a fixed number of dimensions, and the bits of its unit.
    pub fde: Option<(Vec<i8>, u32)>,
    pub text: Option<String>,
    pub metadata: Option<String>,
    pub truncated: bool,
}

/// What a reader sees of an index, documents in their order.
pub type Content = Vec<(Id, Stored)>;

/// Numbers that look random and are the same everywhere (SplitMix64).
pub fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// A document of `tokens` unit vectors; `seed` chooses them, and whether it has a text, metadata and a cut text.
pub fn document(id: Id, tokens: usize, seed: u64) -> Document {
    let mut numbers = random(seed).map(|number| (number >> 40) as f32 / (1 << 24) as f32 - 0.5);
    let mut vectors: Vec<f32> = numbers.by_ref().take(tokens * DIM).collect();
    for vector in vectors.chunks_mut(DIM) {
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in vector.iter_mut() {
            *value /= norm;
        }
    }
    Document {
        text: (!seed.is_multiple_of(3)).then(|| format!("text {seed} of {id}, «ü»")),
        metadata: (!seed.is_multiple_of(4))
            .then(|| format!("{{\"seed\": {seed}, \"even\": {}}}", seed.is_multiple_of(2))),
        truncated: seed.is_multiple_of(5),
        id,
        vectors,
    }
}

pub fn string(id: &str) -> Id {
    Id::Str(id.to_owned())
}

/// Options with few centroids, which are trained once there are `train_after` token vectors, and with small encodings.
pub fn options(kind: CodecKind, train_after: u64) -> IndexOptions {
    let centroids = (kind == CodecKind::Residual).then_some(8);
    let fde = FdeOptions { repetitions: 3, planes: 2, components: None, centred: true };
    IndexOptions {
        dim: DIM,
        codec: CodecOptions { kind, bits: 4, centroids, seed: 7, train_after },
        keep_vectors: None,
        fde: (kind == CodecKind::Residual).then_some(fde),
        encoder: None,
        trained: None,
    }
}

/// The same, with the vectors beside their codes.
pub fn keeping(options: IndexOptions) -> IndexOptions {
    IndexOptions { keep_vectors: Some(KeptVectors::Float16), ..options }
}

pub fn execution() -> Execution {
    Execution::new(Some(1)).expect("a thread")
}

/// Adds documents as one batch.
pub fn add(writer: &mut Writer, documents: &[Document], upsert: bool) -> Result<()> {
    let vectors: Vec<f32> = documents.iter().flat_map(|document| document.vectors.iter().copied()).collect();
    let mut offsets = vec![0_i64];
    for document in documents {
        offsets.push(offsets[offsets.len() - 1] + (document.vectors.len() / DIM) as i64);
    }
    let batch = Batch {
        ids: documents.iter().map(|document| document.id.clone()).collect(),
        tokens: TokenMatrix::new(&vectors, &offsets, DIM, |item| item.to_string())?,
        texts: Some(documents.iter().map(|document| document.text.clone()).collect()),
        metadata: Some(documents.iter().map(|document| document.metadata.clone()).collect()),
        truncated: Some(documents.iter().map(|document| document.truncated).collect()),
        last: false,
    };
    writer.add(batch, upsert, &execution())
}

/// As [`try_content`], of an index that nobody has damaged.
pub fn content(snapshot: &Snapshot) -> Content {
    try_content(snapshot).expect("sound")
}

/// Everything of the living documents; on the way every accessor is called for every document.
pub fn try_content(snapshot: &Snapshot) -> Result<Content> {
    let mut content = Vec::new();
    for segment in &snapshot.segments {
        for ordinal in 0..segment.documents() {
            let codes = segment.document(ordinal)?;
            assert_eq!(segment.token_range(ordinal).len(), codes.gains.len());
            let stored = Stored {
                codes: codes.codes.to_vec(),
                gains: codes.gains.to_vec(),
                centroids: codes.centroids.to_vec(),
                vectors: segment.vectors(ordinal)?.map(|vectors| vectors.iter().map(|x| x.to_bits()).collect()),
                fde: segment.fdes(ordinal..ordinal + 1)?.map(|(row, unit)| (row.to_vec(), unit[0].to_bits())),
                text: segment.text(ordinal)?,
                metadata: segment.metadata(ordinal)?,
                truncated: segment.is_truncated(ordinal),
            };
            if !segment.tombstones().contains(ordinal) {
                content.push((segment.id(ordinal), stored));
            }
        }
    }
    Ok(content)
}

/// What the ways to find documents lead to: by id, by cell, by metadata.
pub fn found(snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<u32>>> {
    let mut found = BTreeMap::new();
    let filter = Filter::from_json(r#"{"even": true, "seed": {"gte": 4}}"#)?;
    for (position, segment) in snapshot.segments.iter().enumerate() {
        for centroid in (0..64).chain([u16::MAX]) {
            let mut list = Vec::new();
            segment.postings(centroid, &mut list)?;
            assert_eq!(list.len(), segment.posting_length(centroid) as usize);
            assert!(list.iter().all(|&ordinal| ordinal < segment.documents()));
            found.insert(format!("{position} cell {centroid}"), list);
        }
        found.insert(format!("{position} filter"), segment.matching(&filter, &execution())?.into_iter().collect());
        let ids = (0..segment.documents()).filter_map(|ordinal| segment.find(&segment.id(ordinal)));
        found.insert(format!("{position} ids"), ids.collect());
    }
    Ok(found)
}

/// Checks that every way to a document leads there, and that `check` has nothing to say.
pub fn assert_sound(index: &Index) {
    assert_eq!(index.check(&execution()).expect("readable"), Vec::<String>::new());
    let snapshot = index.snapshot();
    for (position, segment) in snapshot.segments.iter().enumerate() {
        for ordinal in (0..segment.documents()).filter(|&ordinal| !segment.tombstones().contains(ordinal)) {
            let at = Location { segment: position as u32, ordinal };
            assert_eq!(snapshot.find(&segment.id(ordinal)), Some(at));
        }
    }
}

/// When a [`Watched`] folder calls its watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A file is about to be opened.
    Opening,
    /// A manifest is about to get its name.
    Publishing,
    /// It has its name.
    Published,
}

/// A folder in which somebody else can act at the moments of [`Moment`].
#[derive(Clone)]
pub struct Watched {
    pub files: MemoryStorage,
    /// Whether its locks work.
    pub locks: bool,
    pub watcher: Arc<dyn Fn(Moment) + Send + Sync>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watched")
    }
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {
    fn stands(&self) -> bool {
        true
    }
}

impl Storage for Watched {
    fn place(&self) -> &Path {
        self.files.place()
    }

    fn list(&self) -> Result<Vec<String>> {
        self.files.list()
    }

    fn open(&self, name: &str, execution: &Execution) -> Result<Blob> {
        (self.watcher)(Moment::Opening);
        self.files.open(name, execution)
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>> {
        self.files.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.files.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        (self.watcher)(Moment::Publishing);
        let renamed = self.files.rename_new(from, to);
        (self.watcher)(Moment::Published);
        renamed
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.files.remove(name)
    }

    fn sync_folder(&self) -> Result<()> {
        self.files.sync_folder()
    }

    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>> {
        if self.locks { self.files.try_lock(name) } else { Ok(Some(Box::new(NoLock))) }
    }
}
