trait Animal {
    fn says(&self) -> String;
}

struct Dog {
    word: u64,
}

impl Animal for Dog {
    fn says(&self) -> String {
        if self.word == 7 { "seven".to_string() } else { "CORRUPT".to_string() }
    }
}

pub struct World {
    count: u64,
    animal: Box<dyn Animal>,
}

impl World {
    pub fn new() -> World {
        World { count: 0, animal: Box::new(Dog { word: 7 }) }
    }

    pub fn tick(&mut self) {
        self.count += 1;
        println!("count={} says={}", self.count, self.animal.says());
    }
}
