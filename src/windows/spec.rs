//! Windows by size and distance, and the panes that they are put together from.

use super::result::Window;

/// Windows of one size at one distance; a multiple of `slide_ms` starts a window. Tumbling where both are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowSpec {
    pub size_ms: i64,
    pub slide_ms: i64,
}

impl WindowSpec {
    pub fn tumbling(size_ms: i64) -> Self {
        Self { size_ms, slide_ms: size_ms }
    }

    /// Windows that cover all of [start, end).
    pub(super) fn covering(self, pane: Window) -> impl Iterator<Item = Window> {
        let last_start = pane.start_ms.div_euclid(self.slide_ms) * self.slide_ms;
        let count = self.size_ms / self.slide_ms;
        (0..count).map(move |step| last_start - step * self.slide_ms).filter_map(move |start_ms| {
            let window = Window { start_ms, end_ms: start_ms + self.size_ms };
            (window.end_ms >= pane.end_ms).then_some(window)
        })
    }

    /// Whether this is one of its windows.
    pub(super) fn starts(self, window: Window) -> bool {
        window.end_ms - window.start_ms == self.size_ms && window.start_ms.rem_euclid(self.slide_ms.max(1)) == 0
    }

    /// End of the last window that covers what starts here.
    pub(super) fn last_end_ms(self, start_ms: i64) -> i64 {
        start_ms.div_euclid(self.slide_ms) * self.slide_ms + self.size_ms
    }

    pub(super) fn boundary_passed(self, before_ms: Option<i64>, after_ms: i64) -> bool {
        before_ms.is_none_or(|before| before.div_euclid(self.slide_ms) < after_ms.div_euclid(self.slide_ms))
    }
}

/// Width of the panes from which windows of all these specs can be put together: the greatest common divisor.
pub fn pane_width_ms(specs: &[WindowSpec]) -> i64 {
    fn gcd(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    specs.iter().fold(0, |width, spec| gcd(gcd(width, spec.size_ms), spec.slide_ms)).max(1)
}
