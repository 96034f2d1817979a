use std::any::Any;
use std::collections::VecDeque;

struct Token(u64);

/// Holds tokens behind `dyn Any`, and lets the oldest go.
pub struct World {
    tokens: VecDeque<Box<dyn Any>>,
}

impl World {
    pub fn new() -> World {
        World { tokens: (0..1000).map(|at| Box::new(Token(at)) as Box<dyn Any>).collect() }
    }

    pub fn text(&mut self) -> String {
        let oldest = self.tokens.pop_front();
        let known = oldest.as_ref().and_then(|token| token.downcast_ref::<Token>()).map(|token| token.0 < 1000);
        format!("known={} by=before", known == Some(true))
    }
}
