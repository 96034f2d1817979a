trait Animal {
    fn says(&self) -> u64;
}

struct Dog {
    word: u64,
}

impl Animal for Dog {
    fn says(&self) -> u64 {
        self.word
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
