//! Pure: which objects are there, as a watch has shown them?

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::Hash;

/// The objects that a watch has shown. A watch that begins anew shows all there are; what it does not show is gone then.
#[derive(Debug)]
pub struct Mirror<K, V> {
    objects: HashMap<K, V>,
    /// What the present list has shown, while one is under way.
    listed: Option<HashSet<K>>,
    is_complete: bool,
}

impl<K, V> Default for Mirror<K, V> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listed: None, is_complete: false }
    }
}

impl<K: Clone + Eq + Hash, V> Mirror<K, V> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// The list is complete; returns what is gone.
    pub fn complete(&mut self) -> Vec<V> {
        self.is_complete = true;
        let Some(listed) = self.listed.take() else { return Vec::new() };
        self.objects.extract_if(|key, _| !listed.contains(key)).map(|(_, gone)| gone).collect()
    }

    /// Whether a list was ever complete: before, an object that is not known may well be there.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether a list is under way: what is known may be as old as the last one.
    pub fn is_listing(&self) -> bool {
        self.listed.is_some()
    }

    /// The object is there.
    pub fn put(&mut self, key: K, object: V) {
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        self.objects.insert(key, object);
    }

    /// The object is gone, or of no more interest.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.objects.remove(key)
    }

    /// The object of that key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.objects.get(key)
    }

    /// All objects, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.objects.values()
    }

    /// All objects, in no order, to be changed in their place.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.objects.values_mut()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_list_does_not_show_is_gone_when_it_is_complete_and_not_before() {
        let mut mirror = Mirror::default();
        assert!(!mirror.is_complete());
        mirror.begin();
        mirror.put("a", 1);
        mirror.put("b", 1);
        assert_eq!(mirror.complete(), Vec::<i32>::new());
        assert!(mirror.is_complete());
        mirror.begin();
        mirror.put("b", 2);
        mirror.put("c", 2);
        assert!(mirror.is_listing());
        assert_eq!(mirror.get("a"), Some(&1));
        assert_eq!(mirror.complete(), [1]);
        assert_eq!((mirror.get("a"), mirror.get("b"), mirror.len()), (None, Some(&2), 2));
        assert_eq!(mirror.remove("b"), Some(2));
        assert_eq!(mirror.values().collect::<Vec<_>>(), [&2]);
    }
}
