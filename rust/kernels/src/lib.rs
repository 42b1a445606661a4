//! The SIMD kernels of latewood, each in a folder of its own with a scalar truth beside its faster twins.
//!
//! | kernel | folder | what it computes |
//! |---|---|---|
//! | [`centroid_scores()`], [`centroid_scores_of`], [`nearest_centroids`] | `centroid_scores/` | int8 query tokens × int8 centroids |
//! | [`flood()`] | `flood/` | centroid-row `MaxSim` over u8 rows |
//! | [`maxsim_codes`], [`token_scores`] | `codes/` | `MaxSim` on 1/2/4/8-bit codes |
//! | [`maxsim_promising`] | `promising/` | the same over the tokens that centroid rows promise most of |
//! | [`maxsim_float`] | `float/` | exact float `MaxSim` |
//! | [`row_products`] | `row_products/` | one long int8 row × many |
//! | [`rotate()`] | `rotate/` | vectors × matrix, the same bits everywhere |
//! | [`Similarities`] | `similarities/` | every pair's dot product of one item's float vectors |
//! | [`widely`] | `wide.rs` | nothing itself: compiles others' plain loops for each register width |
//!
//! Every entry point takes a [`Level`], which only detection can make, and dispatches once per call. The integer kernels
//! and the rotation give the same bits at every level; of the float kernel and the similarities the bound stands above each.
//! No function here reads or writes outside the slices it is given, whatever their contents; lengths are asserted.

mod aligned;
mod level;
mod lanes;
mod centroid_scores;
mod flood;
mod codes;
mod float;
mod promising;
mod rotate;
mod row_products;
mod similarities;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
#[cfg(test)]
mod testing;

pub use centroid_scores::{centroid_scores, centroid_scores_of, nearest_centroids};
pub use codes::{Bits, CodeQuery, DocumentCodes, MAX_LEVEL, maxsim_codes, token_scores, weighted_sum};
pub use float::{FloatLanes, FloatVectors, Precision, maxsim_float};
pub use flood::{RowTable, Span, flood};
pub use lanes::{LANES, QueryLanes};
pub use level::{Level, LevelUnavailable};
pub use promising::maxsim_promising;
pub use rotate::rotate;
pub use row_products::{MAX_ROW, row_products};
pub use similarities::Similarities;
pub use wide::{Wide, widely};

#[cfg(target_arch = "aarch64")]
use aarch64::prefetch;
#[cfg(target_arch = "x86_64")]
use x86::prefetch;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn prefetch<T>(_: *const T) {}
