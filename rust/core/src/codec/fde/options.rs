//! What may be chosen about encodings.

use latewood_kernels::MAX_ROW;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Hyperplanes of one repetition, at most: an empty partition is filled by a look at every other.
const MAX_PLANES: usize = 8;
/// What the user may choose about fixed dimensional encodings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdeOptions {
    /// How often the space is divided anew.
    pub repetitions: usize,
    /// Hyperplanes that divide it each time, into `2^planes` partitions.
    pub planes: usize,
    /// Components that each repetition keeps of a token vector; `None` as many as it takes for each to be kept once.
    pub components: Option<usize>,
    /// Whether the direction of the collection's mean is kept apart.
    pub centred: bool,
}

impl Default for FdeOptions {
    fn default() -> Self {
        Self { repetitions: 16, planes: 3, components: None, centred: true }
    }
}

impl FdeOptions {
    /// Components of an encoding of token vectors of `dim` components.
    #[must_use]
    pub fn width(&self, dim: usize) -> usize {
        self.repetitions.saturating_mul(self.block(dim)).saturating_mul(self.partitions())
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option.
    pub fn validate(&self, dim: usize) -> Result<()> {
        let Self { repetitions, planes, components, .. } = *self;
        if repetitions == 0 || components == Some(0) {
            return Err(Error::invalid("repetitions and components of fde must be at least 1"));
        }
        if planes > MAX_PLANES {
            return Err(Error::invalid(format!("planes of fde must lie between 0 and {MAX_PLANES}, not {planes}")));
        }
        let width = self.width(dim);
        if width > MAX_ROW {
            return Err(Error::invalid(format!(
                "{repetitions} repetitions of 2^{planes} partitions with {} components make {width} bytes a document, and at \
                 most {MAX_ROW} are possible; ask for fewer of one of them",
                self.block(dim)
            )));
        }
        Ok(())
    }

    /// Components of a token vector that a repetition keeps.
    pub(super) fn kept(&self, dim: usize) -> usize {
        self.components.unwrap_or_else(|| dim.div_ceil(self.repetitions.max(1))).min(dim)
    }

    /// Components of a partition.
    pub(super) fn block(&self, dim: usize) -> usize {
        self.kept(dim) + usize::from(self.centred)
    }

    pub(super) fn partitions(&self) -> usize {
        1 << self.planes.min(MAX_PLANES)
    }
}
