trait Shape {
    fn area(&self) -> u64;

    fn name(&self) -> String {
        format!("form{}", self.area())
    }
}

struct Square(u64);

impl Shape for Square {
    fn area(&self) -> u64 {
        self.0 * self.0
    }
}

struct Strip(u64);

impl Shape for Strip {
    fn area(&self) -> u64 {
        self.0
    }
}

pub struct World {
    shapes: Vec<Box<dyn Shape>>,
}

impl World {
    pub fn new() -> World {
        World { shapes: vec![Box::new(Square(2)), Box::new(Strip(3))] }
    }

    pub fn text(&mut self) -> String {
        let names: Vec<_> = self.shapes.iter().map(|shape| shape.name()).collect();
        format!("names={}", names.join("+"))
    }
}
