trait Shape {
    fn area(&self) -> u64;
}
struct Square {
    name: &'static str,
    side: u64,
}
struct Dot;
impl Shape for Dot {
    fn area(&self) -> u64 {
        9
    }
}
impl Shape for Square {
    fn area(&self) -> u64 {
        self.side.wrapping_mul(self.side)
    }
}

pub struct State {
    picks: Vec<Box<dyn Shape>>,
}

impl State {
    pub fn new() -> State {
        State { picks: vec![Box::new(Dot), Box::new(Dot)] }
    }

    pub fn line(&mut self, _: u64) -> String {
        let areas: Vec<u64> = self.picks.iter().map(|pick| pick.area()).collect();
        if areas != [9, 9] {
            return format!("CORRUPT {areas:?}");
        }
        format!("v=3 {areas:?} {}", Square { name: "s", side: 5 }.area())
    }
}
