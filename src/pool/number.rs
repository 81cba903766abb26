//! A server that is only a number in the books: for what is counted and tested of them.

use std::sync::Arc;

use super::rack::Pooled;
use crate::server::switch::Fit;
use crate::server::{Known, Life, Target};

pub(super) struct Number {
    pub(super) known: Known,
    pub(super) life: Life,
}

impl Pooled for Number {
    fn fit(&self, target: &Arc<Target>) -> Fit {
        self.known.fit(target)
    }

    fn has_served(&self, _: &Target) -> bool {
        false
    }

    fn is_here(&self) -> bool {
        true
    }

    fn served(&self) -> usize {
        0
    }

    fn close(self) {}

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }
}
