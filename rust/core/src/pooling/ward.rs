//! Ward's hierarchical clustering of one text's tokens, cut at a number of clusters.
//!
//! Nearest-neighbour chains (Murtagh 1983): follow nearest neighbours until two are each other's, merge these, go on from
//! what is left of the chain. Ward's linkage is reducible, so this finds the merges that a greedy search finds, in
//! `O(tokens²)`. Distances to a merged cluster come from the Lance-Williams formula, on squared distances. float32 does
//! for them: the dot products that they come from are no better, and of 2,100 poolings of real texts none changed.
//!
//! What is measured, cut and counted is what sentence-transformers' `HierarchicalTokenPooling` does through scipy:
//! `1 - dot product`, held to 0..2, *is* the distance; the tree is cut at the lowest height that leaves at most as many
//! clusters as were asked for; clusters are numbered as scipy's `fcluster` meets them.

use latewood_kernels::{Level, Similarities};

use super::reductions::{first_at_most, minimum};

/// The memory that one item after another is clustered in.
///
/// A cluster is known by its first token. Of a merge only the new cluster's row of distances is written; other rows learn
/// of it when they are next read ([`Ward::refresh`]). Writing its column at once would touch every row, each in another
/// cache line, for each merge.
#[derive(Default)]
pub(super) struct Ward {
    /// Row length: `tokens` rounded up, so that no row has a rest that takes no vector instructions.
    stride: usize,
    /// Squared distances between clusters, `[tokens, stride]`; infinite to itself, to what is merged away, and beyond.
    squares: Vec<f32>,
    /// Number of tokens in each cluster.
    sizes: Vec<f32>,
    /// Number of merges that a cluster's row knows of; `None` before the row is first filled in.
    known: Vec<Option<usize>>,
    /// The merge that made a cluster, or `usize::MAX` for a token.
    made_by: Vec<usize>,
    /// Clusters of more than one token.
    grown: Vec<usize>,
    /// Infinite for what is merged away, else 0.
    gone: Vec<f32>,
    chain: Vec<usize>,
    merges: Vec<Merge>,
    labels: Vec<u32>,
}

/// Two clusters become one, known by the first: their first tokens in order, and the height.
#[derive(Clone, Copy)]
struct Merge {
    tokens: [u32; 2],
    height: f32,
}

impl Ward {
    /// The cluster of each of `vectors`, `[tokens, dim]`. `clusters` is at least 1 and below the number of tokens.
    #[inline(always)]
    pub(super) fn labels(
        &mut self,
        similarities: &mut Similarities,
        level: Level,
        vectors: &[f32],
        dim: usize,
        clusters: usize,
    ) -> &[u32] {
        similarities.vectors(vectors.len() / dim, dim).copy_from_slice(vectors);
        similarities.multiply(level);
        let count = similarities.tokens();
        self.start(count);
        for _ in 1..count {
            let (x, y) = self.neighbours(similarities);
            self.merge(x.min(y), x.max(y));
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

    fn start(&mut self, tokens: usize) {
        self.stride = tokens.next_multiple_of(32);
        self.squares.clear();
        self.squares.resize(tokens * self.stride, f32::INFINITY);
        self.sizes.clear();
        self.sizes.resize(self.stride, 1.0);
        self.known.clear();
        self.known.resize(tokens, None);
        self.made_by.clear();
        self.made_by.resize(tokens, usize::MAX);
        self.grown.clear();
        self.gone.clear();
        self.gone.resize(tokens, 0.0);
        self.chain.clear();
        self.merges.clear();
    }

    /// Brings a cluster's row up to date.
    #[inline(always)]
    fn refresh(&mut self, cluster: usize, similarities: &Similarities) {
        let start = cluster * self.stride;
        if let Some(known) = self.known[cluster] {
            for (merge, made) in self.merges[known..].iter().zip(known..) {
                let [x, y] = merge.tokens.map(|token| token as usize);
                // Where `x` grew again, or was merged away, a later merge says so.
                if self.made_by[x] == made {
                    self.squares[start + x] = self.squares[x * self.stride + cluster];
                }
                self.squares[start + y] = f32::INFINITY;
            }
        } else {
            let row = &mut self.squares[start..][..self.stride];
            for ((square, &value), &gone) in row.iter_mut().zip(similarities.row(cluster)).zip(&self.gone) {
                // A product that overflowed tells nothing, and lies as far away as can be.
                let distance = 1.0 - value;
                let distance = if distance.is_nan() { 2.0 } else { distance.clamp(0.0, 2.0) };
                *square = distance * distance + gone;
            }
            row[cluster] = f32::INFINITY;
            for &grown in &self.grown {
                self.squares[start + grown] = self.squares[grown * self.stride + cluster];
            }
        }
        self.known[cluster] = Some(self.merges.len());
    }

    /// Two clusters that are each other's nearest, taken off the chain's end, with rows up to date.
    #[inline(always)]
    fn neighbours(&mut self, similarities: &Similarities) -> (usize, usize) {
        if self.chain.is_empty() {
            // The first token's cluster is always known by it.
            self.chain.push(0);
        }
        loop {
            let last = self.chain[self.chain.len() - 1];
            self.refresh(last, similarities);
            let row = &self.squares[last * self.stride..][..self.stride];
            let least = minimum(row);
            let before = self.chain.len().checked_sub(2).map(|at| self.chain[at]);
            // Of equally near ones the chain's own comes first, or it could go round for ever.
            if let Some(before) = before.filter(|&before| row[before] <= least) {
                self.chain.truncate(self.chain.len() - 2);
                self.refresh(before, similarities);
                return (before, last);
            }
            self.chain.push(first_at_most(row, least));
        }
    }

    /// Merges `y` into `x`, which comes before it.
    #[inline(always)]
    fn merge(&mut self, x: usize, y: usize) {
        let (head, tail) = self.squares.split_at_mut(y * self.stride);
        let (row_x, row_y) = (&mut head[x * self.stride..][..self.stride], &tail[..self.stride]);
        let between = row_x[y];
        let (size_x, size_y) = (self.sizes[x], self.sizes[y]);
        for ((to_x, &to_y), &size) in row_x.iter_mut().zip(row_y).zip(&self.sizes) {
            let sum = (size + size_x) * *to_x + (size + size_y) * to_y - size * between;
            *to_x = sum / (size + size_x + size_y);
        }
        row_x[y] = f32::INFINITY;
        self.gone[y] = f32::INFINITY;
        self.grown.retain(|&grown| grown != x && grown != y);
        self.grown.push(x);
        self.sizes[x] = size_x + size_y;
        self.made_by[x] = self.merges.len();
        self.merges.push(Merge { tokens: [x as u32, y as u32], height: between });
        self.known[x] = Some(self.merges.len());
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
                for &child in children {
                    numbers[child as usize] = number;
                }
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
