trait Shape: Sync {
    fn area(&self) -> u64;
}
struct Square {
    name: &'static str,
    side: u64,
}
impl Shape for Square {
    fn area(&self) -> u64 {
        self.side.wrapping_mul(self.side)
    }
}
const SHAPES: [&dyn Shape; 2] = [&Square { name: "s", side: 3 }, &Square { name: "s", side: 4 }];

pub struct State {
    picks: Vec<&'static dyn Shape>,
}

impl State {
    pub fn new() -> State {
        State { picks: SHAPES.to_vec() }
    }

    pub fn line(&mut self, _: u64) -> String {
        let areas: Vec<u64> = self.picks.iter().map(|pick| pick.area()).collect();
        if areas != [9, 16] {
            return format!("CORRUPT {areas:?}");
        }
        format!("v=2 {areas:?}")
    }
}
