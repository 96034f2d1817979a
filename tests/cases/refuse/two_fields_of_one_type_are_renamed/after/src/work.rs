pub struct Body {
    position: u64,
    speed: u64,
}

pub struct State {
    bodies: Vec<Body>,
}

impl State {
    pub fn new() -> State {
        State { bodies: (0..4).map(|n| Body { position: n * 10, speed: n + 5 }).collect() }
    }

    pub fn line(&mut self, _: u64) -> String {
        let right = self.bodies.iter().zip(0u64..).all(|(body, n)| body.position == n * 10 && body.speed == n + 5);
        if !right {
            return "CORRUPT".to_owned();
        }
        "v=2".to_owned()
    }
}
