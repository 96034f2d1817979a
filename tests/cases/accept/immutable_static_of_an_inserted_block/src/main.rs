mod pace;
mod work;

fn main() {
    let mut world = work::World::new();
    let mut count = 0;
    while pace::tick() {
        count += 1;
        println!("count={count} {}", world.text());
    }
}
