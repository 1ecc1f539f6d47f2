//! A sum of small trees, each grown on what those before it left unexplained.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::tree::{DEPTH, Growth, LEAVES, NODES, Split, Tree};

/// Most trees, as many as LightGBM's default.
pub const MOST_TREES: usize = 100;
const RATE: f64 = 0.1;
/// Inputs that one tree may split on; of more, each tree has its own choice.
const INPUTS_OF_TREE: usize = 64;
/// Share of the rows that a leaf holds at least, and the fewest rows.
const LEAF_SHARE: f64 = 0.001;
const FEWEST_IN_LEAF: f64 = 20.0;

/// Absolute and squared error as sums of trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Boosting {
    /// Mean absolute and squared error.
    base: [f64; 2],
    /// What the leaves' values are in units of.
    scale: [f64; 2],
    trees: Vec<Tree>,
}

/// Grows a [`Boosting`] tree by tree.
pub struct Grower<'a> {
    codes: &'a [Vec<u8>],
    ordered: &'a [bool],
    rows: Vec<u32>,
    residuals: Vec<[f64; 2]>,
    grown: Boosting,
}

impl<'a> Grower<'a> {
    /// `rows` are those to learn from, at least one; `losses` holds both losses of every row there is.
    pub fn new(codes: &'a [Vec<u8>], ordered: &'a [bool], rows: Vec<u32>, losses: &[[f64; 2]]) -> Self {
        let count = rows.len() as f64;
        let mean = |of: &dyn Fn([f64; 2]) -> f64| rows.iter().map(|row| of(losses[*row as usize])).sum::<f64>() / count;
        let base = [0, 1].map(|loss| mean(&|losses| losses[loss]));
        let deviation = |loss: usize| mean(&|losses| (losses[loss] - base[loss]).powi(2)).sqrt();
        let scale = [0, 1].map(deviation).map(|scale| if scale > 0.0 { scale } else { 1.0 });
        let standardised = |of: &[f64; 2]| [(of[0] - base[0]) / scale[0], (of[1] - base[1]) / scale[1]];
        let residuals = losses.iter().map(standardised).collect();
        Self { codes, ordered, rows, residuals, grown: Boosting { base, scale, trees: Vec::new() } }
    }

    /// One more tree.
    pub fn grow(&mut self) -> &Tree {
        let number = self.grown.trees.len() as u64;
        let mut inputs: Vec<u16> = (0..self.codes.len() as u16).collect();
        if inputs.len() > INPUTS_OF_TREE {
            inputs.sort_by_key(|input| scramble(number << 32 | u64::from(*input)));
            inputs.truncate(INPUTS_OF_TREE);
            inputs.sort_unstable();
        }
        // Half of the rows, another half each time: trees that differ err less together (Friedman, 2002).
        let in_half = |row: &u32| scramble(number << 32 | 1 << 31 | u64::from(*row)) & 1 == 0;
        let half: Vec<u32> = self.rows.iter().copied().filter(in_half).collect();
        let rows = if half.is_empty() { &self.rows } else { &half };
        let tree = Tree::grow(&Growth {
            codes: self.codes,
            ordered: self.ordered,
            inputs: &inputs,
            rows,
            residuals: &self.residuals,
            fewest_in_leaf: (rows.len() as f64 * LEAF_SHARE).max(FEWEST_IN_LEAF),
            rate: RATE,
        });
        for (row, residuals) in self.residuals.iter_mut().enumerate() {
            let leaf = tree.leaves[tree.leaf(|input| self.codes[usize::from(input)][row])];
            residuals[0] -= f64::from(leaf[0]);
            residuals[1] -= f64::from(leaf[1]);
        }
        self.grown.trees.push(tree);
        &self.grown.trees[self.grown.trees.len() - 1]
    }

    /// Sum over these rows of the squares of what is left of the absolute error, in units of its deviation.
    pub fn left_of(&self, rows: &[u32]) -> f64 {
        rows.iter().map(|row| self.residuals[*row as usize][0].powi(2)).sum()
    }

    /// The first trees alone.
    pub fn finish(mut self, trees: usize) -> Boosting {
        self.grown.trees.truncate(trees);
        self.grown
    }
}

/// Bits without pattern (the finaliser of splitmix64).
fn scramble(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Boosting {
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Both expectations of each row: not negative, and the squared error at least the square of the absolute one.
    pub fn expected(&self, codes: &[Vec<u8>], rows: usize) -> Vec<[f64; 2]> {
        // Row by row beside each other: a row's bins are in the cache for all of its trees.
        let inputs = codes.len();
        let mut bins = vec![0u8; rows * inputs];
        for (input, codes) in codes.iter().enumerate() {
            for (row, code) in codes.iter().enumerate() {
                bins[row * inputs + input] = *code;
            }
        }
        let mut sums = vec![[0.0f64; 2]; rows];
        for tree in &self.trees {
            for (bins, sum) in bins.chunks_exact(inputs.max(1)).zip(&mut sums) {
                let leaf = tree.leaves[tree.leaf(|input| bins[usize::from(input)])];
                sum[0] += f64::from(leaf[0]);
                sum[1] += f64::from(leaf[1]);
            }
        }
        for sum in &mut sums {
            let absolute = (self.base[0] + self.scale[0] * sum[0]).max(0.0);
            *sum = [absolute, (self.base[1] + self.scale[1] * sum[1]).max(absolute * absolute)];
        }
        sums
    }

    /// Whether its trees split on inputs that there are.
    pub(super) fn in_order(&self, inputs: usize) -> bool {
        let numbers = self.base.iter().chain(&self.scale).all(|number| number.is_finite());
        let leaves = self.trees.iter().flat_map(|tree| tree.leaves.iter().flatten()).all(|value| value.is_finite());
        let splits = self.trees.iter().flat_map(|tree| &tree.splits);
        numbers && leaves && splits.into_iter().all(|split| usize::from(split.input) < inputs)
    }
}

/// The trees as one text: bytes of splits and leaves, base64.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    base: [f64; 2],
    scale: [f64; 2],
    depth: usize,
    trees: String,
}

const SPLIT_BYTES: usize = 10;
const LEAF_BYTES: usize = 8;
const TREE_BYTES: usize = NODES * SPLIT_BYTES + LEAVES * LEAF_BYTES;

impl From<Boosting> for Stored {
    fn from(boosting: Boosting) -> Self {
        let mut bytes = Vec::with_capacity(boosting.trees.len() * TREE_BYTES);
        for tree in &boosting.trees {
            for split in &tree.splits {
                bytes.extend(split.input.to_le_bytes());
                bytes.extend(split.left.to_le_bytes());
            }
            bytes.extend(tree.leaves.iter().flatten().flat_map(|value| value.to_le_bytes()));
        }
        Self { base: boosting.base, scale: boosting.scale, depth: DEPTH, trees: STANDARD.encode(bytes) }
    }
}

impl TryFrom<Stored> for Boosting {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let bytes = STANDARD.decode(&stored.trees).map_err(|error| format!("the trees of the direct loss: {error}"))?;
        if stored.depth != DEPTH || bytes.len() % TREE_BYTES != 0 || bytes.len() > MOST_TREES * TREE_BYTES {
            return Err("the trees of the direct loss are of another shape".into());
        }
        let trees = bytes.chunks_exact(TREE_BYTES).filter_map(tree_of).collect();
        Ok(Self { base: stored.base, scale: stored.scale, trees })
    }
}

fn tree_of(bytes: &[u8]) -> Option<Tree> {
    let (splits, leaves) = bytes.split_at_checked(NODES * SPLIT_BYTES)?;
    let split = |bytes: &[u8]| {
        let (input, left) = bytes.split_at_checked(2)?;
        Some(Split {
            input: u16::from_le_bytes(input.try_into().ok()?),
            left: u64::from_le_bytes(left.try_into().ok()?),
        })
    };
    let leaf = |bytes: &[u8]| {
        let (absolute, squared) = bytes.split_at_checked(4)?;
        Some([f32::from_le_bytes(absolute.try_into().ok()?), f32::from_le_bytes(squared.try_into().ok()?)])
    };
    Some(Tree {
        splits: splits.chunks_exact(SPLIT_BYTES).map(split).collect::<Option<_>>()?,
        leaves: leaves.chunks_exact(LEAF_BYTES).map(leaf).collect::<Option<_>>()?,
    })
}
