trait Shape {
    fn area(&self) -> u64;
}

struct Square(u64);

impl Shape for Square {
    fn area(&self) -> u64 {
        self.0 * self.0
    }
}

pub struct World {
    shapes: Vec<Box<dyn Shape>>,
}

impl World {
    pub fn new() -> World {
        World { shapes: vec![Box::new(Square(2)), Box::new(Square(3))] }
    }

    pub fn text(&mut self) -> String {
        let area: u64 = self.shapes.iter().map(|shape| shape.area()).sum();
        format!("area={area} by=before")
    }
}
