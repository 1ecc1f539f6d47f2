//! What is kept of ranked lists, and their metrics.

use super::layout::PerformanceLayout;
use super::moments::Moments;
use crate::stats::metric::MetricValue;
use crate::stats::performance::ranking::{ndcg, precision, reciprocal_rank};
use crate::stats::varint::{self, Reader};

#[derive(Debug, Clone, PartialEq)]
pub struct RankingOutcomes {
    /// By k of the layout: normalised discounted cumulative gain and precision of each list.
    at: Vec<[Moments; 2]>,
    reciprocal_rank: Moments,
}

impl RankingOutcomes {
    pub(super) fn new(layout: &PerformanceLayout) -> Self {
        Self { at: vec![Default::default(); layout.top_k().len()], reciprocal_rank: Moments::default() }
    }

    pub(super) fn change(&mut self, layout: &PerformanceLayout, relevance: &[f32], times: i64) {
        for ([gain, share], k) in self.at.iter_mut().zip(layout.top_k()) {
            gain.add(ndcg(relevance, *k as usize), times);
            share.add(precision(relevance, *k as usize), times);
        }
        self.reciprocal_rank.add(reciprocal_rank(relevance), times);
    }

    fn moments(&self) -> impl Iterator<Item = &Moments> {
        self.at.iter().flatten().chain([&self.reciprocal_rank])
    }

    fn moments_mut(&mut self) -> impl Iterator<Item = &mut Moments> {
        self.at.iter_mut().flatten().chain([&mut self.reciprocal_rank])
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.moments_mut().zip(other.moments()).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.at.capacity() * size_of::<[Moments; 2]>() + self.moments().map(Moments::allocated_bytes).sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.at.len() as u64, out);
        self.moments().for_each(|moments| moments.encode(out));
    }

    pub(super) fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let mut read = Self::new(layout);
        if reader.varint()? != read.at.len() as u64 {
            return None;
        }
        for moments in read.moments_mut() {
            *moments = Moments::decode(reader)?;
        }
        Some(read)
    }

    pub(super) fn metrics(&self, layout: &PerformanceLayout) -> Vec<(String, MetricValue)> {
        let value = |moments: &Moments| moments.metric(0.0, 1.0);
        let mut metrics = vec![("mrr".to_string(), value(&self.reciprocal_rank))];
        for ([gain, share], k) in self.at.iter().zip(layout.top_k()) {
            metrics.push((format!("ndcg@{k}"), value(gain)));
            metrics.push((format!("precision@{k}"), value(share)));
        }
        metrics
    }
}
