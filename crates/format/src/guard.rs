//! A value that is dropped together with a decoded node.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Keeps a value, such as a memory charge, as long as a node or one of its clones exists.
/// It is not part of the node's content: any two guards are equal.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<dyn Any + Send + Sync>>);

impl Guard {
    /// Wraps `value`.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Guard(Some(Arc::new(value)))
    }

    /// Returns the value if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl PartialEq for Guard {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Guard {}
