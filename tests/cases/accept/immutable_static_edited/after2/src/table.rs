pub struct Row {
    pub limits: &'static [u32; 4],
    pub weight: u32,
}

pub enum Shape {
    #[allow(dead_code)]
    Dot,
    #[allow(dead_code)]
    Named(&'static str),
}

pub static LIMITS: [u32; 4] = [9, 9, 9, 9];
pub static NAMES: [&str; 3] = ["juice", "ice", "straw"];
pub static ROW: Row = Row { limits: &LIMITS, weight: 10 };
pub static PLAN: [&Row; 1] = [&ROW];
pub static SHAPE: Shape = Shape::Named("flat");
