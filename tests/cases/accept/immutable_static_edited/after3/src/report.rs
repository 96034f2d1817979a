//! Reads the tables; only the last edit is here.

use crate::table::{LIMITS, NAMES, PLAN, SHAPE, Shape};

pub fn line() -> String {
    format!("sum={} names={} plan={} shape={} as edited", sum(), names(), plan(), shape())
}

fn sum() -> u32 {
    LIMITS.iter().sum()
}

fn names() -> String {
    NAMES.join("+")
}

/// Sees a table only through another one, whose source is not edited.
fn plan() -> u32 {
    PLAN.iter().map(|row| row.limits[0] * row.weight).sum()
}

fn shape() -> String {
    match &SHAPE {
        Shape::Dot => "dot".to_owned(),
        Shape::Named(name) => format!("named:{name}"),
    }
}
