//! Values under small numbers that are used again: what the entries of the table point to.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// No value.
pub const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(value);
                index
            }
            None => {
                self.slots.push(Some(value));
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// `None` for `NONE`, and for what was removed.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gives equal values one number for as long as somebody holds it.
#[derive(Debug)]
pub struct Interner<K> {
    numbers: HashMap<Arc<K>, u32>,
    held: Slab<(Arc<K>, usize)>,
}

impl<K> Default for Interner<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), held: Slab::default() }
    }
}

impl<K: Hash + Eq> Interner<K> {
    /// The number of an equal value that is held, or a new one; one holder more.
    pub fn acquire(&mut self, value: K) -> u32 {
        if let Some(number) = self.numbers.get(&value).copied() {
            self.hold(number);
            return number;
        }
        let value = Arc::new(value);
        let number = self.held.insert((value.clone(), 1));
        self.numbers.insert(value, number);
        number
    }

    /// One holder more.
    pub fn hold(&mut self, number: u32) {
        if let Some((_, holders)) = self.held.get_mut(number) {
            *holders += 1;
        }
    }

    pub fn get(&self, number: u32) -> Option<&Arc<K>> {
        self.held.get(number).map(|(value, _)| value)
    }

    /// One holder less; the value, if that was the last.
    pub fn release(&mut self, number: u32) -> Option<Arc<K>> {
        let (_, holders) = self.held.get_mut(number)?;
        *holders -= 1;
        if *holders > 0 {
            return None;
        }
        let (value, _) = self.held.remove(number)?;
        self.numbers.remove(&value);
        Some(value)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lives_as_long_as_it_is_held() {
        let mut interner = Interner::default();
        let first = interner.acquire("a".to_string());
        assert_eq!(interner.acquire("a".to_string()), first);
        let second = interner.acquire("b".to_string());
        assert_ne!(first, second);
        assert_eq!(interner.release(first), None);
        assert_eq!(interner.release(first).as_deref(), Some(&"a".to_string()));
        assert_eq!((interner.get(first), interner.len()), (None, 1));
        assert_eq!(interner.acquire("c".to_string()), first, "the number is used again");
        assert_eq!(interner.get(second).map(|value| value.as_str()), Some("b"));
    }
}
