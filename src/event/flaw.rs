//! Why an event has no usable value of a feature.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flaw {
    /// The key is not in the event.
    Absent,
    /// The key is there, its value is null.
    Null,
    NotANumber,
    Infinite,
    /// A value of another type than the feature's.
    TypeMismatch,
}

impl Flaw {
    pub const ALL: [Flaw; 5] = [Flaw::Absent, Flaw::Null, Flaw::NotANumber, Flaw::Infinite, Flaw::TypeMismatch];

    /// Place in `ALL`.
    pub fn index(self) -> usize {
        match self {
            Flaw::Absent => 0,
            Flaw::Null => 1,
            Flaw::NotANumber => 2,
            Flaw::Infinite => 3,
            Flaw::TypeMismatch => 4,
        }
    }
}
