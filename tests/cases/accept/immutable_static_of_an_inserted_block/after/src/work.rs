pub struct World;

impl World {
    pub fn new() -> World {
        World
    }

    pub fn text(&mut self) -> String {
        let mut out = String::new();
        {
            static NAMES: [&str; 2] = ["first", "and"];
            out += &NAMES.join("+");
        }
        {
            static NAMES: [&str; 2] = ["second", "last"];
            out += &NAMES.join("+");
        }
        out
    }
}
