//! Statistics of two categorical profiles.
//!
//! Categories that a profile does not tell apart are counted as one: those beyond the categories that a layout keeps
//! (on both sides), or unseen ones beyond those that a window keeps (of the window only). What the statistic of the
//! rows can be then is the bound; without such a rest all of these are exact.

use std::cell::OnceCell;

use super::{MetricValue, shares, with_missing};
use crate::stats::categorical_profile::CategoricalProfile;
use crate::stats::chi_square::{self, ChiSquare};
use crate::stats::evidently;
use crate::stats::hellinger;
use crate::stats::jensen_shannon;
use crate::stats::kullback_leibler;
use crate::stats::layout::CategoricalLayout;
use crate::stats::metric::BinShare;
use crate::stats::null::Inflation;
use crate::stats::null::drift::{self, Inflations};
use crate::stats::null::homogeneity::{self, Homogeneity};
use crate::stats::proportions;
use crate::stats::psi::{self, SCOUTER_FLOOR, SHARE_FLOOR};
use crate::stats::total_variation;

/// Categories shown with a bar of their own.
const SHOWN_CATEGORIES: usize = 12;

type Statistic = for<'a, 'b> fn(&'a CategoricalPair<'b>) -> Option<MetricValue>;

/// One row a statistic; see [`super`].
pub(super) const STATISTICS: &[(&str, Statistic)] = &[
    ("drift", |pair| pair.shape_p().map(|p| MetricValue::exact(drift::strength(p)).with_p(p))),
    ("psi", |pair| Some(pair.psi(&pair.p, &pair.q, SHARE_FLOOR).with_p(pair.shape_p()))),
    ("psi_eps1e6", |pair| Some(pair.psi(&pair.p, &pair.q, 1e-6).with_p(pair.shape_p()))),
    ("psi_missbin", |pair| pair.psi_missing()),
    ("js", |pair| {
        let distance = jensen_shannon::jensen_shannon_distance(&pair.p, &pair.q, 2.0);
        Some(pair.up_to_apart(distance, |distance, mass| (distance * distance + mass).sqrt()))
    }),
    ("hellinger", |pair| {
        let distance = hellinger::hellinger_distance(&pair.p, &pair.q);
        Some(pair.up_to_apart(distance, |distance, mass| (distance * distance + mass).sqrt()))
    }),
    ("tv", |pair| {
        let distance = total_variation::total_variation_distance(&pair.p, &pair.q);
        Some(pair.up_to_apart(distance, |distance, mass| distance + mass))
    }),
    ("linf", |pair| pair.largest_difference()),
    ("kl_cur_ref", |pair| pair.kl_window_by_reference()),
    ("kl_ref_cur", |pair| pair.kl_reference_by_window()),
    ("chi_square", |pair| {
        let test = pair.test()?;
        let statistic = test.statistic;
        Some(
            MetricValue::within(statistic, statistic, statistic + pair.hidden_chi_square())
                .with_p(pair.widest().widen(test.p_value)),
        )
    }),
    ("chi_square_yates", |pair| pair.yates()),
    ("chi_square_gof", |pair| pair.goodness_of_fit()),
    ("cramers_v", |pair| {
        let test = pair.test()?;
        let of = |statistic: f64| chi_square::cramers_v(statistic, pair.n_reference, pair.n);
        let (least, most) = (of(test.statistic), of(test.statistic + pair.hidden_chi_square()));
        Some(MetricValue::within(least, least, most).with_p(pair.widest().widen(test.p_value)))
    }),
    ("compat.evidently.psi", |pair| {
        let (p, q) = (evidently::fill_zeros(&pair.p), evidently::fill_zeros(&pair.q));
        pair.whole(psi::population_stability_index(&p, &q, 0.0))
    }),
    ("compat.evidently.js", |pair| {
        pair.whole(jensen_shannon::jensen_shannon_distance(&pair.p, &pair.q, std::f64::consts::E))
    }),
    ("compat.evidently.chi_square", |pair| pair.goodness_of_fit()),
    ("compat.nannyml.js", |pair| pair.whole(jensen_shannon::jensen_shannon_distance(&pair.p, &pair.q, 2.0))),
    ("compat.nannyml.hellinger", |pair| pair.whole(hellinger::hellinger_distance(&pair.p, &pair.q))),
    ("compat.nannyml.linf", |pair| pair.whole(total_variation::largest_share_difference(&pair.p, &pair.q))),
    ("compat.nannyml.chi_square", |pair| pair.yates()),
    ("compat.scouter.psi", |pair| {
        let listed = pair.layout.categories().len();
        let index = psi::population_stability_index(&pair.p[..listed], &pair.q[..listed], SCOUTER_FLOOR);
        (!pair.layout.truncated()).then(|| MetricValue::exact(index).with_p(pair.shape_p()))
    }),
    ("unseen_rate", |pair| {
        let unseen = (!pair.layout.truncated()).then(|| pair.of_window.unseen_mass())?;
        let p_value = unseen_p_value(pair.of_reference, pair.n_reference, unseen, pair.n);
        Some(MetricValue::exact(unseen as f64 / pair.n as f64).with_p(p_value))
    }),
    ("unseen_categories", |pair| {
        let estimate = (!pair.layout.truncated()).then(|| pair.of_window.unseen_categories())? as f64;
        let kept = pair.of_window.unseen().len() as f64;
        Some(match pair.of_window.unseen_rest() {
            0 => MetricValue::exact(estimate),
            rest => MetricValue::within(estimate, kept + 1.0, kept + rest as f64),
        })
    }),
    ("lost_categories", |pair| {
        let listed = pair.layout.categories().len();
        let both = pair.reference[..listed].iter().zip(&pair.window);
        let lost = both.filter(|(before, now)| **before > 0 && **now == 0).count() as f64;
        // Each row of the rest may be a category of its own, and gone.
        Some(MetricValue::within(lost, lost, lost + pair.of_reference.unseen_mass() as f64))
    }),
];

/// Reference and window under one layout, neither empty: counts and shares of both per category that either could
/// have. Where categories are hidden, the last entry is their rest.
pub(super) struct CategoricalPair<'a> {
    layout: &'a CategoricalLayout,
    of_reference: &'a CategoricalProfile,
    of_window: &'a CategoricalProfile,
    n_reference: u64,
    n: u64,
    labels: Vec<String>,
    reference: Vec<u64>,
    window: Vec<u64>,
    p: Vec<f64>,
    q: Vec<f64>,
    /// Unseen categories that share the last entry, beyond the first of them; 0 where all are listed.
    merged: u64,
    test: OnceCell<Option<ChiSquare>>,
    inflations: Inflations,
    shape: OnceCell<Option<Homogeneity>>,
}

impl<'a> CategoricalPair<'a> {
    pub fn new(
        layout: &'a CategoricalLayout,
        of_reference: &'a CategoricalProfile,
        of_window: &'a CategoricalProfile,
        inflations: Inflations,
    ) -> Self {
        let mut pair = Self {
            layout,
            of_reference,
            of_window,
            n_reference: of_reference.n(),
            n: of_window.n(),
            labels: layout.categories().to_vec(),
            reference: of_reference.counts(),
            window: of_window.counts(),
            p: Vec::new(),
            q: Vec::new(),
            merged: 0,
            test: OnceCell::new(),
            inflations,
            shape: OnceCell::new(),
        };
        if layout.truncated() {
            pair.push("(not listed)", of_reference.unseen_mass(), of_window.unseen_mass());
        } else {
            for (category, rows) in of_window.unseen() {
                pair.push(category, 0, rows);
            }
            if of_window.unseen_rest() > 0 {
                pair.push("(other unseen)", 0, of_window.unseen_rest());
                pair.merged = of_window.unseen_categories().saturating_sub(of_window.unseen().len() as u64 + 1);
            }
        }
        (pair.p, pair.q) = (shares(&pair.reference), shares(&pair.window));
        pair
    }

    fn push(&mut self, label: &str, reference: u64, window: u64) {
        self.labels.push(label.to_string());
        self.reference.push(reference);
        self.window.push(window);
    }

    /// Whether every category has an entry of its own.
    fn is_whole(&self) -> bool {
        !self.layout.truncated() && self.of_window.unseen_rest() == 0
    }

    /// Share of the reference in the rest.
    fn rest_reference(&self) -> f64 {
        if self.layout.truncated() { self.p.last().copied().unwrap_or(0.0) } else { 0.0 }
    }

    /// Share of the window in the rest.
    fn rest_window(&self) -> f64 {
        if self.is_whole() { 0.0 } else { self.q.last().copied().unwrap_or(0.0) }
    }

    /// A distance in [0, 1] that is least with the rest in one: with its categories apart it is at most `farther`, of
    /// the distance and half the mass of the rest, which is what two disjoint sides of that mass add.
    fn up_to_apart(&self, distance: f64, farther: impl Fn(f64, f64) -> f64) -> MetricValue {
        let value = match self.both_sided_rest() {
            0.0 => MetricValue::exact(distance),
            rest => MetricValue::within(distance, distance, farther(distance, 0.5 * rest).min(1.0)),
        };
        value.with_p(self.shape_p())
    }

    /// Mass of a rest that both sides have a part of, added up: what is of one side only is as far from the other
    /// however it is spread. 0 where one of them has none.
    fn both_sided_rest(&self) -> f64 {
        let (p, q) = (self.rest_reference(), self.rest_window());
        if p > 0.0 && q > 0.0 { p + q } else { 0.0 }
    }

    /// The test of all categories. Merging categories without reference rows leaves the statistic as it is (each
    /// contributes in proportion to its rows), only the degrees of freedom have to count them.
    fn test(&self) -> Option<ChiSquare> {
        *self.test.get_or_init(|| {
            let test = chi_square::contingency(&self.reference, &self.window)?;
            if self.merged == 0 {
                return Some(test);
            }
            let dof = test.dof.saturating_add(self.merged);
            Some(ChiSquare { dof, p_value: chi_square::survival(test.statistic, dof as f64), ..test })
        })
    }

    /// Whether the shares are the same: what all distances over them ask.
    pub(super) fn shape(&self) -> Option<Homogeneity> {
        *self.shape.get_or_init(|| homogeneity::test(&self.reference, &self.window, true, self.inflations.shape))
    }

    fn shape_p(&self) -> Option<f64> {
        self.shape().map(|test| test.p_value)
    }

    pub(super) fn widest(&self) -> Inflation {
        self.inflations.widest(self.p.len())
    }

    fn yates(&self) -> Option<MetricValue> {
        let test = self.test()?;
        if test.dof > 1 {
            let most = test.statistic + self.hidden_chi_square();
            return Some(MetricValue::within(test.statistic, test.statistic, most).with_p(test.p_value));
        }
        let test = chi_square::contingency_yates(&self.reference, &self.window)?;
        // With a rest the rows may have more than two categories, and no correction.
        self.is_whole().then(|| MetricValue::exact(test.statistic).with_p(test.p_value))
    }

    fn goodness_of_fit(&self) -> Option<MetricValue> {
        let test = chi_square::goodness_of_fit(&self.reference, &self.window)?;
        // A rest without reference rows makes it infinite, listed or not; one with them hides how it is spread.
        (self.rest_reference() == 0.0).then(|| MetricValue::exact(test.statistic).with_p(test.p_value))
    }

    /// A value that is another tool's only where every category is known; undefined where not.
    fn whole(&self, value: f64) -> Option<MetricValue> {
        let value = if self.is_whole() { MetricValue::exact(value) } else { MetricValue::undefined() };
        Some(value.with_p(self.shape_p()))
    }

    /// How much larger chi-square would be if no category of the rest were on both sides.
    fn hidden_chi_square(&self) -> f64 {
        let (p, q) = (self.rest_reference(), self.rest_window());
        let (rows_reference, rows) = (self.n_reference as f64, self.n as f64);
        if p == 0.0 || q == 0.0 {
            return 0.0;
        }
        let column = p * rows_reference + q * rows;
        (rows_reference + rows) * (p + q - (p * p * rows_reference + q * q * rows) / column)
    }

    /// Over shares `p` and `q` whose last entry is the rest, missing values apart.
    ///
    /// The contribution of a category that the reference lacks is convex in its share and 0 at the floor, so that
    /// merged ones contribute at most what one would, and, spread thin, nothing. With a rest on both sides each of
    /// its categories contributes at most the difference of its shares times the logarithm of 1 / floor.
    fn psi(&self, p: &[f64], q: &[f64], floor: f64) -> MetricValue {
        let index = psi::population_stability_index(p, q, floor);
        let (Some(&rest_p), Some(&rest_q)) = (p.last(), q.last()) else { return MetricValue::exact(index) };
        let listed = index - psi::term(rest_p, rest_q, floor);
        if self.is_whole() {
            MetricValue::exact(index)
        } else if self.layout.truncated() {
            MetricValue::within(index, listed, listed + (rest_p + rest_q) * (1.0 / floor).ln())
        } else {
            MetricValue::within(index, listed, index)
        }
    }

    fn psi_missing(&self) -> Option<MetricValue> {
        let (missing_reference, missing) = (self.of_reference.missing(), self.of_window.missing());
        let rows = |shares: &[f64], n: u64, missing: u64| {
            let mut shares = with_missing(shares, n, missing);
            // The rest stays last.
            shares.rotate_right(1);
            shares
        };
        let p = rows(&self.p, self.n_reference, missing_reference);
        let q = rows(&self.q, self.n, missing);
        let with_missing = |counts: &[u64], missing: u64| [counts, &[missing]].concat();
        let reference = with_missing(&self.reference, missing_reference);
        let window = with_missing(&self.window, missing);
        let test = homogeneity::test(&reference, &window, true, self.inflations.shape.or(self.inflations.missing));
        Some(self.psi(&p, &q, SHARE_FLOOR).with_p(test.map(|test| test.p_value)))
    }

    fn largest_difference(&self) -> Option<MetricValue> {
        let listed = self.p.len() - usize::from(!self.is_whole());
        let largest = total_variation::largest_share_difference(&self.p[..listed], &self.q[..listed]);
        let value = total_variation::largest_share_difference(&self.p, &self.q);
        let most = largest.max(self.rest_reference()).max(self.rest_window());
        Some(MetricValue::within(value, largest, most).with_p(self.shape_p()))
    }

    /// Σ q ln(q / p): each category of a rest adds between `-p ln(1 / floor)` and `q ln(1 / floor)`; one without
    /// reference rows between 0 and what it adds as one.
    fn kl_window_by_reference(&self) -> Option<MetricValue> {
        let (p, q) = (self.rest_reference(), self.rest_window());
        let divergence = kullback_leibler::kullback_leibler_divergence(&self.p, &self.q, SHARE_FLOOR);
        let listed = divergence - self.rest_term(kullback_leibler::kullback_leibler_divergence);
        let steepest = (1.0 / SHARE_FLOOR).ln();
        let value = match (self.is_whole(), self.layout.truncated()) {
            (true, _) => MetricValue::exact(divergence),
            (false, true) => MetricValue::within(divergence, listed - p * steepest, listed + q * steepest),
            (false, false) => MetricValue::within(divergence, listed, divergence),
        };
        Some(value.with_p(self.shape_p()))
    }

    /// Σ p ln(p / q): the same with the sides exchanged; a category without reference rows adds
    /// `floor ln(floor / q)`, which is at least `-q / e`.
    fn kl_reference_by_window(&self) -> Option<MetricValue> {
        let (p, q) = (self.rest_reference(), self.rest_window());
        let divergence = kullback_leibler::kullback_leibler_divergence(&self.q, &self.p, SHARE_FLOOR);
        let listed =
            divergence - self.rest_term(|p, q, floor| kullback_leibler::kullback_leibler_divergence(q, p, floor));
        let steepest = (1.0 / SHARE_FLOOR).ln();
        let value = match (self.is_whole(), self.layout.truncated()) {
            (true, _) => MetricValue::exact(divergence),
            (false, true) => MetricValue::within(divergence, listed - q * steepest, listed + p * steepest),
            (false, false) => MetricValue::within(divergence, listed - q / std::f64::consts::E, listed),
        };
        Some(value.with_p(self.shape_p()))
    }

    /// What the last entry adds to a sum over categories.
    fn rest_term(&self, sum: impl Fn(&[f64], &[f64], f64) -> f64) -> f64 {
        let last = self.p.len().saturating_sub(1);
        sum(&self.p[last..], &self.q[last..], SHARE_FLOOR)
    }

    /// The categories with the largest share on either side, then the rest in one.
    pub(super) fn bars(&self) -> Vec<BinShare> {
        let (p, q) = (&self.p, &self.q);
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.sort_by(|&a, &b| p[b].max(q[b]).total_cmp(&p[a].max(q[a])).then(a.cmp(&b)));
        let shown = if order.len() == SHOWN_CATEGORIES + 1 { order.len() } else { SHOWN_CATEGORIES.min(order.len()) };
        let (largest, rest) = order.split_at(shown);
        let bar = |&i: &usize| BinShare { label: self.labels[i].clone(), reference: p[i], window: q[i] };
        let mut bins: Vec<BinShare> = largest.iter().map(bar).collect();
        if !rest.is_empty() {
            let total = |side: &[f64]| rest.iter().map(|&i| side[i]).sum();
            bins.push(BinShare { label: format!("({} others)", rest.len()), reference: total(p), window: total(q) });
        }
        bins
    }
}

/// Probability of at least so many unseen rows under no drift.
///
/// The chance that a new row is of a category the reference lacks is about the share of the reference's rows whose
/// category occurs once (Good 1953, after Turing): under no drift both are rows "not met before". So this compares
/// the two shares, exactly where counts are small. A closed vocabulary has no such rows, and k unseen rows among n
/// have the probability (n / (n + n_reference))^k; a feature of many rare values is allowed as many as it had.
fn unseen_p_value(reference: &CategoricalProfile, n_reference: u64, unseen: u64, n: u64) -> Option<f64> {
    let met_once = reference.counts().iter().filter(|count| **count == 1).count() as u64;
    proportions::upper_tail_p(met_once, n_reference, unseen, n)
}
