//! How many token vectors one task takes.

/// Token vectors of this depth that one task rotates, assigns or encodes: enough for the kernels, few enough to stay in L2 and
/// to be done soon: the work for a vector grows faster than its depth.
pub(super) fn block_tokens(depth: usize) -> usize {
    (1024 * 128 / depth).clamp(32, 1024)
}
