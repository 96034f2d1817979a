pub struct Body {
    place: u64,
    speed: i64,
}

pub struct State {
    bodies: Vec<Body>,
}

impl State {
    pub fn new() -> State {
        State { bodies: (0..4).map(|n| Body { place: n * 10, speed: n as i64 - 2 }).collect() }
    }

    pub fn line(&mut self, _: u64) -> String {
        let right = self.bodies.iter().zip(0u64..).all(|(body, n)| body.place == n * 10 && body.speed == n as i64 - 2);
        if !right {
            return "CORRUPT".to_owned();
        }
        "v=2".to_owned()
    }
}
