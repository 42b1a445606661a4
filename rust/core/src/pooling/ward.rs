//! Ward's hierarchical clustering of one text's tokens, cut at a number of clusters.
//!
//! Nearest-neighbour chains (Murtagh 1983): follow nearest neighbours until two are each other's, merge these, go on from
//! what is left of the chain. Ward's linkage is reducible, so this finds the merges that a greedy search finds, in
//! `O(tokens²)`. Distances to a merged cluster come from the Lance-Williams formula, on squared distances in float64.
//!
//! What is measured, cut and counted is what sentence-transformers' `HierarchicalTokenPooling` does through scipy:
//! `1 - dot product`, held to 0..2, *is* the distance; the tree is cut at the lowest height that leaves at most as many
//! clusters as were asked for; clusters are numbered as scipy's `fcluster` meets them.

use super::minimum;
use super::similarities::Similarities;

/// The memory that one item after another is clustered in.
#[derive(Default)]
pub(super) struct Ward {
    /// Squared distances between live clusters, `[tokens, tokens]`, of which the first `live` rows and columns count;
    /// infinite on the diagonal.
    squares: Vec<f64>,
    /// Number of tokens in each live cluster.
    sizes: Vec<f64>,
    /// A token of each live cluster.
    tokens: Vec<u32>,
    chain: Vec<usize>,
    /// Squared distances of the cluster that a merge makes.
    merged: Vec<f64>,
    merges: Vec<Merge>,
    labels: Vec<u32>,
}

/// Two clusters become one: a token of each, and the height.
#[derive(Clone, Copy)]
struct Merge {
    tokens: [u32; 2],
    height: f64,
}

impl Ward {
    /// The cluster of each of `vectors`, `[tokens, dim]`. `clusters` is at least 1 and below the number of tokens.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the registers of its caller")]
    pub(super) fn labels<const LANES: usize>(
        &mut self,
        similarities: &mut Similarities,
        vectors: &[f32],
        dim: usize,
        clusters: usize,
    ) -> &[u32] {
        similarities.fill::<LANES>(vectors, dim, |_, from, to| to.copy_from_slice(from));
        let count = similarities.tokens();
        self.start(similarities);
        for live in (2..=count).rev() {
            let (x, y) = self.neighbours(live, count);
            self.merge(x, y, live, count);
        }
        // Stable, as scipy's is: equal heights stay in the order in which the chain met them.
        self.merges.sort_by(|a, b| a.height.total_cmp(&b.height));
        let tree = Tree::new(&self.merges, count);
        // Merges below or at this height are made; with ties there may be more of them than needed.
        let cut = self.merges[count - clusters - 1].height;
        let made = self.merges.partition_point(|merge| merge.height <= cut);
        tree.number(made, &mut self.labels);
        &self.labels
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the registers of its caller")]
    fn start(&mut self, similarities: &Similarities) {
        let count = similarities.tokens();
        self.squares.clear();
        for token in 0..count {
            self.squares.extend(similarities.row(token).iter().map(|&value| {
                // A product that overflowed tells nothing, and lies as far away as can be.
                let distance = f64::from(1.0 - value);
                let distance = if distance.is_nan() { 2.0 } else { distance.clamp(0.0, 2.0) };
                distance * distance
            }));
            self.squares[token * count + token] = f64::INFINITY;
        }
        self.sizes.clear();
        self.sizes.resize(count, 1.0);
        self.tokens.clear();
        self.tokens.extend(0..count as u32);
        self.chain.clear();
        self.merges.clear();
    }

    /// Two live clusters that are each other's nearest, taken off the chain's end.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the registers of its caller")]
    fn neighbours(&mut self, live: usize, stride: usize) -> (usize, usize) {
        if self.chain.is_empty() {
            self.chain.push(0);
        }
        loop {
            let last = self.chain[self.chain.len() - 1];
            let row = &self.squares[last * stride..][..live];
            let least = minimum(row);
            let before = self.chain.len().checked_sub(2).map(|at| self.chain[at]);
            // Of equally near ones the chain's own comes first, or it could go round for ever.
            if let Some(before) = before.filter(|&before| row[before] <= least) {
                self.chain.truncate(self.chain.len() - 2);
                return (before, last);
            }
            self.chain.push(row.iter().position(|&square| square <= least).unwrap_or(0));
        }
    }

    /// Merges `x` and `y` in the place of the smaller, and moves the last live cluster to the place of the other.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the registers of its caller")]
    fn merge(&mut self, x: usize, y: usize, live: usize, stride: usize) {
        let (x, y) = (x.min(y), x.max(y));
        let between = self.squares[x * stride + y];
        self.merges.push(Merge { tokens: [self.tokens[x], self.tokens[y]], height: between.sqrt() });
        let (size_x, size_y) = (self.sizes[x], self.sizes[y]);
        let (from_x, from_y) = (&self.squares[x * stride..][..live], &self.squares[y * stride..][..live]);
        self.merged.clear();
        self.merged.extend(self.sizes.iter().zip(from_x).zip(from_y).map(|((&size, &to_x), &to_y)| {
            ((size + size_x) * to_x + (size + size_y) * to_y - size * between) / (size + size_x + size_y)
        }));
        self.merged[x] = f64::INFINITY;
        let last = live - 1;
        self.merged[y] = self.merged[last];
        self.squares.copy_within(last * stride..last * stride + live, y * stride);
        self.squares[x * stride..][..live].copy_from_slice(&self.merged);
        for (row, &square) in self.squares.chunks_exact_mut(stride).zip(&self.merged[..last]) {
            row[y] = row[last];
            row[x] = square;
        }
        self.squares[y * stride + y] = f64::INFINITY;
        self.sizes[x] = size_x + size_y;
        self.sizes.swap_remove(y);
        self.tokens.swap_remove(y);
        for cluster in &mut self.chain {
            if *cluster == last {
                *cluster = y;
            }
        }
    }
}

/// The tree of merges by height: node `i` below `tokens` is a token, `tokens + i` what merge `i` made.
struct Tree {
    tokens: usize,
    children: Vec<[u32; 2]>,
}

impl Tree {
    fn new(merges: &[Merge], tokens: usize) -> Self {
        let mut parents: Vec<u32> = (0..(tokens + merges.len()) as u32).collect();
        let mut children = Vec::with_capacity(merges.len());
        for (merge, made) in merges.iter().zip(tokens as u32..) {
            let [a, b] = merge.tokens.map(|token| root(&mut parents, token));
            (parents[a as usize], parents[b as usize]) = (made, made);
            children.push([a.min(b), a.max(b)]);
        }
        Self { tokens, children }
    }

    /// Numbers the clusters that are left after `made` merges, and gives each token its cluster's number.
    ///
    /// The order is `fcluster`'s: depth first, of two children the older node first, and tokens that stay alone after
    /// what their sibling holds.
    fn number(&self, made: usize, labels: &mut Vec<u32>) {
        let mut numbers = vec![u32::MAX; self.tokens + self.children.len()];
        let mut next = 0;
        let mut stack = vec![(numbers.len() - 1, false)];
        while let Some((node, seen)) = stack.pop() {
            let whole = node < self.tokens + made;
            if whole {
                numbers[node] = next;
                next += 1;
                continue;
            }
            let children = self.children[node - self.tokens].map(|child| child as usize);
            let (alone, inner): (Vec<usize>, Vec<usize>) = children.iter().partition(|&&child| child < self.tokens);
            if seen {
                stack.extend(alone.into_iter().rev().map(|child| (child, true)));
            } else {
                stack.push((node, true));
                stack.extend(inner.into_iter().rev().map(|child| (child, false)));
            }
        }
        for (index, children) in self.children.iter().enumerate().rev() {
            let number = numbers[self.tokens + index];
            if number != u32::MAX {
                children.iter().for_each(|&child| numbers[child as usize] = number);
            }
        }
        labels.clear();
        labels.extend_from_slice(&numbers[..self.tokens]);
    }
}

fn root(parents: &mut [u32], node: u32) -> u32 {
    let mut top = node;
    while parents[top as usize] != top {
        top = parents[top as usize];
    }
    let mut at = node;
    while parents[at as usize] != at {
        at = std::mem::replace(&mut parents[at as usize], top);
    }
    top
}
