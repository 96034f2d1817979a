mod pace;
mod work;

fn main() {
    let mut world = work::World::new();
    while pace::tick() {
        world.tick();
    }
}
