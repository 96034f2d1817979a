trait Shape {
    fn area(&self) -> u64;
}
struct Square {
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
        self.side * self.side
    }
}

pub struct State {
    picks: Vec<Box<dyn Shape>>,
}

impl State {
    pub fn new() -> State {
        State { picks: vec![Box::new(Square { side: 3 }), Box::new(Dot)] }
    }

    pub fn line(&mut self, _: u64) -> String {
        let areas: Vec<u64> = self.picks.iter().map(|pick| pick.area()).collect();
        if areas != [9, 9] {
            return format!("CORRUPT {areas:?}");
        }
        format!("v=1 {areas:?} {}", Square { side: 5 }.area())
    }
}
